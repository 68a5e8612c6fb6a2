"""Beam search for any decoder, many sentences at a time; a beam of one is greedy search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nmt.attention.memory import WIDTH, Encoded, Memory
from nmt.cells.state import State
from nmt.model.decoder import Decoder
from nmt.recipe import Search
from nmt.search.candidates import best
from nmt.search.hypothesis import Hypothesis, Marks
from nmt.search.sentence import Beam, Sentence


@dataclass(frozen=True)
class Limits:
    """The tokens that translations may be made of, where not the whole vocabulary."""

    tokens: Tensor
    """``[C]``, rising, the end mark among them."""
    own: Tensor
    """``[B, C]``, True where a sentence may use a token: so that it doesn't depend on its neighbours."""


@dataclass(frozen=True)
class _Live:
    """N sentences still searched for, W hypotheses each, the best first."""

    sentences: list[Sentence]
    memory: Memory
    state: State
    """Rows ``[N · W]``, those of a sentence together."""
    tokens: Tensor
    """``[N · W]``, the last of each hypothesis."""
    log_p: Tensor
    """``[N, W]``; -inf for a place in the beam that no hypothesis fills."""
    own: Tensor | None
    """``[N, 1, C]``, the tokens that each sentence may use, where not all."""


class _Search:
    """The search of one batch."""

    def __init__(self, decoder: Decoder, width: int, marks: Marks, limits: Limits | None, weights: bool) -> None:
        self._decoder = decoder
        self._width = width
        self._weights = weights
        self._limits = limits
        self._marks = marks
        self._output: Callable[[Tensor], Tensor] = decoder.logits
        self._end, self._banned = marks.end, torch.tensor(marks.banned, dtype=torch.long)  # their columns of logits
        if limits is not None:
            self._output = decoder.output.over(limits.tokens)
            self._end = int(torch.searchsorted(limits.tokens, marks.end))
            self._banned = torch.isin(limits.tokens, self._banned).nonzero().squeeze(1)

    def start(self, encoded: Encoded, sentences: list[Sentence]) -> _Live:
        encoded = encoded.widened()
        memory = self._decoder.prepare(encoded)
        device, rows = encoded.states.device, len(sentences)
        self._banned = self._banned.to(device)
        begin = torch.full((rows,), self._marks.begin, device=device)
        log_p = torch.zeros(rows, 1, dtype=torch.promote_types(encoded.states.dtype, torch.float32), device=device)
        own = None if self._limits is None else self._limits.own[:, None].to(device)
        return _Live(sentences, memory, self._decoder.initial_state(memory), begin, log_p, own)

    def advance(self, live: _Live, length: int) -> _Live | None:
        """One token more for every hypothesis, its `length`-th; None when every sentence is done."""
        decoded = self._decoder.step(live.tokens, live.state, live.memory)
        # Twice the beam: even if every hypothesis of the beam ended, as many go on.
        found = best(self._following(live, decoded.features, length), live.log_p, 2 * self._width)
        tokens = found.tokens if self._limits is None else self._limits.tokens.to(found.tokens.device)[found.tokens]
        looked = decoded.weights.unflatten(0, live.log_p.shape) if self._weights else [None] * len(live.sentences)
        beams = [
            sentence.advance(*row)
            for sentence, *row in zip(
                live.sentences, looked, found.log_p.tolist(), found.parents.tolist(), tokens.tolist(), strict=True
            )
        ]
        kept = [(row, beam) for row, beam in enumerate(beams) if beam is not None]
        return self._survivors(live, decoded.state, kept) if kept else None

    def _following(self, live: _Live, features: Tensor, length: int) -> Tensor:
        """Log-probabilities ``[N, W, C]`` of every token behind every hypothesis."""
        logits = self._output(features).to(live.log_p.dtype).view(*live.log_p.shape, -1)
        if live.own is not None:
            logits.masked_fill_(~live.own, float("-inf"))
        log_p = torch.log_softmax(logits, -1).index_fill_(-1, self._banned, float("-inf"))
        for row, sentence in enumerate(live.sentences):
            if length < sentence.shortest:
                log_p[row, :, self._end] = float("-inf")
            if length >= sentence.longest:
                end = log_p[row, :, self._end].clone()
                log_p[row] = float("-inf")
                log_p[row, :, self._end] = end
        return log_p

    def _survivors(self, live: _Live, state: State, kept: list[tuple[int, Beam]]) -> _Live:
        """The hypotheses that go on, of the sentences that go on: indexing, for every decoder there is."""
        width, device = live.log_p.shape[1], live.log_p.device
        index = torch.tensor([row * width + parent for row, beam in kept for parent in beam.parents], device=device)
        tokens = torch.tensor([token for _, beam in kept for token in beam.tokens], device=device)
        log_p = torch.tensor([beam.log_p for _, beam in kept], dtype=live.log_p.dtype, device=device)
        state = tuple(tensor.index_select(0, index) for tensor in state)
        if len(kept) == len(live.sentences):
            return _Live(live.sentences, live.memory, state, tokens, log_p, live.own)
        rows = torch.tensor([row for row, _ in kept])
        own = None if live.own is None else live.own[rows.to(device)]
        return _Live(
            [live.sentences[row] for row, _ in kept], live.memory.select(rows, WIDTH), state, tokens, log_p, own
        )


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
) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses of each of the B sentences, the best first, made of the tokens that `limits` allow.

    At each step the beam keeps the best continuations of its hypotheses; those that write the end mark are set aside
    and ranked by their normalised score. Sentences that are done leave the batch. Lengths count the end mark and are
    bounded by the source's and by `MAX_TARGET_TOKENS`: at the maximum, only the end mark may follow. Raises
    RunError where the model gives NaN, or no translation any probability.
    """
    sentences = [Sentence(size, settings, n_best, marks) for size in encoded.lengths.tolist()]
    search = _Search(decoder, max(settings.beam, n_best), marks, limits, weights)
    live: _Live | None = search.start(encoded, sentences)
    length = 0
    while live is not None:
        length += 1
        live = search.advance(live, length)
    return [sentence.best() for sentence in sentences]
