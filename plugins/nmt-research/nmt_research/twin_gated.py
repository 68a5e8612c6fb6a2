"""The addition-subtraction twin-gated recurrent network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmt.cells.cell import Cell
from nmt.cells.state import Noise, State


class ATRCell(Cell):
    """The addition-subtraction twin-gated recurrent network (Zhang et al. 2018): two products, two gates from them.

    p = W x + b,  q = R h
    i = σ(p + q)
    f = σ(p - q)
    h' = i ∘ p + f ∘ h
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.input = nn.Linear(input_size, hidden_size)
        self.recurrent = nn.Linear(hidden_size, hidden_size, bias=False)
        nn.init.zeros_(self.input.bias)

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., H]``: p."""
        projected: Tensor = self.input(xs)
        return projected

    def input_layer(self) -> nn.Linear:
        """W and b."""
        return self.input

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, H]`` and (h,) -> h' and (h',)."""
        (h,) = state
        q = self.recurrent(h)
        h = torch.sigmoid(projected + q) * projected + torch.sigmoid(projected - q) * h
        return h, (h,)
