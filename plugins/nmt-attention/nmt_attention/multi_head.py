"""Multi-head attention for a recurrent decoder's query."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from nmt.attention.attention import Attention
from nmt.attention.memory import Encoded, Memory
from nmt.errors import UserError


class MultiHeadAttention(Attention):
    """Several scaled dot products side by side (Vaswani et al. 2017, equation 1 and section 3.2.2), for the query of
    a recurrent decoder.

    a_i = softmax((Q_i q)ᵀ (K_i s) / √d), head_i = Σ_s a_is V_i s, context = O [head_1; …; head_n], d = D / n

    `heads`: n, a divisor of the encoder's D. The weights that are given are the mean over the heads. Good where a
    step needs several places of the source at once, and where H and D differ.
    """

    def __init__(self, query_size: int, key_size: int, *, heads: Annotated[int, Field(gt=0)] = 4) -> None:
        if key_size % heads:
            raise UserError(
                f"multi-head attention: {heads} heads don't divide the encoder's output of {key_size}",
                "choose a divisor (a both-ways encoder gives twice its hidden_size)",
            )
        super().__init__(query_size, key_size, context_size=key_size)
        self._heads = heads
        self.query = nn.Linear(query_size, key_size, bias=False)
        self.key = nn.Linear(key_size, key_size, bias=False)
        self.value = nn.Linear(key_size, key_size, bias=False)
        self.output = nn.Linear(key_size, key_size, bias=False)

    def prepare(self, encoded: Encoded) -> Memory:
        """K s and V s of all heads, side by side ``[B, S, 2D]``."""
        return Memory(encoded, torch.cat([self.key(encoded.states), self.value(encoded.states)], -1))

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """As `Attention.forward`."""
        keys, values = (self._split(half) for half in memory.keys.chunk(2, -1))  # [B, n, S, d]
        queries = self._split(self.query(query)) * keys.shape[-1] ** -0.5  # [B, n, T, d]
        hidden = ~memory.encoded.mask[:, None, None]  # [B, 1, 1, S]
        weights = torch.softmax((queries @ keys.mT).masked_fill(hidden, float("-inf")), -1)  # [B, n, T, S]
        heads = (weights @ values).transpose(1, 2).flatten(2)  # [B, T, D]
        return self.output(heads), weights.mean(1)

    def _split(self, xs: Tensor) -> Tensor:
        """``[B, L, D] -> [B, n, L, d]``."""
        return xs.view(*xs.shape[:2], self._heads, -1).transpose(1, 2)
