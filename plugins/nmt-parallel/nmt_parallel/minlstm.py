"""The minimal LSTM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.cells.cell import Cell
from nmt.cells.engines import cleared
from nmt.cells.state import Noise, State
from nmt_parallel.candidates import Candidate, candidate_of
from nmt_parallel.scan import unrolled


class MinLSTMCell(Cell):
    """The minimal LSTM (Feng et al. 2024, arXiv 2410.01201, section 3.2): gates and candidate read the input alone,
    the gates share 1 between them, and there is neither an output gate nor a memory beside h.

    f  = σ(W_f x + b_f)
    i  = σ(W_i x + b_i)
    h~ = g(W_h x + b_h)
    h' = f / (f + i) ∘ h + i / (f + i) ∘ h~

    `candidate`: positive, g(x) = x + 0.5 where x ≥ 0, else σ(x) (appendix B); or linear, g(x) = x (section 3.2).
    `forget_bias`: where b_f starts; a larger one remembers for longer at first.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, candidate: Candidate = "linear", forget_bias: float = 0.0
    ) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.candidate = candidate
        self.input = nn.Linear(input_size, 3 * hidden_size)
        nn.init.zeros_(self.input.bias)
        nn.init.constant_(self.input.bias[:hidden_size], forget_bias)

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., 3H]``: W x + b of f, i and h~."""
        projected: Tensor = self.input(xs)
        return projected

    def input_layer(self) -> nn.Linear:
        """W and b."""
        return self.input

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, 3H]`` and (h,) -> h' and (h',)."""
        a, b = self._coefficients(projected)
        h = a * state[0] + b
        return h, (h,)

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.unroll`, by a scan."""
        a, b = self._coefficients(self.project(cleared(xs, lengths)))
        return unrolled(a, b, lengths, state[0])

    def _coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """f / (f + i) and i / (f + i) ∘ h~, both ``[..., H]``."""
        x_f, x_i, x_h = projected.chunk(3, -1)
        # f / (f + i) = σ(log f - log i), which is no 0 / 0 where both gates are shut.
        share = torch.sigmoid(F.logsigmoid(x_f) - F.logsigmoid(x_i))
        return share, (1 - share) * candidate_of(x_h, self.candidate)
