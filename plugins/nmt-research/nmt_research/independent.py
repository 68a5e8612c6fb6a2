"""The independently recurrent network."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from nmt.cells.cell import Cell
from nmt.cells.state import Noise, State


class IndRNNCell(Cell):
    """The independently recurrent network (Li et al. 2018): each unit reads its own state alone.

    h' = f(W x + b + u ∘ h), f = relu or tanh

    `nonlinearity`: relu, with which gradients neither vanish nor explode while u is near 1, or tanh. u starts evenly
    spread over (0, 1), so that there are units of short and of long memory (section 4.1).
    """

    def __init__(self, input_size: int, hidden_size: int, *, nonlinearity: Literal["relu", "tanh"] = "relu") -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self._nonlinearity = torch.relu if nonlinearity == "relu" else torch.tanh
        self.input = nn.Linear(input_size, hidden_size)
        self.recurrent = nn.Parameter(torch.rand(hidden_size))
        nn.init.zeros_(self.input.bias)

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., H]``: W x + b."""
        projected: Tensor = self.input(xs)
        return projected

    def input_layer(self) -> nn.Linear:
        """W and b."""
        return self.input

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, H]`` and (h,) -> h' and (h',)."""
        h = self._nonlinearity(torch.addcmul(projected, self.recurrent, state[0]))
        return h, (h,)
