"""Beam search for any decoder, many sentences at a time; a beam of one is greedy search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from nmt.attention.memory import WIDTH, Encoded, Memory
from nmt.cells.state import State, rows_of
from nmt.model.decoder import Decoder
from nmt.recipe import Search
from nmt.search.candidates import Continuations, best
from nmt.search.captured import CapturedRuns
from nmt.search.hypothesis import Hypothesis, Marks
from nmt.search.limits import Limited, Limits
from nmt.search.on_device import DeviceSearch
from nmt.search.sentence import Sentence

TOGETHER = 8
"""More rows are multiplied in multiples of this: oneDNN keeps a kernel for each number of rows that it has seen."""


@dataclass(frozen=True)
class _Live:
    """N sentences still searched for, W hypotheses each, the best first."""

    sentences: list[Sentence]
    memory: Memory
    state: State
    """Rows ``[U]``: of the hypotheses that others go on from, those of a sentence together."""
    parents: Tensor
    """``[N · W]``, which of the U rows each hypothesis goes on from."""
    tokens: Tensor
    """``[N · W]``, the last of each hypothesis."""
    log_p: Tensor
    """``[N, W]``; -inf for a place in the beam that no hypothesis fills."""
    places: Tensor | None
    """``[L]``, which of the N · W places are filled, for continuations of others aren't looked for; None for all."""
    row_of: Tensor
    """``[N, W]``, which of the L a place is; of an empty one, its sentence's first."""
    limited: Limited | None
    """The columns of logits; None where there is one for every token."""


class _Search:
    """The search of one batch on a processor."""

    def __init__(self, decoder: Decoder, width: int, marks: Marks, limits: Limits | None, weights: bool) -> None:
        self._decoder = decoder
        self._width = width
        self._weights = weights
        self._marks = marks
        self._limits = limits
        self._end, self._banned = marks.end, torch.tensor(marks.banned, dtype=torch.long)  # their columns of logits
        if limits is not None:
            self._end, self._banned = int(limits.columns_of([marks.end])), limits.columns_of(marks.banned)

    def start(self, encoded: Encoded, sentences: list[Sentence]) -> _Live:
        encoded = encoded.widened()
        memory = self._decoder.prepare_search(encoded)
        rows = len(sentences)
        begin, first = torch.full((rows,), self._marks.begin), torch.arange(rows)
        log_p = torch.zeros(rows, 1, dtype=torch.promote_types(encoded.states.dtype, torch.float32))
        limited = None
        if self._limits is not None:
            limited = Limited.of(self._decoder.output, self._limits, self._marks.banned, log_p)
        state = self._decoder.initial_state(memory)
        return _Live(sentences, memory, state, first, begin, log_p, None, first[:, None], limited)

    def advance(self, live: _Live, length: int) -> _Live | None:
        """One token more for every hypothesis, its `length`-th; None when every sentence is done."""
        decoded = self._decoder.branch(live.tokens, live.state, live.parents, live.memory)
        following = self._following(live, decoded.features, length)
        found = best(following, live.row_of, live.log_p, self._width).lists()
        if live.limited is not None:
            found = [each._replace(tokens=live.limited.tokens(row, each.tokens)) for row, each in enumerate(found)]
        looked = decoded.weights.unflatten(0, live.log_p.shape) if self._weights else [None] * len(live.sentences)
        beams = [sentence.advance(*each) for sentence, *each in zip(live.sentences, looked, found, strict=True)]
        kept = [(row, beam) for row, beam in enumerate(beams) if beam is not None]
        return self._survivors(live, decoded.state, kept) if kept else None

    def _following(self, live: _Live, features: Tensor, length: int) -> Tensor:
        """Features ``[N · W, H]`` -> log-probabilities ``[L, C]`` of every token behind the places that are filled."""
        if live.places is not None:
            features = features.index_select(0, live.places)
        if live.limited is None:
            logits = self._decoder.logits(features)
        else:
            logits = live.limited.logits(features, live.places, live.log_p.shape[1])
        logits = logits.to(live.log_p.dtype).contiguous()
        log_p = torch.log_softmax(logits, -1, out=logits).index_fill_(-1, self._banned, float("-inf"))
        early = [row for row, sentence in enumerate(live.sentences) if length < sentence.shortest]
        late = [row for row, sentence in enumerate(live.sentences) if length >= sentence.longest]
        if early:
            log_p[live.row_of[early], self._end] = float("-inf")
        if late:
            rows = live.row_of[late].flatten()
            end = log_p[rows, self._end]
            log_p[rows] = float("-inf")
            log_p[rows, self._end] = end
        return log_p

    def _survivors(self, live: _Live, state: State, kept: list[tuple[int, Continuations]]) -> _Live:
        """The hypotheses that go on, of the sentences that go on: indexing, for every decoder there is."""
        width = live.log_p.shape[1]
        parts = self._numbers(width, kept)
        numbers = torch.tensor([*chain(*parts)])  # at once: each tensor takes its time to make
        rows, parents, tokens, row_of, places = numbers.split([len(part) for part in parts])
        log_p = [beam.log_p + [-math.inf] * (self._width - len(beam.log_p)) for _, beam in kept]
        sentences, memory, limited = live.sentences, live.memory, live.limited
        if len(kept) < len(sentences):
            going = [row for row, _ in kept]
            sentences, memory = [sentences[row] for row in going], memory.select(torch.tensor(going), WIDTH)
            limited = None if limited is None else limited.select(going)
        return _Live(
            sentences=sentences,
            memory=memory,
            state=rows_of(state, rows),
            parents=parents,
            tokens=tokens,
            log_p=torch.tensor(log_p, dtype=live.log_p.dtype),
            places=places if len(places) else None,
            row_of=row_of.view(len(kept), self._width),
            limited=limited,
        )

    def _numbers(self, width: int, kept: list[tuple[int, Continuations]]) -> tuple[list[int], ...]:
        """Of beams that were `width` wide: the rows that are gone on from, each once; then of every place its parent
        among these, its token and its row of logits; and the places that are filled, or none where all are.

        All beams are as wide as the widest that there may be, so that what a decoder computes of a hypothesis
        doesn't depend on how many there are beside it.
        """
        rows: list[int] = []
        parents: list[int] = []
        tokens: list[int] = []
        row_of: list[int] = []
        places: list[int] = []
        for row, beam in kept:
            filled, empty = len(beam.tokens), self._width - len(beam.tokens)
            row_of += [*range(len(places), len(places) + filled)] + [len(places)] * empty
            places += range(len(tokens), len(tokens) + filled)
            tokens += beam.tokens + [self._marks.end] * empty
            new = {parent: index for index, parent in enumerate(dict.fromkeys(beam.parents), len(rows))}
            parents += [new[parent] for parent in beam.parents] + [len(rows)] * empty
            rows += [row * width + parent for parent in new]
        return _rounded(rows), parents, tokens, row_of, _rounded(places) if len(places) < len(tokens) else []


