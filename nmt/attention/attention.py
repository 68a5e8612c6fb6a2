"""The contract of an attention: what a plugin author writes."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from nmt.attention.memory import Encoded, Memory


class Attention(nn.Module, ABC):
    """Reads the encoded source for a query: a score for each source position, then their weighted mean.

    `query_size` is the decoder's H, `key_size` the encoder's D. Keyword-only parameters of a subclass's constructor
    are the recipe's options. `context_size` is the size of what it reads: D, or 0 where it reads nothing.
    """

    def __init__(self, query_size: int, key_size: int, *, context_size: int) -> None:
        super().__init__()
        self.query_size = query_size
        self.key_size = key_size
        self.context_size = context_size

    @abstractmethod
    def prepare(self, encoded: Encoded) -> Memory:
        """The keys ``[B, S, A]``, made once a sentence."""

    @abstractmethod
    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Queries ``[B, T, H]`` -> contexts ``[B, T, context_size]`` and weights ``[B, T, S]``.

        Each query of a sentence is answered by itself; padding has weight 0. T are the steps of a target in training
        and the hypotheses of a beam in search.
        """


def read(scores: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
    """Scores ``[B, T, S]`` -> contexts ``[B, T, D]`` and weights ``[B, T, S]``, by a softmax over the tokens.

    a = softmax(score), context = Σ_s a_s · state_s
    """
    mask = memory.encoded.mask[:, None]  # [B, 1, S]
    weights = torch.softmax(scores.masked_fill(~mask, float("-inf")), -1)
    return weights @ memory.encoded.states, weights
