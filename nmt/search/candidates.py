"""The best continuations of hypotheses, without sorting all that there are."""

from __future__ import annotations

from typing import NamedTuple

import torch
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


def best(following: Tensor, log_p: Tensor, count: int) -> Candidates:
    """The `count` best continuations, or all where there are fewer; what has no probability may be any.

    `following` ``[N, W, V]`` are the log-probabilities of the tokens, `log_p` ``[N, W]`` those of the hypotheses. Only
    the C blocks of tokens with the greatest maxima are looked into, for no other can have one of the C best.
    """
    sentences, width, vocab_size = following.shape
    if vocab_size % BLOCK:
        following = F.pad(following, (0, -vocab_size % BLOCK), value=float("-inf"))
    blocks = following.shape[2] // BLOCK
    whole = following.view(-1, BLOCK)  # [N · W · blocks, BLOCK]
    greatest = (whole.amax(-1).view(sentences, width, blocks) + log_p[..., None]).flatten(1)  # [N, W · blocks]
    chosen = greatest.topk(min(count, width * blocks)).indices  # [N, M]
    parents = chosen.div(blocks, rounding_mode="floor")
    firsts = torch.arange(0, len(whole), width * blocks, device=chosen.device)[:, None]
    looked_into = whole.index_select(0, (chosen + firsts).flatten()).view(*chosen.shape, BLOCK)
    total = (looked_into + log_p.gather(1, parents)[..., None]).flatten(1)  # [N, M · BLOCK]
    found, index = total.topk(min(count, width * vocab_size))  # [N, C]
    block = chosen.gather(1, index.div(BLOCK, rounding_mode="floor"))
    tokens = (block.remainder(blocks) * BLOCK + index.remainder(BLOCK)).clamp_max_(vocab_size - 1)
    return Candidates(found, block.div(blocks, rounding_mode="floor"), tokens)
