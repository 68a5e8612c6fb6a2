"""Input feeding along time: a decoder's whole step as a recurrence, for the engines that run cells."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.cells.cell import Cell
from nmt.cells.layers import CellStack
from nmt.cells.state import Noise, State
from nmt.model.decoder import Decoded
from nmt.model.readout import Readout

Read = Callable[[Tensor, Tensor], Tensor]
"""The top output ``[R, H]`` and the context ``[R, D]`` -> features ``[R, H]`` before dropout."""

Draw = Callable[[int, int], Noise]
"""Rows and steps -> the decoder's noise."""

Finish = Callable[[Tensor, State, Noise, Read], Decoded]
"""A step from the bottom cell's projected input ``[R, G]`` on."""


class Feeding(Cell):
    """A decoder's steps over the embeddings of one batch; the outputs are features, which are fed back.

    What depends on the embeddings alone is `project`: the readout's part of them and, where the bottom cell's own
    projection is a linear layer, their part of that. The state is the decoder's, the features fed back its last tensor.
    Made anew for each batch, since `finish` reads that batch's memory; its modules are the decoder's.
    """

    lasting = False

    def __init__(self, bottom: CellStack, readout: Readout, features_size: int, draw: Draw, finish: Finish) -> None:
        super().__init__(bottom.input_size - features_size, features_size, state_shapes=())
        self.bottom, self._draw, self._finish = bottom, draw, finish
        # Weights are cut here, once, so that all steps multiply by the same tensors.
        self._embedded, self._read = readout.apart()
        layer = bottom.input_layer()
        self._bias = None if layer is None else layer.bias
        self._weights = None if layer is None else layer.weight.split([self.input_size, features_size], 1)
        self._size = self.input_size if layer is None else layer.weight.shape[0]

    def project(self, xs: Tensor) -> Tensor:
        """``[..., E] -> [..., G]``: for the bottom cell, then for the readout."""
        below = xs if self._weights is None else F.linear(xs, self._weights[0], self._bias)
        added = self._embedded(xs)
        return torch.cat([below, added], -1) if added.shape[-1] else below

    def noise(self, rows: int, steps: int) -> Noise:
        """As the decoder draws it."""
        return self._draw(rows, steps)

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, G]`` and the decoder's state -> features ``[B, H]`` and the next state."""
        fed = state[-1]
        below, added = projected[..., : self._size], projected[..., self._size :]
        if self._weights is None:
            below = self.bottom.project(torch.cat([below, fed], -1))
        else:
            below = below + F.linear(fed, self._weights[1])

        def read(h: Tensor, context: Tensor) -> Tensor:
            return self._read(h, context, added)

        features, following, _ = self._finish(below, state, noise, read)
        return features, following
