"""The search of one sentence: its hypotheses, those that have ended, and when it is done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nmt.errors import RunError
from nmt.recipe import Search
from nmt.search.hypothesis import Hypothesis, Marks, normalizer

MAX_TARGET_TOKENS = 4096
"""No hypothesis grows longer, whatever the settings and the source: time and memory are bounded."""


class Node(NamedTuple):
    """A hypothesis: its last token and the hypothesis before it."""

    token: int
    before: Node | None
    weights: Tensor | None
    """``[S]``: what attention looked at in writing the token, where asked for."""


class Survivor(NamedTuple):
    """A continuation that search goes on with."""

    log_p: float
    """-inf for a place in the beam that nothing fills."""
    parent: int
    """Which hypothesis of the beam it goes on from."""
    token: int


class Sentence:
    """One sentence that is searched for; `size` are its source's tokens, the end mark counted."""

    def __init__(self, size: int, settings: Search, n_best: int, marks: Marks) -> None:
        self._size = size
        longest = int((size - 1) * settings.max_length_ratio + settings.max_length_extra)
        self.longest = min(max(longest, 1), MAX_TARGET_TOKENS)
        """Tokens at most, the end mark counted."""
        self.shortest = min(int((size - 1) * settings.min_length_ratio) + 1, self.longest)
        self._settings = settings
        self._n_best = n_best
        self._width = max(settings.beam, n_best)
        self._end_mark = marks.end
        self._beam = [Node(marks.begin, None, None)]
        self._ended: list[Hypothesis] = []

    def advance(
        self, looked: Tensor | None, log_p: Sequence[float], parents: Sequence[int], tokens: Sequence[int]
    ) -> list[Survivor]:
        """Take the best continuations, the best first, and give those to go on with: as many as the beam is wide, or as
        there are continuations; none where the sentence is done. `looked` ``[W, S]`` are the attention's weights.

        Raises RunError where the model gives NaN, or no translation any probability.
        """
        if math.isnan(log_p[0]):
            raise RunError("the model computes no numbers but NaN", "its training has diverged; use another checkpoint")
        going: list[Survivor] = []
        for place, (total, parent, token) in enumerate(zip(log_p, parents, tokens, strict=True)):
            if total == -math.inf:  # banned, or in a place of the beam that nothing fills
                break
            if token != self._end_mark:
                going.append(Survivor(total, parent, token))
            elif place < self._width:
                self._end(total, parent, looked)
        width = min(self._width, len(log_p))
        going = (going + [Survivor(-math.inf, 0, self._end_mark)] * width)[:width]
        if self._done(going[0].log_p):
            return []
        rows = [None] * len(self._beam) if looked is None else list(looked)
        self._beam = [Node(token, self._beam[parent], rows[parent]) for _, parent, token in going]
        return going

    def best(self) -> list[Hypothesis]:
        """The `n_best` that have ended, the best first."""
        return sorted(self._ended, key=lambda hypothesis: -hypothesis.score)[: self._n_best]

    def _end(self, log_p: float, parent: int, looked: Tensor | None) -> None:
        node, tokens, weights = self._beam[parent], [], []
        while node.before is not None:
            tokens.append(node.token)
            if node.weights is not None:
                weights.append(node.weights[: self._size])
            node = node.before
        length = len(tokens) + 1  # with the end mark
        self._ended.append(
            Hypothesis(
                tokens=tuple(reversed(tokens)),
                score=log_p / normalizer(length, self._settings),
                log_probability=log_p,
                finished=length < self.longest,
                weights=None if looked is None else torch.stack([*reversed(weights), looked[parent][: self._size]]),
            )
        )

    def _done(self, best: float) -> bool:
        """Whether nothing better can be found by going on from a hypothesis of the log-probability `best`.

        That is so when as many hypotheses as the beam is wide have ended, or when the best that goes on could not beat
        the `n_best`-th, even if it cost nothing more and grew to the maximum length.
        """
        if best == -math.inf:
            if not self._ended:
                raise RunError("the model finds every translation impossible", "use another checkpoint")
            return True
        bound = best / normalizer(self.longest, self._settings)
        better = sum(hypothesis.score >= bound for hypothesis in self._ended)
        return len(self._ended) >= self._width or better >= self._n_best
