"""Beam search on a device that is no processor: beams stay there, and several steps are taken before anything is read.

What is found is what `nmt.search.beam` finds, which chooses each step by numbers that the processor has. Here a run of
steps is a function of tensors alone: nothing in it waits for the device, so all of it can be one CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from nmt.attention.memory import WIDTH, Encoded, Memory
from nmt.cells.state import State, rows_of
from nmt.device import moved
from nmt.model.decoder import Decoder
from nmt.recipe import Search
from nmt.search.candidates import best
from nmt.search.captured import CapturedRuns
from nmt.search.device_beams import Beams
from nmt.search.hypothesis import Hypothesis, Marks, length_bounds, normalizer, way_to
from nmt.search.limits import Limited, Limits
from nmt.search.sentence import no_numbers, no_translation

STEPS = 4
"""Of a run: behind each the processor waits for the device; steps that a sentence takes after its last are lost."""


@dataclass(frozen=True)
class _Live:
    """N sentences that are searched for: all that steps read."""

    beams: Beams
    rows: Tensor
    """``[N, W]``: the numbers of the hypotheses."""
    shortest: Tensor
    """``[N]``: tokens at least, a number of the beams' type, as `longest`."""
    longest: Tensor
    """``[N]``: tokens at most."""
    banned: Tensor
    """Columns of logits."""
    memory: Memory
    state: State
    """Rows ``[N · W]``, which the hypotheses go on from."""
    limited: Limited | None
    """The columns of logits; None where there is one for every token."""
    columns: Tensor | None
    """``[N, C]``: the tokens of these columns."""

    def tensors(self) -> list[Tensor]:
        """All that are on the device, but those of limits."""
        encoded, products = self.memory.encoded, self.memory.products
        memory = [encoded.states, encoded.mask, encoded.summary, self.memory.keys]
        memory += [] if products is None else [products]
        return [*self.beams, self.rows, self.shortest, self.longest, self.banned, *memory, *self.state]

    def of(self, lengths: Tensor, tensors: Sequence[Tensor]) -> _Live:
        """The same with other tensors in the place of these; lengths ``[N]`` of the sources are on the processor."""
        given = iter(tensors)
        beams = Beams(*(next(given) for _ in self.beams))
        rows, shortest, longest, banned, states, mask, summary, keys = (next(given) for _ in range(8))
        products = None if self.memory.products is None else next(given)
        memory = Memory(Encoded(states, mask, lengths, summary), keys, products)
        return _Live(beams, rows, shortest, longest, banned, memory, tuple(given), self.limited, self.columns)

    def select(self, sentences: Sequence[int], multiple: int) -> _Live:
        """Some of the sentences, with sources as `Memory.select` cuts them."""
        chosen = torch.tensor(sentences)
        index = moved(chosen, self.rows.device)
        length, going, ended, done, broken, none = self.beams
        going, ended, done, broken = (each.index_select(0, index) for each in (going, ended, done, broken))
        return _Live(
            Beams(length, going, ended, done, broken, none),
            self.rows[: len(sentences)],
            self.shortest.index_select(0, index),
            self.longest.index_select(0, index),
            self.banned,
            self.memory.select(chosen, multiple),
            rows_of(self.state, self.rows.index_select(0, index).flatten()),
            None if self.limited is None else self.limited.select(sentences),
            None if self.columns is None else self.columns.index_select(0, index),
        )


class _Read(NamedTuple):
    """What a run of T steps leaves behind, where the processor has read it."""

    row_of: dict[int, int]
    """Where a sentence stood."""
    parents: list[list[list[int]]]
    """``[T][N][W]``, of the beams behind each step."""
    tokens: list[list[list[int]]]
    """``[T][N][W]``, likewise."""
    weights: Tensor | None
    """``[T, N, W, S]``: what attention looked at in each step, where asked for; on the device."""


class _Ended(NamedTuple):
    """A hypothesis that has ended."""

    score: float
    log_p: float
    parent: int
    """The place in the last beam that it went on from."""
    length: int


