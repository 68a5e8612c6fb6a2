"""No attention: the fixed-vector encoder-decoder."""

from __future__ import annotations

from torch import Tensor

from nmt.attention.attention import Attention
from nmt.attention.memory import Encoded, Memory


class NoAttention(Attention):
    """Reads nothing: the decoder knows of the source only what its first state holds (Sutskever et al. 2014).

    context = () and every weight is 0.
    """

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__(query_size, key_size, context_size=0)

    def prepare(self, encoded: Encoded) -> Memory:
        """Keys of size 0."""
        return Memory(encoded, encoded.states[..., :0])

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """As `Attention.forward`; the contexts are ``[B, T, 0]``."""
        return query[..., :0], query.new_zeros(*query.shape[:2], memory.encoded.mask.shape[1])
