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
    shortest: Tensor
    """``[N]``: tokens at least."""
    longest: Tensor
    """``[N]``: tokens at most."""
    banned: Tensor
    """Columns of logits."""
    memory: Memory
    state: State
    """Rows ``[N · W]``, those of a sentence together, which the beams' hypotheses go on from."""
    limited: Limited | None
    """The columns of logits; None where there is one for every token."""
    columns: Tensor | None
    """``[N, C]``: the tokens of these columns."""

    def tensors(self) -> list[Tensor]:
        """All but those of limits. The first, and no other, is on the processor."""
        encoded, products = self.memory.encoded, self.memory.products
        memory = [encoded.states, encoded.mask, encoded.summary, self.memory.keys]
        memory += [] if products is None else [products]
        return [encoded.lengths, *self.beams, self.shortest, self.longest, self.banned, *memory, *self.state]

    def of(self, tensors: Sequence[Tensor]) -> _Live:
        """The same with other tensors in the place of these."""
        given = iter(tensors)
        lengths = next(given)
        beams = Beams(*(next(given) for _ in self.beams))
        shortest, longest, banned, states, mask, summary, keys = (next(given) for _ in range(7))
        products = None if self.memory.products is None else next(given)
        memory = Memory(Encoded(states, mask, lengths, summary), keys, products)
        return _Live(beams, shortest, longest, banned, memory, tuple(given), self.limited, self.columns)

    def select(self, sentences: Sequence[int]) -> _Live:
        """Some of the sentences."""
        rows, (sizes, width) = torch.tensor(sentences), self.beams.tokens.shape
        index = rows.to(self.beams.tokens.device)
        hypotheses = torch.arange(sizes * width, device=index.device).view(sizes, width).index_select(0, index)
        return _Live(
            Beams(self.beams.length, *(each.index_select(0, index) for each in self.beams[1:])),
            self.shortest.index_select(0, index),
            self.longest.index_select(0, index),
            self.banned,
            self.memory.select(rows, WIDTH),
            rows_of(self.state, hypotheses.flatten()),
            None if self.limited is None else self.limited.select(sentences),
            None if self.columns is None else self.columns.index_select(0, index),
        )


