"""Input feeding along time: a decoder's whole step as a recurrence, for the engines that run cells."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from nmt.cells.cell import Cell
from nmt.cells.layers import CellStack
from nmt.cells.state import Noise, State
from nmt.model.decoder import Decoded
from nmt.model.token_input import TokenInput

Draw = Callable[[int, int], Noise]
"""Rows and steps -> the decoder's noise."""

Advance = Callable[[Tensor, State, Noise], Decoded]
"""A step from what the token brings to it, ``[R, G]``, on."""


class Feeding(Cell):
    """A decoder's steps over the embeddings of one batch; the outputs are features, which are fed back.

    The state is the decoder's. Made anew for each batch, since `advance` reads that batch's memory; its modules are the
    decoder's.
    """

    lasting = False

    def __init__(
        self, bottom: CellStack, features_size: int, token_input: TokenInput, draw: Draw, advance: Advance
    ) -> None:
        super().__init__(bottom.input_size - features_size, features_size, state_shapes=())
        self.bottom, self._token_input, self._draw, self._advance = bottom, token_input, draw, advance

    def project(self, xs: Tensor) -> Tensor:
        """``[..., E] -> [..., G]``: what the tokens bring to their steps."""
        return self._token_input.project(xs)

    def noise(self, rows: int, steps: int) -> Noise:
        """As the decoder draws it."""
        return self._draw(rows, steps)

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, G]`` and the decoder's state -> features ``[B, H]`` and the next state."""
        features, following, _ = self._advance(projected, state, noise)
        return features, following
