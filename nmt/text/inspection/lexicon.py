"""Which words translate each other, learnt from the pairs themselves (IBM model 1, Brown et al. 1993)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nmt.text.inspection.gathering import MAX_WORDS, Side

Rows = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

MAX_ENTRIES = 4_000_000
"""Word pairs to learn from, counted in each sentence pair: it bounds memory and time."""
ITERATIONS = 4
CHUNK = 2048
"""Pairs that are scored at a time."""
UNSEEN = 0.3
"""Share of a word's probability that doesn't depend on the source: no pair is judged by one word."""
SAME_WORD = 0.1
"""Probability of a word's translation by itself, as far as nothing better has been learnt: numbers and names."""
MAX_RATIO = 300.0

_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Lexicon:
    """How much likelier a word is with a word opposite: a hash table of ``p(target | source) / p(target)``."""

    keys: npt.NDArray[np.int64]
    ratios: npt.NDArray[np.float32]
    frequencies: npt.NDArray[np.float32]
    """``[V]``: probability of each word on the target side."""
    size: int
    """Words that a key counts with."""

    def scores(self, source: Side, target: Side, source_rows: Rows, target_rows: Rows) -> Values:
        """``[N]``: log of how much more likely each target is with its source than alone (equation 5, per word)."""
        scores = np.zeros(len(source_rows))
        amounts = np.diff(source.offsets)[source_rows] * np.diff(target.offsets)[target_rows]
        order = np.argsort(amounts, kind="stable")  # lines of like lengths together: less padding
        for start in range(0, len(order), CHUNK):
            chosen = order[start : start + CHUNK]
            scores[chosen] = self._chunk(padded(source, source_rows[chosen]), padded(target, target_rows[chosen]))
        return scores

    def _chunk(self, sources: Ids, targets: Ids) -> Values:
        """Scores of padded lines ``[N, S]`` and ``[N, T]``."""
        if not sources.size or not targets.size:
            return np.zeros(len(sources))
        keys = np.where(
            (sources < 0)[:, :, None] | (targets < 0)[:, None, :],
            -1,
            sources[:, :, None] * self.size + targets[:, None, :],
        )
        cells = _cells(keys, len(self.keys))
        ratios = np.where(self.keys[cells] == keys, self.ratios[cells], 0.0)
        same = sources[:, :, None] == targets[:, None, :]
        if same.any():
            alone = np.minimum(MAX_RATIO, SAME_WORD / self.frequencies[np.maximum(targets, 0)])
            ratios = np.where(same & (keys >= 0), np.maximum(ratios, alone[:, None, :]), ratios)
        words = np.maximum((sources >= 0).sum(1), 1)[:, None]
        gains = np.log(UNSEEN + (1 - UNSEEN) * ratios.sum(1) / words)
        totals: Values = np.where(targets >= 0, gains, 0.0).sum(1)
        return totals


def learn(source: Side, target: Side, source_rows: Rows, target_rows: Rows, vocabulary: int) -> Lexicon:
    """A lexicon from the pairs of these rows, or of as many of them, evenly spread, as there is room for."""
    amounts = np.diff(source.offsets)[source_rows] * np.diff(target.offsets)[target_rows]
    stride = max(1, -(-int(amounts.sum()) // MAX_ENTRIES))
    sources, targets = padded(source, source_rows[::stride]), padded(target, target_rows[::stride])
    seen = np.bincount(targets[targets >= 0], minlength=vocabulary).astype(np.float64)
    usable = (np.bincount(sources[sources >= 0], minlength=vocabulary) > 1, seen > 1)
    sources, targets = (
        np.where((ids >= 0) & fit[ids], ids, -1) for ids, fit in zip((sources, targets), usable, strict=True)
    )
    rows, source_places, target_places = np.nonzero((sources >= 0)[:, :, None] & (targets >= 0)[:, None, :])
    keys = sources[rows, source_places] * vocabulary + targets[rows, target_places]
    groups = np.unique(rows * MAX_WORDS + target_places, return_inverse=True)[1]
    known, which = np.unique(keys, return_inverse=True)
    frequencies = (seen + 0.5) / (seen.sum() + 0.5 * vocabulary)
    counts, givers = _estimated(groups, which, known // vocabulary)
    # A word pair that was met once would vouch for the sentence pair it was met in: one is taken off each count.
    ratios = np.maximum(counts - 1.0, 0.0) / np.maximum(givers, 1e-9) / frequencies[known % vocabulary]
    kept = ratios > 1.0
    return _table(known[kept], np.minimum(ratios[kept], MAX_RATIO), frequencies.astype(np.float32), vocabulary)


def _estimated(groups: Ids, which: Ids, source_words: Ids) -> tuple[Values, Values]:
    """Expected counts of each word pair after some rounds of expectation maximisation, and those of its source word."""
    probabilities = np.ones(len(source_words))
    counts, givers = probabilities, probabilities
    for _ in range(ITERATIONS):
        shares = probabilities[which]
        shares /= _sums(groups, shares)[groups]
        counts = _sums(which, shares)
        givers = _sums(source_words, counts)[source_words]
        probabilities = counts / np.maximum(givers, 1e-300) + 1e-12
    return counts, givers


def _sums(groups: Ids, values: Values) -> Values:
    """The sum of the values in each group."""
    return np.bincount(groups, values).astype(np.float64)


def _table(keys: Ids, ratios: Values, frequencies: npt.NDArray[np.float32], vocabulary: int) -> Lexicon:
    size = 1 << max(10, int(4 * len(keys)).bit_length())
    order = np.argsort(ratios, kind="stable")  # where two keys want one cell, the last written stays: the strongest
    cells = _cells(keys[order], size)
    table, values = np.full(size, -2, np.int64), np.zeros(size, np.float32)
    table[cells], values[cells] = keys[order], ratios[order]
    return Lexicon(table, values, frequencies, vocabulary)


def _cells(keys: Ids, size: int) -> npt.NDArray[np.uint64]:
    """Where in a table of `size` cells, a power of two, each key stands."""
    return (keys.astype(np.uint64) * _MIX) >> np.uint64(64 - (size.bit_length() - 1))


def padded(side: Side, rows: Rows) -> Ids:
    """``[N, W]``: the words of these rows, -1 behind their ends."""
    begins, ends = side.offsets[rows], side.offsets[rows + 1]
    width = int((ends - begins).max(initial=0))
    places = begins[:, None] + np.arange(width)
    inside = places < ends[:, None]
    ids = np.full(places.shape, -1, np.int64)
    ids[inside] = side.words[places[inside]]
    return ids
