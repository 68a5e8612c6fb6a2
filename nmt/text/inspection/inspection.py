"""Everything together: sets of pairs in, what is wrong with them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nmt.text.inspection.evidence import ENOUGH, Evidence, gather_evidence
from nmt.text.inspection.findings import Found
from nmt.text.inspection.gathering import Gathered, Numbers, Row, gather
from nmt.text.inspection.languages import Languages, usual_languages
from nmt.text.inspection.lengths import Lengths, usual_lengths
from nmt.text.inspection.repeats import duplicates, overlaps
from nmt.text.inspection.stretches import Stretch, stretches

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PairSet:
    """A set to inspect: its name (of two files, the source's), and how its lines are read, each time it is called."""

    name: str
    rows: Callable[[], Iterable[Row]]


@dataclass(frozen=True)
class Inspected:
    """A set's size and what was found in it."""

    name: str
    source_lines: int
    target_lines: int
    found: Found
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Usual:
    """What is usual in the first set, by which all are judged."""

    languages: Languages
    lengths: Lengths
    evidence: Evidence | None
    script_names: Sequence[str]


def inspect(sets: Sequence[PairSet], *, show: int) -> list[Inspected]:
    """What is wrong with each set. The first, the training set, says what is usual, and the others may not repeat it.

    `show`: findings of a kind that are put into words, in each set; all are counted.
    """
    numbers = Numbers()
    gathered = [gather(each.rows(), numbers) for each in sets]
    first = gathered[0]
    lengths = usual_lengths(first)
    evidence = gather_evidence(first, lengths, len(numbers))
    usual = _Usual(usual_languages(first, len(numbers)), lengths, evidence, numbers.script_names())
    results = []
    for each, pairs in zip(sets, gathered, strict=True):
        found = _judged(pairs, usual, show, own=pairs is first)
        if pairs is not first:
            line_there = first.lines
            spans = (
                (row, f"its {what} is line {line_there[there]} of {sets[0].name}")
                for row, there, what in overlaps(pairs, first)
            )
            found.add("overlap", ((line, line, problem) for line, problem in _numbered(pairs, spans)))
        notes = () if evidence else (f"fewer than {ENOUGH} pairs in {sets[0].name}: shifts were not looked for",)
        results.append(Inspected(each.name, len(pairs.source), len(pairs.target), found, notes))
    return results


def _judged(pairs: Gathered, usual: _Usual, show: int, *, own: bool) -> Found:
    """What is wrong with a set, other sets aside."""
    found = Found(show)
    _count_sides(pairs, found)
    by_row = {kind: list(rows) for kind, rows in pairs.found.items()}
    empty = {row for row, _ in by_row.get("empty", [])}
    copies = np.array([row for row, _ in by_row.get("copied", [])], np.int64)
    swapped = np.setdiff1d(usual.languages.swapped(pairs, own=own), copies)
    apart = empty | set(swapped.tolist())
    by_row["script"] = [(row, problem) for row, problem in _scripts(pairs, usual) if row not in apart]
    apart.update(row for row, _ in by_row["script"])
    moved = _moved(pairs, usual, np.array(sorted({*apart, *copies.tolist()}), np.int64))
    strangers = {row for stretch in moved for row in range(stretch.first, stretch.last + 1)}
    rows, factors = usual.lengths.outliers(pairs)
    by_row["length"] = [
        (row, f"the target is {factor:.2g} times as long as usual for its source")
        for row, factor in zip(rows.tolist(), factors.tolist(), strict=True)
        if row not in empty and row not in strangers
    ]
    by_row["duplicate"] = [(row, f"the same pair as line {pairs.lines[before]}") for row, before in duplicates(pairs)]
    for kind, problems in by_row.items():
        found.add(kind, ((line, line, problem) for line, problem in _numbered(pairs, problems)))
    found.add("swapped", _joined(pairs, swapped))
    _add_stretches(pairs, moved, found)
    return found


def _moved(pairs: Gathered, usual: _Usual, explained: Rows) -> list[Stretch]:
    """The stretches that are not aligned line by line, where enough is known to tell."""
    return list(stretches(pairs, usual.evidence, explained)) if usual.evidence else []


def _count_sides(pairs: Gathered, found: Found) -> None:
    source, target = len(pairs.source), len(pairs.target)
    if source != target:
        problem = f"the source has {source:,} lines, the target {target:,}"
        found.add("unequal", [(int(pairs.lines[len(pairs)]), int(pairs.lines[-1]), problem)])


def _scripts(pairs: Gathered, usual: _Usual) -> Iterable[tuple[int, str]]:
    """The rows with a side in a script that doesn't belong there."""
    seen: dict[int, str] = {}
    for side, name, which in ((pairs.source, "source", 0), (pairs.target, "target", 1)):
        for row in usual.languages.wrong_scripts(side, which).tolist():
            if row < len(pairs):
                script = usual.script_names[side.scripts[row]]
                seen.setdefault(row, f"the {name} is in {script} letters")
    return sorted(seen.items())


def _add_stretches(pairs: Gathered, all_stretches: Sequence[Stretch], found: Found) -> None:
    shifted, misaligned = [], []
    for stretch in all_stretches:
        first, last = int(pairs.lines[stretch.first]), int(pairs.lines[stretch.last])
        if stretch.offset is None:
            misaligned.append(
                (first, last, f"{last - first + 1} lines translate neither each other nor their neighbours")
            )
        else:
            amount = abs(stretch.offset)
            where = "down" if stretch.offset > 0 else "up"
            shifted.append(
                (
                    first,
                    last,
                    f"their translations stand {amount} line{'s'[: amount - 1]} further {where} in the target",
                )
            )
    found.add("shifted", shifted)
    found.add("misaligned", misaligned)


def _joined(pairs: Gathered, rows: Rows) -> Iterable[tuple[int, int, str]]:
    """Swapped rows, neighbours together."""
    for part in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(rows) else []:
        yield int(pairs.lines[part[0]]), int(pairs.lines[part[-1]]), "source and target are in each other's place"


def _numbered(pairs: Gathered, problems: Iterable[tuple[int, str]]) -> Iterable[tuple[int, str]]:
    return ((int(pairs.lines[row]), problem) for row, problem in problems)
