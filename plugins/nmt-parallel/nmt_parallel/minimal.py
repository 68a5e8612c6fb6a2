"""minGRU and minLSTM: gates that read no state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmt.cells import engines
from nmt.cells.cell import Cell
from nmt.cells.state import Noise, State
from nmt_parallel.scan import linear_scan


class MinGRUCell(Cell):
    """minGRU (Feng et al. 2024, arXiv 2410.01201, section 3.1).

    z = σ(W_z x + b_z)
    h~ = W_h x + b_h
    h' = (1 - z) ∘ h + z ∘ h~
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.input = nn.Linear(input_size, 2 * hidden_size)
        nn.init.zeros_(self.input.bias)

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., 2H]``: the factor 1 - z and the term z ∘ h~."""
        z, candidate = self.input(xs).chunk(2, -1)
        return torch.cat([torch.sigmoid(-z), torch.sigmoid(z) * candidate], -1)

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, 2H]`` and (h,) -> h' and (h',)."""
        return _linear_step(projected, state)

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.unroll`, by a scan."""
        return _linear_unroll(self, xs, lengths, state)


class MinLSTMCell(Cell):
    """minLSTM (Feng et al. 2024, arXiv 2410.01201, section 3.2).

    f = σ(W_f x + b_f),  i = σ(W_i x + b_i)
    h~ = W_h x + b_h
    h' = f / (f + i) ∘ h + i / (f + i) ∘ h~

    `forget_bias`: where b_f starts; above 0 the memory is longer (the paper's appendix).
    """

    def __init__(self, input_size: int, hidden_size: int, *, forget_bias: float = 1.0) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.input = nn.Linear(input_size, 3 * hidden_size)
        nn.init.zeros_(self.input.bias)
        nn.init.constant_(self.input.bias[:hidden_size], forget_bias)

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., 2H]``: the factor f / (f + i) and the term i / (f + i) ∘ h~."""
        f, i, candidate = self.input(xs).chunk(3, -1)
        # f / (f + i) = σ(log f - log i), which neither divides nor underflows.
        balance = nn.functional.logsigmoid(f) - nn.functional.logsigmoid(i)
        return torch.cat([torch.sigmoid(balance), torch.sigmoid(-balance) * candidate], -1)

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, 2H]`` and (h,) -> h' and (h',)."""
        return _linear_step(projected, state)

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.unroll`, by a scan."""
        return _linear_unroll(self, xs, lengths, state)


def _linear_step(projected: Tensor, state: State) -> tuple[Tensor, State]:
    """h' = a ∘ h + b, from a and b side by side."""
    a, b = projected.chunk(2, -1)
    h = torch.addcmul(b.to(state[0].dtype), a.to(state[0].dtype), state[0])
    return h, (h,)


def _linear_unroll(cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
    """The same along time."""
    a, b = cell.project(engines.cleared(xs, lengths)).chunk(2, -1)
    hs = linear_scan(a, b, state[0])
    return engines.cleared(hs, lengths), (engines.at_last(hs, lengths),)
