"""The minimal gated unit."""

import torch
from torch import Tensor, nn

from nmt.cells.cell import Cell
from nmt.cells.state import Noise, State


class MGUCell(Cell):
    """The minimal gated unit (Zhou et al. 2016): a GRU whose one gate both forgets and resets.

    f  = σ(W_f x + b_f + R_f h)
    h~ = tanh(W_h x + b_h + R_h (f ∘ h))
    h' = (1 - f) ∘ h + f ∘ h~
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.input = nn.Linear(input_size, 2 * hidden_size)
        self.recurrent = nn.ModuleDict({gate: nn.Linear(hidden_size, hidden_size, bias=False) for gate in ("f", "h")})

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., 2H]``: W x + b of f and h~."""
        projected: Tensor = self.input(xs)
        return projected

    def input_layer(self) -> nn.Linear:
        """W and b."""
        return self.input

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, 2H]`` and (h,) -> h' and (h',)."""
        (h,) = state
        x_f, x_h = projected.chunk(2, -1)
        f = torch.sigmoid(x_f + self.recurrent["f"](h))
        candidate = torch.tanh(x_h + self.recurrent["h"](f * h))
        h = h + f * (candidate - h)
        return h, (h,)
