"""The search of one sentence: its hypotheses, those that have ended, and when it is done."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nmt.errors import RunError
from nmt.recipe import Search
from nmt.search.candidates import Continuations
from nmt.search.hypothesis import Hypothesis, Marks, length_bounds, normalizer, way_to


class Sentence:
    """One sentence that is searched for; `size` are its source's tokens, the end mark counted."""

    def __init__(self, size: int, settings: Search, n_best: int, marks: Marks) -> None:
        self._size = size
        self.shortest, self.longest = length_bounds(size, settings)
        self._settings = settings
        self._n_best = n_best
        self._width = max(settings.beam, n_best)
        self._end_mark = marks.end
        self._beams: list[Continuations] = []
        self._looked: list[Tensor] = []
        self._ended: list[Hypothesis] = []

    def advance(self, looked: Tensor | None, found: Continuations) -> Continuations | None:
        """Take the best continuations; those to go on with, the beam, or None where the sentence is done.

        `looked` ``[W, S]`` are the attention's weights, where asked for. Raises RunError where the model gives NaN, or
        no translation any probability.
        """
        if math.isnan(found.log_p[0]):
            raise no_numbers()
        if looked is not None:
            self._looked.append(looked)
        beam = Continuations([], [], [])
        room = self._width - len(self._ended)
        for total, parent, token in list(zip(*found, strict=True))[:room]:
            if total == -math.inf:  # banned, and so is what comes behind it
                break
            if token == self._end_mark:
                self._end(total, parent)
            else:
                beam.log_p.append(total)
                beam.parents.append(parent)
                beam.tokens.append(token)
        if not beam.tokens and not self._ended:
            raise no_translation()
        if not beam.tokens or self._decided(beam.log_p[0]):
            return None
        self._beams.append(beam)
        return beam

    def best(self) -> list[Hypothesis]:
        """The `n_best` that have ended, the best first."""
        return sorted(self._ended, key=lambda hypothesis: -hypothesis.score)[: self._n_best]

    def _end(self, log_p: float, row: int) -> None:
        """Set aside the hypothesis in a `row` of the last beam, which ends here."""
        length = len(self._beams) + 1  # with the end mark
        way = way_to(row, [beam.parents for beam in self._beams])
        looked = [
            weights[each, : self._size] for weights, each in zip(self._looked, [0, *way], strict=bool(self._looked))
        ]
        self._ended.append(
            Hypothesis(
                tokens=tuple(beam.tokens[each] for beam, each in zip(self._beams, way, strict=True)),
                score=log_p / normalizer(length, self._settings),
                log_probability=log_p,
                finished=length < self.longest,
                weights=torch.stack(looked) if looked else None,
            )
        )

    def _decided(self, best: float) -> bool:
        """Whether the best hypothesis that goes on, of the log-probability `best`, is too late to be among the best.

        That is so where it would not beat the `n_best`-th that has ended even if it wrote `lookahead` tokens more, or
        as many as it may, at no cost.
        """
        length = len(self._beams) + 1
        ahead = self.longest if self._settings.lookahead is None else length + self._settings.lookahead
        bound = best / normalizer(min(ahead, self.longest), self._settings)
        return sum(hypothesis.score >= bound for hypothesis in self._ended) >= self._n_best


def no_numbers() -> RunError:
    """What is said of a model that gives NaN."""
    return RunError("the model computes no numbers but NaN", "its training has diverged; use another checkpoint")


def no_translation() -> RunError:
    """What is said of a model that gives no translation any probability."""
    return RunError("the model finds every translation impossible", "use another checkpoint")
