"""Drawing another segmentation of a text, from a seed alone: unigram sampling and BPE dropout.

sentencepiece offers both, but mixes a number into every seed that is another one in each process (Abseil salts its
generators), so that a resumed run would see other tokens than the run it goes on from. Here all that is random comes
from the generator given.
"""

from __future__ import annotations

import functools
import heapq
import math
from array import array
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from nmt.text.vocabulary import BYTE, NORMAL, UNKNOWN, USER_DEFINED, Vocabulary

CACHED_WORDS = 1 << 15
"""Words whose segmentations are kept, a KB or so each."""
FEW = 16
"""Segmentations of a word that mostly suffice for the best ones of a sentence."""

_UNKNOWN_PENALTY = 10.0
"""By how much a letter outside the vocabulary scores below the worst piece, as in sentencepiece."""


@dataclass(frozen=True)
class _Choice:
    """A word's segmentations, the best first."""

    segmentations: list[array[int]]
    costs: list[float]
    """By how much each is less likely than the best: in nats, times alpha."""
    whole: bool
    """False where there are more."""


_Changes = tuple[int, int, "_Changes"] | None
"""Which words of a sentence have another than their best segmentation: (word, segmentation, the words before)."""


class UnigramSampling:
    """A sentence's segmentation, drawn from its `nbest` best ones with probability ~ exp(alpha · log-likelihood).

    Kudo 2018, section 3.2. No piece spans two words, so the best segmentations of a sentence are made from those of its
    words, which are kept: several times as fast as asking sentencepiece for them all.
    """

    def __init__(
        self, vocabulary: Vocabulary, listed: Callable[[str, int], Sequence[Sequence[int]]], *, alpha: float, nbest: int
    ) -> None:
        self._listed = listed
        self._alpha = alpha
        self._nbest = nbest
        self._scores = _likelihoods(vocabulary)
        self._symbols = {i for i, kind in enumerate(vocabulary.types) if kind == USER_DEFINED}
        self._choice = functools.lru_cache(CACHED_WORDS)(self._find_choice)

    def draw(self, words: Sequence[str], random: Random) -> list[int]:
        """Token ids of the words of a sentence."""
        choices = [self._choice(word, min(FEW, self._nbest)) for word in words]
        try:
            ranked, order = self._ranked(choices)
        except _TooFewError:
            choices = [self._choice(word, self._nbest) for word in words]
            ranked, order = self._ranked(choices)
        sums = list(accumulate(math.exp(-cost) for cost, _ in ranked))
        _, changes = ranked[bisect(sums, random.random() * sums[-1], hi=len(sums) - 1)]
        chosen = [choice.segmentations[0] for choice in choices]
        while changes is not None:
            word, rank, changes = changes
            chosen[order[word]] = choices[order[word]].segmentations[rank]
        return [token for ids in chosen for token in ids]

    def _ranked(self, choices: Sequence[_Choice]) -> tuple[list[tuple[float, _Changes]], list[int]]:
        """The `nbest` cheapest ways to take one segmentation of each word, and the order in which they count the words.

        With the words in the order of their second segmentations' costs, each way but the first is made from a cheaper
        one: the last word that has changed takes its next segmentation, or the word behind it takes its second, and
        with that the last one may go back to its first. So each way is met once, after those it costs more than.
        Raises _TooFewError where more of a word's segmentations might be among them.
        """
        order = [index for index, choice in enumerate(choices) if len(choice.costs) > 1]
        order.sort(key=lambda index: choices[index].costs[1])
        ranked: list[tuple[float, _Changes]] = [(0.0, None)]
        waiting: list[tuple[float, int, int, int, _Changes]] = []
        if order:
            waiting.append((choices[order[0]].costs[1], 0, 0, 1, None))
        number = 0
        while waiting and len(ranked) < self._nbest:
            cost, _, last, rank, before = heapq.heappop(waiting)
            ranked.append((cost, (last, rank, before)))
            choice, number = choices[order[last]], number + 3
            if rank + 1 < len(choice.costs):
                more = cost - choice.costs[rank] + choice.costs[rank + 1]
                heapq.heappush(waiting, (more, number, last, rank + 1, before))
            elif not choice.whole:
                raise _TooFewError
            if last + 1 < len(order):
                more = cost + choices[order[last + 1]].costs[1]
                heapq.heappush(waiting, (more, number + 1, last + 1, 1, (last, rank, before)))
                if rank == 1:
                    heapq.heappush(waiting, (more - choice.costs[1], number + 2, last + 1, 1, before))
        return ranked, order

    def _find_choice(self, word: str, count: int) -> _Choice:
        found = self._listed(word, count)
        fitting = found
        if self._symbols:
            # A user's symbol stays one token: no segmentation may spell it out.
            symbols = self._symbols_in(found[0])
            fitting = [ids for ids in found if self._symbols_in(ids) == symbols]
        likelihoods = [sum(map(self._scores.__getitem__, ids)) for ids in fitting]
        order = sorted(range(len(fitting)), key=likelihoods.__getitem__, reverse=True)
        costs = [self._alpha * (likelihoods[order[0]] - likelihoods[index]) for index in order]
        return _Choice(
            [array("i", fitting[index]) for index in order], costs, count == self._nbest or len(found) < count
        )

    def _symbols_in(self, ids: Sequence[int]) -> int:
        return sum(token in self._symbols for token in ids)