def _rounded(rows: list[int]) -> list[int]:
    """The rows, and the first once more and again until they are a multiple of `TOGETHER`, where they are more."""
    return rows + rows[:1] * (-len(rows) % TOGETHER if len(rows) > TOGETHER else 0)


@torch.inference_mode()
def beam_search(
    decoder: Decoder,
    encoded: Encoded,
    settings: Search,
    marks: Marks,
    *,
    n_best: int = 1,
    weights: bool = False,
    limits: Limits | None = None,
    captured: CapturedRuns | None = None,
) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses of each of the B sentences, the best first, made of the tokens that `limits` allow.

    At each step the beam keeps the best continuations of its hypotheses; those that write the end mark are set aside
    and ranked by their normalised score, and the beam is narrower by them from then on. Sentences that are done leave
    the batch: those whose beam is empty, or where nothing open could win within `settings.lookahead` tokens. Lengths
    count the end mark and are bounded by the source's and by `MAX_TARGET_TOKENS`: at the maximum, only the end mark may
    follow. On a device that is no processor beams stay there (`DeviceSearch`), and runs of steps are `captured` where
    that is given. Raises RunError where the model gives NaN, or no translation any probability.
    """
    if encoded.states.device.type != "cpu":
        there = DeviceSearch(decoder, settings, marks, n_best=n_best, weights=weights, limits=limits, captured=captured)
        return there.search(encoded)
    sentences = [Sentence(size, settings, n_best, marks) for size in encoded.lengths.tolist()]
    search = _Search(decoder, max(settings.beam, n_best), marks, limits, weights)
    live: _Live | None = search.start(encoded, sentences)
    length = 0
    while live is not None:
        length += 1
        live = search.advance(live, length)
    return [sentence.best() for sentence in sentences]
