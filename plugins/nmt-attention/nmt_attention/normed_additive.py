"""Additive attention with a normed score."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from nmt.attention.attention import Attention, read
from nmt.attention.memory import Encoded, Memory
from nmt_attention.normed_network import NormedNetwork


class NormedAdditiveAttention(Attention):
    """Additive attention (Bahdanau et al. 2015, A.1.2) whose score has its own length, learned apart from its
    direction (weight normalisation, Salimans and Kingma 2016, equation 2).

    score = g (v / ‖v‖)ᵀ tanh(U q + W s + b)

    `size`: of the network's hidden layer, A; the query's size where it isn't given. Good where additive attention is,
    with less care for the learning rate: g alone makes the weights sharper.
    """

    averages = True

    def __init__(self, query_size: int, key_size: int, *, size: Annotated[int, Field(gt=0)] | None = None) -> None:
        super().__init__(query_size, key_size, context_size=key_size)
        self.network = NormedNetwork(query_size, key_size, size or query_size)

    def prepare(self, encoded: Encoded) -> Memory:
        """Keys W s + b ``[B, S, A]``."""
        return Memory(encoded, self.network.keys(encoded.states))

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """As `Attention.forward`."""
        return read(self.network(query, memory.keys), memory)
