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


def best(following: Tensor, row_of: Tensor, log_p: Tensor, count: int) -> list[Continuations]:
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
    found, index = total.topk(min(count, width * vocab_size))  # [N, C]

    def continuations(block_of: list[int], log_p: list[float], index: list[int]) -> Continuations:
        # A few numbers, for which lists take less time than tensors do.
        pairs = [divmod(block_of[each // BLOCK], blocks) for each in index]
        tokens = [block * BLOCK + each % BLOCK for (_, block), each in zip(pairs, index, strict=True)]
        return Continuations(log_p, [parent for parent, _ in pairs], [min(token, vocab_size - 1) for token in tokens])

    return [continuations(*row) for row in zip(chosen.tolist(), found.tolist(), index.tolist(), strict=True)]
