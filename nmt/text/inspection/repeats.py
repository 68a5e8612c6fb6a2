"""Pairs that a set has twice, and those that two sets share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nmt.text.inspection.gathering import Gathered

Keys = npt.NDArray[np.int64]
ONE_SIDED = 4
"""Words of a sentence that can't be in two sets by chance alone."""


def duplicates(pairs: Gathered) -> Iterator[tuple[int, int]]:
    """Each row that repeats an earlier pair, and the first such row; pairs with an empty side aside."""
    order = np.argsort(pairs.pairs, kind="stable")
    keys = pairs.pairs[order]
    new = np.concatenate([[True], keys[1:] != keys[:-1]]) if len(keys) else np.zeros(0, bool)
    firsts = order[np.maximum.accumulate(np.where(new, np.arange(len(keys)), 0))] if len(keys) else order
    filled = (pairs.source.lengths[: len(pairs)] > 0) & (pairs.target.lengths[: len(pairs)] > 0)
    repeated = np.flatnonzero(~new)
    for place in repeated[np.argsort(order[repeated])]:
        if filled[order[place]]:
            yield int(order[place]), int(firsts[place])


def overlaps(pairs: Gathered, others: Gathered) -> Iterator[tuple[int, int, str]]:
    """Each row of `pairs` that `others` has too, the row there, and what they share: the pair, the source, the target.

    Case, punctuation and spaces are left out; one side alone counts from four words on.
    """
    count = len(pairs)
    both = _first(_joined(pairs), _joined(others))
    sides = []
    for own, other in ((pairs.source, others.source), (pairs.target, others.target)):
        keys = np.where(np.diff(own.offsets)[:count] >= ONE_SIDED, own.keys[:count], 0)
        sides.append(_first(keys, other.keys[: len(others)]))
    for row in np.flatnonzero((both >= 0) | (sides[0] >= 0) | (sides[1] >= 0)):
        for where, what in ((both, "pair"), (sides[0], "source"), (sides[1], "target")):
            if where[row] >= 0:
                yield int(row), int(where[row]), what
                break


def _joined(pairs: Gathered) -> Keys:
    """A key for both sides together; 0 where one has no words."""
    source, target = pairs.source.keys[: len(pairs)], pairs.target.keys[: len(pairs)]
    return np.where((source != 0) & (target != 0), source * 31 + target, 0)


def _first(keys: Keys, among: Keys) -> Keys:
    """Where each key stands first among others; -1 for nowhere and for the key 0."""
    order = np.argsort(among, kind="stable")
    places = np.searchsorted(among, keys, sorter=order)
    found = np.minimum(places, max(len(among) - 1, 0))
    same = (among[order[found]] == keys) if len(among) else np.zeros(len(keys), bool)
    return np.where(same & (keys != 0), order[found] if len(among) else -1, -1)
