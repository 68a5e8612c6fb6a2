"""Bilinear attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmt.attention.attention import Attention, read
from nmt.attention.memory import Encoded, Memory


class GeneralAttention(Attention):
    """A bilinear score (Luong et al. 2015, "general"): score = qᵀ W s."""

    averages = True

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__(query_size, key_size, context_size=key_size)
        self.key = nn.Linear(key_size, query_size, bias=False)

    def prepare(self, encoded: Encoded) -> Memory:
        """Keys W s ``[B, S, H]``."""
        return Memory(encoded, self.key(encoded.states))

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """As `Attention.forward`."""
        return read(torch.bmm(query, memory.keys.mT), memory)
