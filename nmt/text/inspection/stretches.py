"""From which line to which one side is shifted against the other, or belongs to nothing opposite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from nmt.text.inspection.evidence import FAR, Evidence
from nmt.text.inspection.gathering import Gathered

Rows = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

NEAR = 8
"""Offsets that are tried in every place that looks wrong."""
WINDOW = 8
"""Lines that together look wrong or right."""
AROUND = 48
"""Lines about a wrong place that are looked at with it."""
SWITCH = 10.0
"""Nats that it takes to believe in another offset: one change in 22,000 lines."""
SHORTEST = 3
"""Lines below which a stretch is chance."""
STEP = 1024
"""Source lines for which offsets are tried together."""
SURE = 12.0
"""Nats within a window that make an offset worth following."""


@dataclass(frozen=True)
class Stretch:
    """Source rows `first` to `last` whose translations stand `offset` rows further, or nowhere (None)."""

    first: int
    last: int
    offset: int | None


def stretches(pairs: Gathered, evidence: Evidence, explained: Rows) -> Iterator[Stretch]:
    """The stretches of a set that are not aligned line by line; rows with another fault (`explained`) say nothing."""
    count = len(pairs.source)
    silent = np.zeros(count, bool)
    silent[explained] = True
    straight = np.where(silent, 0.0, evidence.at(pairs, np.arange(count), 0))
    for begin, end in _suspicious(straight):
        rows = np.arange(begin, end)
        offsets = [0, *_offsets(pairs, evidence, rows)]
        emissions = np.zeros((len(rows), len(offsets) + 1))
        emissions[:, 0] = straight[rows]
        for index, offset in enumerate(offsets[1:], 1):
            emissions[:, index] = np.where(silent[rows], 0.0, evidence.at(pairs, rows, offset))
        yield from _runs(_best_path(emissions), begin, [*offsets, None])


def _suspicious(straight: Values) -> Iterator[tuple[int, int]]:
    """Where the lines of a window together are no pairs, with some lines about it."""
    sums = (
        np.convolve(straight, np.ones(WINDOW), "same")
        if len(straight) >= WINDOW
        else np.full(len(straight), straight.sum())
    )
    wrong = np.flatnonzero(sums < 0.0)
    begin = end = -1
    for place in wrong.tolist():
        if begin < 0 or place - AROUND > end:
            if begin >= 0:
                yield begin, end
            begin = max(0, place - AROUND)
        end = min(len(straight), place + AROUND + 1)
    if begin >= 0:
        yield begin, end


def _offsets(pairs: Gathered, evidence: Evidence, rows: Rows) -> list[int]:
    """The offsets at which some window of these rows has its translations."""
    found: set[int] = set()
    for start in range(0, len(rows), STEP):
        part = rows[start : start + STEP]
        probe = part[len(part) // 2 :][: 2 * AROUND] if len(part) == STEP else part
        near = set(range(-NEAR, NEAR + 1)) | {known + step for known in found for step in (-2, -1, 1, 2)}
        hits = _followed(pairs, evidence, part, near - {0} - found)
        if not hits and not found:
            far = set(range(-FAR, FAR + 1)) - near
            hits = _followed(pairs, evidence, probe, far)
        found |= hits
    return sorted(found, key=abs)


def _followed(pairs: Gathered, evidence: Evidence, rows: Rows, offsets: set[int]) -> set[int]:
    """Those of the offsets at which a window of these rows has its translations."""
    window = np.ones(WINDOW)
    return {
        offset
        for offset in offsets
        if np.convolve(evidence.at(pairs, rows, offset), window, "same").max(initial=0.0) > SURE
    }


def _best_path(emissions: Values) -> Rows:
    """The most likely state of each row (Viterbi 1967), where changing states costs SWITCH and 0 is where to begin."""
    count, states = emissions.shape
    came_from_best = np.zeros((count, states), bool)
    best_before = np.zeros(count, np.int64)
    totals = emissions[0] - SWITCH * (np.arange(states) > 0)
    for row in range(1, count):
        best = int(totals.argmax())
        moved = totals[best] - SWITCH
        changes = moved > totals
        came_from_best[row], best_before[row] = changes, best
        totals = np.where(changes, moved, totals) + emissions[row]
    path = np.zeros(count, np.int64)
    path[-1] = totals.argmax()
    for row in range(count - 1, 0, -1):
        path[row - 1] = best_before[row] if came_from_best[row, path[row]] else path[row]
    return path


def _runs(path: Rows, begin: int, offsets: Sequence[int | None]) -> Iterator[Stretch]:
    """The stretches of a path, without those that are straight or too short."""
    bounds = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    for first, last in pairwise(bounds):
        if path[first] != 0 and last - first >= SHORTEST:
            yield Stretch(begin + first, begin + last - 1, offsets[path[first]])
