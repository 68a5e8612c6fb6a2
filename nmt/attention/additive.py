"""Additive attention."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from nmt.activations import tanh
from nmt.attention.attention import Attention, read
from nmt.attention.memory import Encoded, Memory


class AdditiveAttention(Attention):
    """A small network's score (Bahdanau et al. 2015): score = vᵀ tanh(U q + W s + b).

    `size`: of the network's hidden layer; the query's size where it isn't given.
    """

    averages = True

    def __init__(self, query_size: int, key_size: int, *, size: Annotated[int, Field(gt=0)] | None = None) -> None:
        super().__init__(query_size, key_size, context_size=key_size)
        self.query = nn.Linear(query_size, size or query_size, bias=False)
        self.key = nn.Linear(key_size, size or query_size)
        self.score = nn.Linear(size or query_size, 1, bias=False)

    def prepare(self, encoded: Encoded) -> Memory:
        """Keys W s + b ``[B, S, A]``."""
        return Memory(encoded, self.key(encoded.states))

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """As `Attention.forward`."""
        hidden = tanh(self.query(query)[:, :, None] + memory.keys[:, None])  # [B, T, S, A]
        return read(self.score(hidden).squeeze(-1), memory)