class _TooFewError(Exception):
    """More segmentations of a word are needed."""


class BpeDropout:
    """A sentence's segmentation by the merges of a BPE model, each left out with probability `alpha`.

    Provilkov et al. 2020, in the form sentencepiece gives it: a merge once left out doesn't come back.
    """

    def __init__(
        self, vocabulary: Vocabulary, encode: Callable[[str], tuple[Sequence[str], Sequence[int]]], *, alpha: float
    ) -> None:
        normal = [index for index, kind in enumerate(vocabulary.types) if kind == NORMAL]
        self._ids = {vocabulary.pieces[index]: index for index in normal}
        self._costs = {vocabulary.pieces[index]: -vocabulary.scores[index] for index in normal}
        self._encode = encode
        self._alpha = alpha
        self._runs = functools.lru_cache(CACHED_WORDS)(self._find_runs)

    def draw(self, words: Sequence[str], random: Random) -> list[int]:
        """Token ids of the words of a sentence."""
        tokens: list[int] = []
        for word in words:
            for text, fixed in self._runs(word):
                tokens += fixed
                tokens += [self._ids[piece] for piece in self._merged(text, random)]
        return tokens

    def _find_runs(self, word: str) -> list[tuple[str, list[int]]]:
        """The word as runs of text to merge, and tokens before each that stay: symbols, bytes, unknown letters."""
        runs: list[tuple[str, list[int]]] = [("", [])]
        for piece, token in zip(*self._encode(word), strict=True):
            text, fixed = runs[-1]
            if self._ids.get(piece) == token and all(letter in self._ids for letter in piece):
                runs[-1] = (text + piece, fixed)
            elif text:
                runs.append(("", [token]))
            else:
                fixed.append(token)
        return runs

    def _merged(self, text: str, random: Random) -> Iterator[str]:
        """The pieces that letters grow into, the best merge first and from left to right among equals."""
        pieces = list(text)
        following = list(range(1, len(pieces) + 1))
        preceding = list(range(-1, len(pieces) - 1))
        waiting: list[tuple[float, int, int, int]] = []

        def offer(left: int, right: int) -> None:
            cost = self._costs.get(pieces[left] + pieces[right])
            if cost is not None:
                heapq.heappush(waiting, (cost, left, right, len(pieces[left]) + len(pieces[right])))

        for left in range(len(pieces) - 1):
            offer(left, left + 1)
        while waiting:
            _, left, right, size = heapq.heappop(waiting)
            stale = not pieces[left] or not pieces[right] or len(pieces[left]) + len(pieces[right]) != size
            if stale or random.random() < self._alpha:
                continue
            pieces[left], pieces[right] = pieces[left] + pieces[right], ""
            following[left] = following[right]
            if following[right] < len(pieces):
                preceding[following[right]] = left
                offer(left, following[right])
            if preceding[left] >= 0:
                offer(preceding[left], left)
        return filter(None, pieces)


def _likelihoods(vocabulary: Vocabulary) -> list[float]:
    """Log-probability of each token; a letter outside the vocabulary has its penalty on the first of its bytes."""
    normal = [index for index, kind in enumerate(vocabulary.types) if kind == NORMAL]
    worst = min((vocabulary.scores[index] for index in normal), default=0.0)
    likelihoods = list(vocabulary.scores)
    for index, kind in enumerate(vocabulary.types):
        first = kind == BYTE and not 0x80 <= int(vocabulary.pieces[index][3:5], 16) < 0xC0
        if kind == UNKNOWN or first:
            likelihoods[index] = worst - _UNKNOWN_PENALTY
    return likelihoods
