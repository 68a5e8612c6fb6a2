"""Beam search for any decoder, many sentences at a time; a beam of one is greedy search."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nmt.attention.memory import Encoded, Memory
from nmt.cells.state import State
from nmt.errors import RunError
from nmt.model.decoder import Decoder
from nmt.recipe import Search
from nmt.search.hypothesis import Hypothesis, Marks, normalizer

MAX_TARGET_TOKENS = 4096
"""No hypothesis grows longer, whatever the settings and the source: time and memory are bounded."""


@dataclass(frozen=True)
class _Live:
    """N sentences still searched for, W hypotheses each, the best first."""

    sentences: Tensor
    """``[N]`` on the CPU: which of the B sentences they are."""
    memory: Memory
    state: State
    """Rows ``[N · W]``, those of a sentence together."""
    tokens: Tensor
    """``[N, W, 1 + t]``, from the begin mark on."""
    log_p: Tensor
    """``[N, W]``; -inf for a place in the beam that no hypothesis fills."""
    weights: Tensor | None
    """``[N, W, t, S]``, where asked for."""


class _Beam:
    """The search of one batch."""

    def __init__(self, decoder: Decoder, encoded: Encoded, settings: Search, marks: Marks, n_best: int) -> None:
        self._decoder = decoder
        self._settings = settings
        self._marks = marks
        self._n_best = n_best
        self._width = max(settings.beam, n_best)
        lengths = encoded.lengths - 1  # without the end mark
        longest = lengths * settings.max_length_ratio + settings.max_length_extra
        self._longest = longest.clamp(1, MAX_TARGET_TOKENS).long()  # [B], the end mark counted
        shortest = (lengths * settings.min_length_ratio).long() + 1
        self._shortest = torch.minimum(shortest, self._longest)  # [B]
        self.found: list[list[Hypothesis]] = [[] for _ in encoded.lengths]

    def start(self, encoded: Encoded, weights: bool) -> _Live:
        memory = self._decoder.prepare(encoded)
        rows = len(encoded.lengths)
        device = encoded.states.device
        begin = torch.full((rows, 1, 1), self._marks.begin, device=device)
        log_p = torch.zeros(rows, 1, dtype=torch.promote_types(encoded.states.dtype, torch.float32), device=device)
        looked = encoded.states.new_zeros(rows, 1, 0, encoded.mask.shape[1]) if weights else None
        return _Live(torch.arange(rows), memory, self._decoder.initial_state(memory), begin, log_p, looked)

    def advance(self, live: _Live) -> _Live | None:
        """One token more for every hypothesis; None when every sentence is done."""
        decoded = self._decoder.step(live.tokens[:, :, -1].flatten(), live.state, live.memory)
        following = self._following(live, decoded.features)  # [N, W, V]
        vocab_size = following.shape[-1]
        # Twice the beam: even if every hypothesis of the beam ended, as many go on.
        log_p, best = following.flatten(1).topk(min(2 * self._width, following[0].numel()))  # [N, C]
        if bool(log_p[:, 0].isnan().any()):
            raise RunError("the model computes no numbers but NaN", "its training has diverged; use another checkpoint")
        parents, tokens = best.div(vocab_size, rounding_mode="floor"), best % vocab_size
        weights = live.weights
        if weights is not None:
            looked = decoded.weights.view(*live.log_p.shape, 1, -1)  # [N, W, 1, S]
            weights = torch.cat([weights, looked], 2)
        self._collect(live, log_p, parents, tokens, weights)
        ends = tokens == self._marks.end
        # The best that do not end, in their order.
        chosen = ends.int().sort(dim=1, stable=True).indices[:, : self._width]  # [N, W']
        log_p = log_p.masked_fill(ends, float("-inf")).gather(1, chosen)
        parents, tokens = parents.gather(1, chosen), tokens.gather(1, chosen)
        kept = self._unfinished(live, log_p)
        if len(kept) == 0:
            return None
        return self._survivors(live, decoded.state, kept, log_p, parents, tokens, weights)

    def _following(self, live: _Live, features: Tensor) -> Tensor:
        """Log-probabilities ``[N, W, V]`` of every hypothesis with every token behind it."""
        logits = self._decoder.logits(features)
        log_p = torch.log_softmax(logits.to(live.log_p.dtype), -1).view(*live.log_p.shape, -1)
        log_p[..., list(self._marks.banned)] = float("-inf")
        length = live.tokens.shape[2]  # of the hypotheses that would end now, the end mark counted
        too_short = self._shortest[live.sentences] > length  # [N]
        if bool(too_short.any()):
            log_p[too_short.to(log_p.device), :, self._marks.end] = float("-inf")
        at_limit = self._longest[live.sentences] <= length  # [N]
        if bool(at_limit.any()):
            rows = at_limit.to(log_p.device)
            end = log_p[rows, :, self._marks.end]
            log_p[rows] = float("-inf")
            log_p[rows, :, self._marks.end] = end
        return log_p.add_(live.log_p[..., None])

    def _collect(self, live: _Live, log_p: Tensor, parents: Tensor, tokens: Tensor, weights: Tensor | None) -> None:
        """Keep the hypotheses that end now, if they are among the best of their beam."""
        length = live.tokens.shape[2]
        within = (tokens == self._marks.end)[:, : self._width] & log_p[:, : self._width].isfinite()
        rows, places = within.nonzero(as_tuple=True)  # [F], of the hypotheses that end
        parents, totals = parents[rows, places], log_p[rows, places]
        written = live.tokens[rows, parents, 1:].tolist()
        looked = [None] * len(rows) if weights is None else list(weights[rows, parents])
        for row, total, ids, seen in zip(rows.tolist(), totals.tolist(), written, looked, strict=True):
            sentence = int(live.sentences[row])
            size = int(live.memory.encoded.lengths[row])
            self.found[sentence].append(
                Hypothesis(
                    tokens=tuple(ids),
                    score=total / normalizer(length, self._settings),
                    log_probability=total,
                    finished=length < int(self._longest[sentence]),
                    weights=None if seen is None else seen[:, :size].clone(),
                )
            )

    def _unfinished(self, live: _Live, log_p: Tensor) -> Tensor:
        """Rows ``[N']`` (on the CPU) of the sentences to go on with: those that could still find something better.

        A sentence is done when as many hypotheses as the beam is wide have ended, or when the best that goes on could
        not beat the `n_best`-th, even if it cost nothing more and grew to the maximum length.
        """
        kept = []
        for row, (sentence, best) in enumerate(zip(live.sentences.tolist(), log_p[:, 0].tolist(), strict=True)):
            found = self.found[sentence]
            if best == float("-inf") and not found:
                raise RunError("the model finds every translation impossible", "use another checkpoint")
            if best == float("-inf") or len(found) >= self._width:
                continue
            bound = best / normalizer(int(self._longest[sentence]), self._settings)
            if sum(hypothesis.score >= bound for hypothesis in found) < self._n_best:
                kept.append(row)
        return torch.tensor(kept, dtype=torch.long)

    def _survivors(
        self,
        live: _Live,
        state: State,
        kept: Tensor,
        log_p: Tensor,
        parents: Tensor,
        tokens: Tensor,
        weights: Tensor | None,
    ) -> _Live:
        """The hypotheses that go on, of the sentences that go on: indexing, for every decoder there is."""
        rows = kept.to(log_p.device)
        everything = len(kept) == len(live.sentences)
        memory = live.memory if everything else live.memory.select(kept)
        parents = parents[rows]  # [N', W']
        index = (rows[:, None] * live.log_p.shape[1] + parents).flatten()  # [N' · W']
        grown = torch.cat([live.tokens[rows[:, None], parents], tokens[rows][..., None]], 2)
        if weights is not None:
            weights = weights[rows[:, None], parents][..., : memory.encoded.mask.shape[1]]
        return _Live(
            live.sentences[kept], memory, tuple(tensor[index] for tensor in state), grown, log_p[rows], weights
        )


@torch.inference_mode()
def beam_search(
    decoder: Decoder, encoded: Encoded, settings: Search, marks: Marks, *, n_best: int = 1, weights: bool = False
) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses of each of the B sentences, the best first.

    At each step the beam keeps the best continuations of its hypotheses; those that write the end mark are set aside
    and ranked by their normalised score. Sentences that are done leave the batch. Lengths count the end mark and are
    bounded by the source's and by `MAX_TARGET_TOKENS`: at the maximum, only the end mark may follow. Raises
    RunError where the model gives NaN, or no translation any probability.
    """
    beam = _Beam(decoder, encoded, settings, marks, n_best)
    live: _Live | None = beam.start(encoded, weights)
    while live is not None:
        live = beam.advance(live)
    return [sorted(found, key=lambda hypothesis: -hypothesis.score)[:n_best] for found in beam.found]
