"""The recurrent encoder: any cell, one way or both ways, any depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from nmt.attention.memory import Encoded
from nmt.cells.cell import Cell
from nmt.cells.engines import Unroll, mask_of
from nmt.cells.layers import BothWays, Layer, LayerStack, OneWay
from nmt.model.embeddings import TokenEmbedding
from nmt.model.encoder import Encoder
from nmt.options import CellChoice, Choice
from nmt.registry import CELL


class RecurrentEncoder(Encoder):
    """A stack of recurrent layers over the source embeddings.

    `cell`: what each of the `layers` is made of. `bidirectional`: read both ways, or from the first token to the last
    alone. `hidden_size` is that of a direction, so both ways give D = 2 · hidden_size. `dropout` is applied between
    layers and to the states given out, `embedding_dropout` to the embeddings. `residual` adds each layer's input to
    its output, from the second layer on.
    """

    def __init__(
        self,
        embedding: TokenEmbedding,
        unroll: Unroll,
        *,
        cell: CellChoice = Choice("lstm"),
        hidden_size: Annotated[int, Field(gt=0)] = 256,
        layers: Annotated[int, Field(gt=0, le=1000)] = 1,
        bidirectional: bool = True,
        dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
        embedding_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
        residual: bool = False,
    ) -> None:
        super().__init__(embedding, unroll, output_size=hidden_size * (2 if bidirectional else 1))
        self._cells: dict[str, type[Cell]] = {cell.name: cell.loaded(CELL)}
        self._dropout = dropout
        self._embedding_dropout = embedding_dropout

        def layer(input_size: int) -> Layer:
            ahead: Cell = cell.build(CELL, input_size, hidden_size)
            if not bidirectional:
                return OneWay(ahead, unroll)
            return BothWays(ahead, cell.build(CELL, input_size, hidden_size), unroll)

        sizes = [embedding.size] + [self.output_size] * (layers - 1)
        self.layers = LayerStack([layer(size) for size in sizes], dropout=dropout, residual=residual)

    def recurrences(self) -> Mapping[str, type[Cell]]:
        """The cell of each layer and direction."""
        return self._cells

    def forward(self, source: Tensor, lengths: Tensor) -> Encoded:
        """As `Encoder.forward`."""
        xs = F.dropout(self.embedding(source), self._embedding_dropout, self.training)  # [B, S, E]
        states, summary = self.layers(xs, lengths)  # [B, S, D], [B, D]
        states = F.dropout(states, self._dropout, self.training)
        return Encoded(states, mask_of(lengths, source.shape[1], source.device), lengths, summary)
