"""Scaled dot-product attention."""

from __future__ import annotations

from torch import Tensor

from nmt.attention.attention import Attention, read
from nmt.attention.memory import Encoded, Memory
from nmt.errors import UserError


class ScaledDotAttention(Attention):
    """The product of query and state by the root of their size (Vaswani et al. 2017, equation 1), H and D being equal.

    score = qᵀ s / √H

    The product of two vectors of H numbers of variance 1 has the variance H; scaled, its softmax doesn't start near
    a hard choice, where gradients vanish. Good where dot attention starts too sharp. An LSTM's outputs are well below
    1: for them plain dot may learn sooner.
    """

    averages = True

    def __init__(self, query_size: int, key_size: int) -> None:
        if query_size != key_size:
            raise UserError(
                f"scaled-dot attention needs a decoder as wide as the encoder's output, not {query_size} "
                f"and {key_size}",
                "use scaled-general, or equal sizes (a both-ways encoder gives twice its hidden_size)",
            )
        super().__init__(query_size, key_size, context_size=key_size)

    def prepare(self, encoded: Encoded) -> Memory:
        """The states themselves."""
        return Memory(encoded, encoded.states)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """As `Attention.forward`."""
        return read(query * self.query_size**-0.5 @ memory.keys.mT, memory)
