"""The contract of an encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from nmt.attention.memory import Encoded
from nmt.cells.cell import Cell
from nmt.cells.engines import Unroll
from nmt.model.embeddings import TokenEmbedding


class Encoder(nn.Module, ABC):
    """Reads source sentences. The framework gives the source embedding and the way to run a cell along time.

    Keyword-only parameters of a subclass's constructor are the recipe's options. A sentence's states are the same
    alone and in any batch.
    """

    def __init__(self, embedding: TokenEmbedding, unroll: Unroll, *, output_size: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.unroll = unroll
        self.output_size = output_size

    @abstractmethod
    def forward(self, source: Tensor, lengths: Tensor) -> Encoded:
        """Source tokens ``[B, S]`` and lengths ``[B]`` (on the CPU) -> states ``[B, S, D]`` and what goes with them."""

    def recurrences(self) -> Mapping[str, type[Cell]]:
        """What is run along time by `unroll`, by name: for the log, which says what runs it."""
        return {}