class DeviceSearch:
    """The search of one batch; runs of steps are `captured` where that is given, but not under limits."""

    def __init__(
        self,
        decoder: Decoder,
        settings: Search,
        marks: Marks,
        *,
        n_best: int,
        weights: bool,
        limits: Limits | None,
        captured: CapturedRuns | None,
    ) -> None:
        self._decoder, self._settings, self._marks = decoder, settings, marks
        self._n_best, self._weights, self._limits = n_best, weights, limits
        self._width = max(settings.beam, n_best)
        self._captured = captured if limits is None else None
        self._end = marks.end if limits is None else int(limits.columns_of([marks.end]))  # its column of logits

    def search(self, encoded: Encoded) -> list[list[Hypothesis]]:
        """What is found for each of the B sentences, as `nmt.search.beam.beam_search` says."""
        sizes: list[int] = encoded.lengths.tolist()
        found: list[list[Hypothesis]] = [[] for _ in sizes]
        row_of = {sentence: sentence for sentence in range(len(sizes))}
        live, history = self._start(encoded), list[_Read]()
        while row_of:
            live, taken = self._run(live)
            beams, run = _read(live.beams, taken, row_of)
            history.append(run)
            done: list[bool] = beams.done.tolist()
            for sentence, row in row_of.items():
                if done[row]:
                    if beams.broken[row]:
                        raise no_numbers()
                    found[sentence] = self._best(beams.ended[row], history, sentence, sizes[sentence])
            row_of = {sentence: row for sentence, row in row_of.items() if not done[row]}
            rows, multiple = self._shape([*row_of.values()], live.memory.encoded.lengths)
            if 0 < len(rows) < len(live.rows):
                live = live.select(rows, multiple)
                row_of = {sentence: row for row, sentence in enumerate(row_of)}
        return found

    def _start(self, encoded: Encoded) -> _Live:
        limits, device, lengths = self._limits, encoded.states.device, encoded.lengths
        rows, multiple = self._shape(range(len(lengths)), lengths)
        encoded = encoded.widened(multiple)
        memory = self._decoder.prepare_search(encoded)
        dtype = torch.promote_types(encoded.states.dtype, torch.float32)
        bounds = torch.tensor([length_bounds(size, self._settings) for size in lengths.tolist()], dtype=dtype)
        shortest, longest = moved(bounds, device).unbind(1)
        banned, limited, columns = torch.tensor(self._marks.banned, dtype=torch.long), None, None
        if limits is not None:
            banned = limits.columns_of(self._marks.banned)
            limited = Limited.of(self._decoder.output, limits, self._marks.banned, shortest)
            columns = moved(torch.cat([limits.shared.expand(len(lengths), -1), limits.own_tokens()], 1), device)
        numbers = torch.arange(len(rows) * self._width, device=device).view(-1, self._width)
        beams = Beams.first(len(lengths), self._width, self._marks, dtype, device)
        sources = torch.arange(len(lengths), device=device).repeat_interleave(self._width)
        state = rows_of(self._decoder.initial_state(memory), sources)
        live = _Live(beams, numbers, shortest, longest, moved(banned, device), memory, state, limited, columns)
        return live if len(rows) == len(lengths) else live.select(rows, multiple)

    def _shape(self, rows: Sequence[int], lengths: Tensor) -> tuple[Sequence[int], int]:
        """The rows to go on with, and a multiple for the width of their sources.

        To be captured, both are powers of 2, the first row coming again and again: few shapes, few captures.
        """
        if self._captured is None or not rows:
            return rows, WIDTH
        longest = int(lengths[[*rows]].max())
        return [*rows] + [rows[0]] * (_power(len(rows)) - len(rows)), WIDTH * _power(-(-longest // WIDTH))

    def _run(self, live: _Live) -> tuple[_Live, tuple[Tensor, ...]]:
        """`STEPS` steps; parents and tokens ``[T, N, 2, W]`` and, if wanted, attention's weights ``[T, N, W, S]``."""

        def run(lengths: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            now, taken = live.of(lengths, tensors), []
            for _ in range(STEPS):
                now, weights = self._step(now)
                taken.append((now.beams.going[:, 1:3], *weights))
            return (*now.beams, *now.state, *(torch.stack(each) for each in zip(*taken, strict=True)))

        lengths, given = live.memory.encoded.lengths, live.tensors()
        key = (self._settings, self._marks, self._n_best, self._weights)
        outputs = run(lengths, given) if self._captured is None else self._captured(key, run, lengths, given)
        beams, end = Beams(*outputs[: len(live.beams)]), len(live.beams) + len(live.state)
        return replace(live, beams=beams, state=outputs[len(beams) : end]), outputs[end:]

    def _step(self, live: _Live) -> tuple[_Live, tuple[Tensor, ...]]:
        """One token more; and what attention looked at, where asked for."""
        beams = live.beams
        parents, tokens = beams.going[:, 1:3].long().unbind(1)
        parents = live.rows[:, :1] + parents
        decoded = self._decoder.branch(tokens.flatten(), live.state, parents.flatten(), live.memory)
        found = best(self._following(live, decoded.features), live.rows, beams.log_p, self._width).tensors()
        if live.columns is not None:
            log_p, parents, columns = found
            found = log_p, parents, live.columns.gather(1, columns)
        beams = beams.advanced(found, live.longest, self._settings, self._marks, self._n_best)
        weights = (decoded.weights.unflatten(0, live.rows.shape),) if self._weights else ()
        return replace(live, beams=beams, state=decoded.state), weights

    def _following(self, live: _Live, features: Tensor) -> Tensor:
        """Features ``[N · W, H]`` -> log-probabilities ``[N · W, C]`` of every token behind each hypothesis.

        Behind an empty place -inf, whatever the model makes of it.
        """
        if live.limited is None:
            logits = self._decoder.logits(features)
        else:
            logits = live.limited.logits(features, None, self._width)
        hypotheses, length = live.beams.log_p, live.beams.length + 1
        log_p = torch.log_softmax(logits.to(hypotheses.dtype), -1).index_fill_(-1, live.banned, float("-inf"))
        empty = hypotheses == float("-inf")  # [N, W]
        early, late = ((each[:, None] | empty).flatten() for each in (length < live.shortest, length >= live.longest))
        end = log_p[:, self._end].masked_fill(early, float("-inf"))
        log_p.masked_fill_(late[:, None], float("-inf"))
        log_p[:, self._end] = end
        return log_p

    def _best(self, ended: Tensor, history: Sequence[_Read], sentence: int, size: int) -> list[Hypothesis]:
        """What was found for a `sentence` of `size` tokens, where these ``[4, W]`` have ended."""
        ranked = [
            _Ended(log_p / normalizer(length, self._settings), log_p, int(parent), int(length))
            for log_p, parent, _, length in ended.T.tolist()
            if log_p > -math.inf
        ]
        if not ranked:
            raise no_translation()
        ranked.sort(key=lambda each: -each.score)
        steps = [(run, step, run.row_of[sentence]) for run in history for step in range(STEPS)]
        return [self._hypothesis(each, steps[: each.length], size) for each in ranked[: self._n_best]]

    def _hypothesis(self, ended: _Ended, steps: Sequence[tuple[_Read, int, int]], size: int) -> Hypothesis:
        """One of a sentence of `size` tokens; its steps are runs, their steps, and where the sentence stood in them."""
        way = way_to(ended.parent, [run.parents[step][row] for run, step, row in steps[:-1]])
        # A step looks from the hypotheses that it goes on from.
        looked = [
            run.weights[step, row, place, :size]
            for (run, step, row), place in zip(steps, [0, *way], strict=True)
            if run.weights is not None
        ]
        return Hypothesis(
            tokens=tuple(run.tokens[step][row][place] for (run, step, row), place in zip(steps[:-1], way, strict=True)),
            score=ended.score,
            log_probability=ended.log_p,
            finished=ended.length < length_bounds(size, self._settings)[1],
            weights=torch.stack(looked) if looked else None,
        )


def _power(number: int) -> int:
    """The power of 2 that is no less."""
    return 1 << (number - 1).bit_length()


def _read(beams: Beams, taken: Sequence[Tensor], row_of: dict[int, int]) -> tuple[Beams, _Read]:
    """The beams and what a run left behind, on the processor: a single transfer, for each waits for the device."""
    wanted = [*beams, taken[0]]
    packed = torch.cat([each.flatten().to(beams.going.dtype) for each in wanted]).cpu()
    parts = packed.split([each.numel() for each in wanted])
    *read, placed = (part.view(each.shape).to(each.dtype) for part, each in zip(parts, wanted, strict=True))
    parents, tokens = placed.long().unbind(2)
    weights = taken[1] if len(taken) > 1 else None
    return Beams(*read), _Read(row_of, parents.tolist(), tokens.tolist(), weights)
