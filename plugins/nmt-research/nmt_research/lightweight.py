"""The lightweight recurrent network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmt.cells.cell import Cell
from nmt.cells.state import Noise, State


class LRNCell(Cell):
    """The lightweight recurrent network (Zhang and Sennrich 2019): every product can be made before the loop.

    q = W_q x + b_q,  k = W_k x + b_k,  v = W_v x + b_v
    i = σ(k + h)
    f = σ(q - h)
    h' = tanh(i ∘ v + f ∘ h)
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.input = nn.Linear(input_size, 3 * hidden_size)
        nn.init.zeros_(self.input.bias)

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., 3H]``: q, k and v."""
        projected: Tensor = self.input(xs)
        return projected

    def input_layer(self) -> nn.Linear:
        """W and b."""
        return self.input

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, 3H]`` and (h,) -> h' and (h',)."""
        (h,) = state
        q, k, v = projected.chunk(3, -1)
        h = torch.tanh(torch.sigmoid(k + h) * v + torch.sigmoid(q - h) * h)
        return h, (h,)
