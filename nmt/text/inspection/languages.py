"""Which side a line's words belong on, by where the words of a corpus usually stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nmt.text.inspection.gathering import Gathered, Side

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

SMOOTHING = 0.5
MOST = 4.0
"""What one word may say at most, in nats."""
FOREIGN = -4.0
"""Nats of both sides together from which on they are in each other's place, where neither side says otherwise."""
RARE_SCRIPT = 0.1
"""Share of a side's lines below which a script doesn't belong there."""


@dataclass(frozen=True)
class Languages:
    """How often each word and script stands on each side of a set."""

    words: tuple[Values, Values]
    scripts: tuple[Values, Values]

    def belonging(self, side: Side, which: int, *, own: bool) -> Values:
        """``[N]``: by how many nats a line's words are more usual on its own side than on the other.

        `own`: the set itself was counted; then a line doesn't vouch for itself.
        """
        here, there = self.words[which], self.words[1 - which]
        totals = [max(float(counts.sum()), 1.0) for counts in (here, there)]
        ids = np.maximum(side.words, 0)
        counted = np.where(side.words < 0, 0.0, here[ids]), np.where(side.words < 0, 0.0, there[ids])
        alone = np.log((np.maximum(counted[0] - own, 0.0) + SMOOTHING) / (counted[1] + SMOOTHING))
        gains = np.clip(alone - np.log(totals[0] / totals[1]), -MOST, MOST)
        gains[side.words < 0] = 0.0
        sums = np.concatenate([[0.0], np.cumsum(gains)])
        nats: Values = sums[side.offsets[1:]] - sums[side.offsets[:-1]]
        return nats

    def swapped(self, pairs: Gathered, *, own: bool) -> Rows:
        """The rows whose sides are each other's."""
        source = self.belonging(pairs.source, 0, own=own)[: len(pairs)]
        target = self.belonging(pairs.target, 1, own=own)[: len(pairs)]
        return np.flatnonzero((source + target < FOREIGN) & (np.maximum(source, target) < 0.0))

    def wrong_scripts(self, side: Side, which: int) -> Rows:
        """The rows that are written in a script that is rare on their side."""
        counts = self.scripts[which]
        rare = counts < RARE_SCRIPT * max(counts.sum(), 1.0)
        rare[0] = False
        return np.flatnonzero(rare[side.scripts])


def usual_languages(pairs: Gathered, vocabulary: int) -> Languages:
    """What is usual in a set."""
    words, scripts = [], []
    for side in (pairs.source, pairs.target):
        words.append(np.bincount(side.words[side.words >= 0], minlength=vocabulary).astype(np.float64))
        counts = np.bincount(side.scripts, minlength=128).astype(np.float64)
        counts[0] = 0.0
        scripts.append(counts)
    return Languages((words[0], words[1]), (scripts[0], scripts[1]))
