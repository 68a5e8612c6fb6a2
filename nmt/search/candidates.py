"""The best continuations of hypotheses, without sorting all that there are."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

BLOCK = 64
"""Tokens that one maximum stands for."""


class Candidates(NamedTuple):
    """The C best continuations of each of N sentences, the best first; each ``[N, C]``."""

    log_p: Tensor
    """Of the hypothesis with the token behind it."""
    parents: Tensor
    """Which of the W hypotheses goes on."""
    tokens: Tensor


def best(following: Tensor, row_of: Tensor, log_p: Tensor, count: int) -> Candidates:
    """The `count` best continuations, or all where there are fewer; what has no probability may be any.

    `following` ``[L, V]`` are the log-probabilities of the tokens behind L hypotheses, `row_of` ``[N, W]`` which of the
    L each of a sentence's W is, and `log_p` ``[N, W]`` its own, -inf for none. Only the C blocks of tokens with the
    greatest maxima are looked into, for no other can have one of the C best.
    """
    sentences, width = log_p.shape
    vocab_size = following.shape[1]
    if vocab_size % BLOCK:
        following = F.pad(following, (0, -vocab_size % BLOCK), value=float("-inf"))
    blocks = following.shape[1] // BLOCK
    whole = following.view(-1, BLOCK)  # [L · blocks, BLOCK]
    maxima = whole.amax(-1).view(-1, blocks).index_select(0, row_of.flatten()).view(sentences, width, blocks)
    greatest = (maxima + log_p[..., None]).flatten(1)  # [N, W · blocks]
    chosen = greatest.topk(min(count, width * blocks)).indices  # [N, M]
    parents = chosen.div(blocks, rounding_mode="floor")
    block = chosen - parents * blocks
    looked_into = whole.index_select(0, (row_of.gather(1, parents) * blocks + block).flatten())
    total = (looked_into.view(*chosen.shape, BLOCK) + log_p.gather(1, parents)[..., None]).flatten(1)  # [N, M · BLOCK]
    found, index = total.topk(min(count, width * vocab_size))  # [N, C]
    of_chosen = index.div(BLOCK, rounding_mode="floor")
    tokens = (block.gather(1, of_chosen) * BLOCK + index.remainder(BLOCK)).clamp_max_(vocab_size - 1)
    return Candidates(found, parents.gather(1, of_chosen), tokens)
