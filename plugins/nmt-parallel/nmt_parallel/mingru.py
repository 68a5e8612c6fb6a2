"""The minimal GRU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmt.cells.cell import Cell
from nmt.cells.engines import cleared
from nmt.cells.state import Noise, State
from nmt_parallel.candidates import Candidate, candidate_of
from nmt_parallel.scan import unrolled


class MinGRUCell(Cell):
    """The minimal GRU (Feng et al. 2024, arXiv 2410.01201, section 3.1): gate and candidate read the input alone.

    z  = σ(W_z x + b_z)
    h~ = g(W_h x + b_h)
    h' = (1 - z) ∘ h + z ∘ h~

    `candidate`: positive, g(x) = x + 0.5 where x ≥ 0, else σ(x) (appendix B); or linear, g(x) = x (section 3.1).
    """

    def __init__(self, input_size: int, hidden_size: int, *, candidate: Candidate = "linear") -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.candidate = candidate
        self.input = nn.Linear(input_size, 2 * hidden_size)
        nn.init.zeros_(self.input.bias)

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., 2H]``: W x + b of z and h~."""
        projected: Tensor = self.input(xs)
        return projected

    def input_layer(self) -> nn.Linear:
        """W and b."""
        return self.input

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, 2H]`` and (h,) -> h' and (h',)."""
        a, b = self._coefficients(projected)
        h = a * state[0] + b
        return h, (h,)

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.unroll`, by a scan."""
        a, b = self._coefficients(self.project(cleared(xs, lengths)))
        return unrolled(a, b, lengths, state[0])

    def _coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """1 - z and z ∘ h~, both ``[..., H]``."""
        x_z, x_h = projected.chunk(2, -1)
        z = torch.sigmoid(x_z)
        return 1 - z, z * candidate_of(x_h, self.candidate)
