"""How likely a source and a target line belong together, learnt from a set in which most do, at some offset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nmt.text.inspection.gathering import Gathered
from nmt.text.inspection.lengths import Lengths
from nmt.text.inspection.lexicon import Lexicon, learn

Rows = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

BLOCK = 256
"""Lines whose lengths tell how far one side is shifted against the other."""
FAR = 50
"""Lines by which a side can be shifted and still be found."""
BETTER = 0.25
"""By how much the lengths of a block must correlate better at another offset than without one."""
ENOUGH = 200
"""Pairs below which nothing is learnt."""
SAMPLE = 20_000
"""Pairs from which scores are calibrated."""
STEPS = 40
CERTAIN = 4.0
"""Nats that one pair may give at most: no single line decides about a stretch."""


@dataclass(frozen=True)
class Evidence:
    """Log-likelihood ratios of "these lines translate each other" to "they are strangers", in nats."""

    lengths: Lengths
    lexicon: Lexicon
    correlation: float
    """Of the two sides' log lengths."""
    edges: Values
    values: Values
    """What a score between two edges means in nats."""

    def at(self, pairs: Gathered, rows: Rows, offset: int | Rows) -> Values:
        """``[N]``: for source rows and the target rows `offset` lines further on; 0 where one is empty or not there."""
        others = rows + offset
        there = (others >= 0) & (others < len(pairs.target))
        nats = np.zeros(len(rows))
        raw = self._raw(pairs, rows[there], others[there])
        full = (pairs.source.lengths[rows[there]] > 0) & (pairs.target.lengths[others[there]] > 0)
        nats[there] = np.where(full, self.values[np.searchsorted(self.edges, raw)], 0.0)
        return nats

    def _raw(self, pairs: Gathered, source_rows: Rows, target_rows: Rows) -> Values:
        source = self.lengths.standard(pairs.source, 0)[source_rows]
        target = self.lengths.standard(pairs.target, 1)[target_rows]
        lexical = self.lexicon.scores(pairs.source, pairs.target, source_rows, target_rows)
        return lexical + _from_lengths(source, target, self.correlation)


def gather_evidence(pairs: Gathered, lengths: Lengths, vocabulary: int) -> Evidence | None:
    """What a set tells about itself; None where it is too small."""
    if len(pairs) < ENOUGH:
        return None
    offsets, correlation = _block_offsets(pairs, lengths)
    rows = np.arange(len(pairs))
    others = rows + np.repeat(offsets, BLOCK)[: len(pairs)]
    inside = (others >= 0) & (others < len(pairs.target)) & (pairs.source.lengths[rows] > 0)
    rows, others = rows[inside], others[inside]
    lexicon = learn(pairs.source, pairs.target, rows, others, vocabulary)
    bare = Evidence(lengths, lexicon, correlation, np.zeros(0), np.zeros(1))
    chosen = np.arange(0, len(rows), max(1, len(rows) // SAMPLE))
    # Strangers: the lines of another place, far from those that a shift could bring together.
    strangers = (chosen + len(rows) // 3 + 2 * FAR) % len(rows)
    together = bare._raw(pairs, rows[chosen], others[chosen])
    apart = bare._raw(pairs, rows[chosen], others[strangers])
    edges, values = _calibrated(together, apart)
    return Evidence(lengths, lexicon, correlation, edges, values)


def _calibrated(together: Values, apart: Values) -> tuple[Values, Values]:
    """Steps of a score, and what each means in nats: more the higher the score."""
    edges = np.unique(np.quantile(np.concatenate([together, apart]), np.arange(1, STEPS) / STEPS))
    counts = [np.bincount(np.searchsorted(edges, scores), minlength=len(edges) + 1) for scores in (together, apart)]
    nats = np.log((counts[0] + 0.5) / (counts[1] + 0.5))
    return edges, np.clip(np.maximum.accumulate(nats), -CERTAIN, CERTAIN)


def _from_lengths(source: Values, target: Values, correlation: float) -> Values:
    """The log-likelihood ratio of two standard normal lengths with a correlation to the same without."""
    square = correlation**2
    bend = (square * (source**2 + target**2) - 2 * correlation * source * target) / (2 * (1 - square))
    nats: Values = -0.5 * np.log(1 - square) - bend
    return nats


def _block_offsets(pairs: Gathered, lengths: Lengths) -> tuple[Rows, float]:
    """For each block of source lines how many lines further its translations stand, and how lengths correlate there."""
    source = lengths.standard(pairs.source, 0)[: len(pairs)]
    target = lengths.standard(pairs.target, 1)
    starts = np.arange(0, len(source), BLOCK)
    sizes = np.diff(np.append(starts, len(source)))
    candidates = np.array(sorted(range(-FAR, FAR + 1), key=abs))
    products = np.empty((len(candidates), len(starts)))
    for index, offset in enumerate(candidates):
        moved = np.zeros(len(source))
        begin, end = max(0, -offset), min(len(source), len(target) - offset)
        moved[begin:end] = target[begin + offset : end + offset]
        products[index] = np.add.reduceat(source * moved, starts) / sizes
    best = products.argmax(0)
    strengths = products[best, np.arange(len(starts))]
    shifted = (strengths > products[0] + BETTER) & (sizes == BLOCK)
    correlation = float(np.clip(np.median(np.where(shifted, strengths, products[0])), 0.05, 0.95))
    return np.where(shifted, candidates[best], 0), correlation
