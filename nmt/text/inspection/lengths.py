"""How long translations are: what belongs together is long or short together (Gale and Church 1993)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nmt.text.inspection.gathering import Gathered, Side

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

SOFT = 4.0
"""Characters added to both lengths: one word more is much in a short sentence, and says little."""
BUCKETS = 12
UNUSUAL = 5.0
"""Robust standard deviations from which on a ratio is an outlier ..."""
MIN_FACTOR = 2.0
"""... if it is also this many times the usual one."""
MIN_LENGTH = 20
"""Characters of the longer side from which on a ratio says anything."""


@dataclass(frozen=True)
class Lengths:
    """What is usual of a set's lengths."""

    mean: tuple[float, float]
    deviation: tuple[float, float]
    """Of the logarithms of both sides' lengths."""
    edges: Values
    """Mean log lengths that part pairs into buckets."""
    middle: Values
    spread: Values
    """For each bucket the median of log(target / source), and 1.48 times the median deviation from it."""

    def standard(self, side: Side, which: int) -> Values:
        """``[N]``: log lengths as deviations from the mean, 0 for empty lines."""
        values = (_logs(side) - self.mean[which]) / self.deviation[which]
        return np.where(side.lengths > 0, np.clip(values, -3.0, 3.0), 0.0)

    def outliers(self, pairs: Gathered) -> tuple[Rows, Values]:
        """The rows whose sides are too unlike, and how many times the usual ratio theirs is (below 1: too short)."""
        source, target = _logs(pairs.source)[: len(pairs)], _logs(pairs.target)[: len(pairs)]
        bucket = np.searchsorted(self.edges, (source + target) / 2)
        distance = target - source - self.middle[bucket]
        longest = np.maximum(pairs.source.lengths[: len(pairs)], pairs.target.lengths[: len(pairs)])
        odd = np.abs(distance) > np.maximum(UNUSUAL * self.spread[bucket], np.log(MIN_FACTOR))
        rows = np.flatnonzero(odd & (longest >= MIN_LENGTH))
        return rows, np.exp(distance[rows])


def usual_lengths(pairs: Gathered) -> Lengths:
    """What is usual in a set."""
    sides = [_logs(side)[side.lengths > 0] for side in (pairs.source, pairs.target)]
    source, target = _logs(pairs.source)[: len(pairs)], _logs(pairs.target)[: len(pairs)]
    sizes, ratios = (source + target) / 2, target - source
    count = max(1, min(BUCKETS, len(sizes) // 50))
    edges = np.quantile(sizes, np.arange(1, count) / count) if len(sizes) else np.zeros(0)
    bucket = np.searchsorted(edges, sizes)
    parts = [ratios[bucket == index] for index in range(count)]
    middle = np.array([np.median(part) if len(part) else 0.0 for part in parts])
    spread = [
        np.median(np.abs(part - centre)) if len(part) else 1.0 for part, centre in zip(parts, middle, strict=True)
    ]
    return Lengths(
        mean=(_mean(sides[0]), _mean(sides[1])),
        deviation=(_deviation(sides[0]), _deviation(sides[1])),
        edges=edges,
        middle=middle,
        spread=1.4826 * np.array(spread),
    )


def _logs(side: Side) -> Values:
    logs: Values = np.log(side.lengths + SOFT)
    return logs


def _mean(values: Values) -> float:
    return float(values.mean()) if len(values) else 0.0


def _deviation(values: Values) -> float:
    return max(float(values.std()), 0.05) if len(values) else 1.0
