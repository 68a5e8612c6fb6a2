"""The best continuations of hypotheses, without sorting all that there are."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

BLOCK = 64
"""Tokens that one maximum stands for."""


class Continuations(NamedTuple):
    """Hypotheses of one sentence, each a token longer than one before it, the best first: an entry each."""

    log_p: list[float]
    """Of the whole hypothesis."""
    parents: list[int]
    """Which of the W before it goes on."""
    tokens: list[int]
    """Its last."""


class Best(NamedTuple):
    """The continuations of N sentences, C each, the best first, where they were computed."""

    log_p: Tensor
    """``[N, C]``, of whole hypotheses."""
    places: Tensor
    """``[N, C]``, where in the M · BLOCK tokens that were looked into."""
    chosen: Tensor
    """``[N, M]``: the blocks that these are of, numbered through a sentence's W hypotheses."""
    blocks: int
    """Of one hypothesis."""
    vocab_size: int

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, parents and tokens ``[N, C]``, without waiting for a device."""
        block = self.chosen.gather(1, self.places.div(BLOCK, rounding_mode="floor"))
        tokens = block.remainder(self.blocks) * BLOCK + self.places.remainder(BLOCK)
        return self.log_p, block.div(self.blocks, rounding_mode="floor"), tokens.clamp_(max=self.vocab_size - 1)

    def lists(self) -> list[Continuations]:
        """The same of each sentence: a few numbers, for which lists take a processor less time than tensors do."""

        def continuations(block_of: list[int], log_p: list[float], places: list[int]) -> Continuations:
            pairs = [divmod(block_of[each // BLOCK], self.blocks) for each in places]
            tokens = [block * BLOCK + each % BLOCK for (_, block), each in zip(pairs, places, strict=True)]
            last = self.vocab_size - 1
            return Continuations(log_p, [parent for parent, _ in pairs], [min(token, last) for token in tokens])

        rows = zip(self.chosen.tolist(), self.log_p.tolist(), self.places.tolist(), strict=True)
        return [continuations(*row) for row in rows]


def best(following: Tensor, row_of: Tensor, log_p: Tensor, count: int) -> Best:
    """The `count` best for each of N sentences, or all where there are fewer; what has no probability may be any.

    `following` ``[L, V]`` are the log-probabilities of the tokens behind L hypotheses, `row_of` ``[N, W]`` which of the
    L each of a sentence's W is, and `log_p` ``[N, W]`` its own, -inf for none. Only the M blocks of tokens with the
    greatest maxima are looked into, M the count, for no other can have one of the best.
    """
    sentences, width = log_p.shape
    vocab_size = following.shape[1]
    if vocab_size % BLOCK:
        following = F.pad(following, (0, -vocab_size % BLOCK), value=float("-inf"))
    blocks = following.shape[1] // BLOCK
    whole = following.view(-1, BLOCK)  # [L · blocks, BLOCK]
    maxima = whole.amax(-1).view(-1, blocks).index_select(0, row_of.flatten()).view(sentences, width, blocks)
    chosen = (maxima + log_p[..., None]).flatten(1).topk(min(count, width * blocks)).indices  # [N, M]
    parents = chosen.div(blocks, rounding_mode="floor")
    looked_into = whole.index_select(
        0, chosen.remainder(blocks).add_(row_of.gather(1, parents), alpha=blocks).flatten()
    )
    total = (looked_into.view(*chosen.shape, BLOCK) + log_p.gather(1, parents)[..., None]).flatten(1)  # [N, M · BLOCK]
    found, places = total.topk(min(count, width * vocab_size))  # [N, C]
    return Best(found, places, chosen, blocks, vocab_size)