class _Step(NamedTuple):
    """What a step leaves behind, where the processor has read it."""

    tokens: list[list[int]]
    """``[N][W]``, of the beams behind it."""
    parents: list[list[int]]
    """``[N][W]``, likewise."""
    weights: Tensor | None
    """``[N, W, S]``: what attention looked at, where asked for; on the device."""

    def select(self, sentences: Sequence[int]) -> _Step:
        """Of some of the sentences."""
        tokens, parents = ([rows[each] for each in sentences] for rows in (self.tokens, self.parents))
        return _Step(tokens, parents, None if self.weights is None else self.weights[sentences])


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
        self._end = marks.end if limits is None else limits.shared.tolist().index(marks.end)  # its column of logits

    def search(self, encoded: Encoded) -> list[list[Hypothesis]]:
        """What is found for each of the B sentences, as `nmt.search.beam.beam_search` says."""
        sizes: list[int] = encoded.lengths.tolist()
        found: list[list[Hypothesis]] = [[] for _ in sizes]
        waiting = [*range(len(sizes))]  # the sentences that the first rows are of
        live, history = self._start(encoded), list[_Step]()
        while waiting:
            live, taken = self._run(live)
            beams, steps = _read(live.beams, taken)
            history += steps
            done: list[bool] = beams.done.tolist()
            for row, sentence in enumerate(waiting):
                if done[row]:
                    found[sentence] = self._best(beams, row, history, sizes[sentence])
            going = [row for row in range(len(waiting)) if not done[row]]
            if 0 < len(going) < len(waiting):
                rows = self._filled(going)
                live, history = live.select(rows), [step.select(rows) for step in history]
            waiting = [waiting[row] for row in going]
        return found

    def _start(self, encoded: Encoded) -> _Live:
        limits, device = self._limits, encoded.states.device
        bounds = torch.tensor([length_bounds(size, self._settings) for size in encoded.lengths.tolist()])
        shortest, longest = bounds.to(device).unbind(1)
        encoded = encoded.widened()
        memory = self._decoder.prepare_search(encoded)
        like = torch.zeros((), dtype=torch.promote_types(encoded.states.dtype, torch.float32), device=device)
        rows = len(encoded.lengths)
        banned, limited, columns = torch.tensor(self._marks.banned, dtype=torch.long), None, None
        if limits is not None:
            banned = torch.isin(limits.shared, banned).nonzero().squeeze(1)
            limited = Limited.of(self._decoder.output, limits, self._marks.banned, like)
            columns = torch.cat([limits.shared.expand(rows, -1), limits.own_tokens()], 1).to(device)
        state = rows_of(
            self._decoder.initial_state(memory), torch.arange(rows, device=device).repeat_interleave(self._width)
        )
        beams = Beams.first(rows, self._width, self._marks.begin, like)
        live = _Live(beams, shortest, longest, banned.to(device), memory, state, limited, columns)
        filled = self._filled(range(rows))
        return live if len(filled) == rows else live.select(filled)

    def _filled(self, rows: Sequence[int]) -> Sequence[int]:
        """The rows; to be captured, with the first again and again up to a power of 2: few shapes, few captures."""
        if self._captured is None:
            return rows
        return [*rows] + [rows[0]] * ((1 << (len(rows) - 1).bit_length()) - len(rows))

    def _run(self, live: _Live) -> tuple[_Live, tuple[Tensor, ...]]:
        """`STEPS` steps; tokens, parents ``[T, N, W]`` and, where asked for, attention's weights ``[T, N, W, S]``."""

        def run(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            now, taken = live.of(tensors), []
            for _ in range(STEPS):
                now, weights = self._step(now)
                taken.append((now.beams.tokens, now.beams.parents, *weights))
            return (*now.beams, *now.state, *(torch.stack(each) for each in zip(*taken, strict=True)))

        given = live.tensors()
        key = (self._settings, self._marks, self._n_best, self._weights)
        outputs = run(given) if self._captured is None else self._captured(key, run, given)
        beams, end = Beams(*outputs[: len(live.beams)]), len(live.beams) + len(live.state)
        return replace(live, beams=beams, state=outputs[len(beams) : end]), outputs[end:]

    def _step(self, live: _Live) -> tuple[_Live, tuple[Tensor, ...]]:
        """One token more; and what attention looked at, where asked for."""
        beams, width = live.beams, self._width
        rows = torch.arange(beams.tokens.numel(), device=beams.tokens.device).view_as(beams.tokens)  # [N, W]
        parents = rows[:, :1] + beams.parents
        decoded = self._decoder.branch(beams.tokens.flatten(), live.state, parents.flatten(), live.memory)
        log_p, parents, tokens = best(self._following(live, decoded.features), rows, beams.log_p, width).tensors()
        if live.columns is not None:
            tokens = live.columns.gather(1, tokens)
        beams = beams.advanced((log_p, parents, tokens), live.longest, self._settings, self._marks, self._n_best)
        weights = (decoded.weights.unflatten(0, tokens.shape),) if self._weights else ()
        return replace(live, beams=beams, state=decoded.state), weights

    def _following(self, live: _Live, features: Tensor) -> Tensor:
        """Features ``[N · W, H]`` -> log-probabilities ``[N · W, C]`` of every token behind each hypothesis."""
        if live.limited is None:
            logits = self._decoder.logits(features)
        else:
            logits = live.limited.logits(features, None, self._width)
        log_p = torch.log_softmax(logits.to(live.beams.log_p.dtype), -1).index_fill_(-1, live.banned, float("-inf"))
        length, end = live.beams.length + 1, log_p[:, self._end].clone()
        early, late = (
            each[:, None].expand(-1, self._width).flatten() for each in (length < live.shortest, length >= live.longest)
        )
        log_p.masked_fill_(late[:, None], float("-inf"))
        log_p[:, self._end] = end.masked_fill_(early, float("-inf"))
        return log_p

    def _best(self, beams: Beams, row: int, history: Sequence[_Step], size: int) -> list[Hypothesis]:
        """What was found for the sentence at a `row`, of a source of `size` tokens; `beams` have been read."""
        if beams.broken[row]:
            raise no_numbers()
        ended = [each[row].tolist() for each in (beams.ended_log_p, beams.ended_lengths, beams.ended_parents)]
        found = [
            self._hypothesis(log_p, history[:length], row, parent, size)
            for log_p, length, parent in zip(*ended, strict=True)
            if log_p > -math.inf
        ]
        if not found:
            raise no_translation()
        return sorted(found, key=lambda hypothesis: -hypothesis.score)[: self._n_best]

    def _hypothesis(self, log_p: float, steps: Sequence[_Step], row: int, parent: int, size: int) -> Hypothesis:
        """The one of a sentence that ended in the last of the steps, going on from the place `parent` of its beam."""
        before, (_, longest) = steps[:-1], length_bounds(size, self._settings)
        way = way_to(parent, [step.parents[row] for step in before])
        # A step looks from the hypotheses that it goes on from.
        looked = [
            step.weights[row, each, :size]
            for step, each in zip(steps, [0, *way], strict=True)
            if step.weights is not None
        ]
        return Hypothesis(
            tokens=tuple(step.tokens[row][each] for step, each in zip(before, way, strict=True)),
            score=log_p / normalizer(len(steps), self._settings),
            log_probability=log_p,
            finished=len(steps) < longest,
            weights=torch.stack(looked) if looked else None,
        )


def _read(beams: Beams, taken: Sequence[Tensor]) -> tuple[Beams, list[_Step]]:
    """The beams and what a run left behind, on the processor: a single transfer, for each waits for the device.

    All the whole numbers are below 2^24, so fp32 holds them.
    """
    tokens, parents, *weights = taken
    wanted = [*beams, tokens, parents]
    packed = torch.cat([each.flatten().to(beams.log_p.dtype) for each in wanted]).cpu()
    parts = packed.split([each.numel() for each in wanted])
    *read, tokens, parents = (part.view_as(each).to(each.dtype) for part, each in zip(parts, wanted, strict=True))
    looked = weights[0].unbind() if weights else [None] * len(tokens)
    return Beams(*read), [_Step(*each) for each in zip(tokens.tolist(), parents.tolist(), looked, strict=True)]
