"""Dot-product attention."""

from __future__ import annotations

import torch
from torch import Tensor

from nmt.attention.attention import Attention, read
from nmt.attention.memory import Encoded, Memory
from nmt.errors import UserError


class DotAttention(Attention):
    """The product of query and state (Luong et al. 2015, "dot"): score = qᵀ s. H and D must be equal."""

    averages = True

    def __init__(self, query_size: int, key_size: int) -> None:
        if query_size != key_size:
            raise UserError(
                f"dot attention needs a decoder as wide as the encoder's output, not {query_size} and {key_size}",
                "use general attention, or equal sizes (a both-ways encoder gives twice its hidden_size)",
            )
        super().__init__(query_size, key_size, context_size=key_size)

    def prepare(self, encoded: Encoded) -> Memory:
        """The states themselves."""
        return Memory(encoded, encoded.states)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """As `Attention.forward`."""
        return read(torch.bmm(query, memory.keys.mT), memory)
