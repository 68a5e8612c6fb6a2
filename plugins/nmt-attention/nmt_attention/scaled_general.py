"""Bilinear attention with a learned scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmt.attention.attention import Attention, read
from nmt.attention.memory import Encoded, Memory


class ScaledGeneralAttention(Attention):
    """A bilinear score (Luong et al. 2015, equation 8, "general") with a learned scale, as in Google's seq2seq library
    of TensorFlow.

    score = g qᵀ W s, g = 1 at the start

    How sharp the weights are is one number, which learns faster than all of W together. Good where general is.
    """

    averages = True

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__(query_size, key_size, context_size=key_size)
        self.key = nn.Linear(key_size, query_size, bias=False)
        self.gain = nn.Parameter(torch.ones(1))

    def prepare(self, encoded: Encoded) -> Memory:
        """Keys g W s ``[B, S, H]``."""
        return Memory(encoded, self.gain * self.key(encoded.states))

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """As `Attention.forward`."""
        return read(query @ memory.keys.mT, memory)
