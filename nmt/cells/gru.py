"""The gated recurrent unit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmt.activations import tanh
from nmt.cells import engines
from nmt.cells.branching import Branch, Branching, fed_apart
from nmt.cells.cell import Cell
from nmt.cells.state import Noise, State
from nmt.products import Prepare


class GRUCell(Cell):
    """The gated recurrent unit (Cho et al. 2014), with the reset gate behind the product, as cuDNN has it.

    r = σ(W_r x + b_r + R_r h + d_r)
    z = σ(W_z x + b_z + R_z h + d_z)
    n = tanh(W_n x + b_n + r ∘ (R_n h + d_n))
    h' = (1 - z) ∘ n + z ∘ h
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.input = nn.Linear(input_size, 3 * hidden_size)
        self.recurrent = nn.Linear(hidden_size, 3 * hidden_size)
        nn.init.zeros_(self.input.bias)
        nn.init.zeros_(self.recurrent.bias)

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., 3H]``: W x + b of r, z and n."""
        projected: Tensor = self.input(xs)
        return projected

    def input_layer(self) -> nn.Linear:
        """W and b."""
        return self.input

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, 3H]`` and (h,) -> h' and (h',)."""
        (h,) = state
        return self._gated(projected, self.recurrent(h), h)

    def branching(self, how: Prepare, of_fed: Tensor | None = None) -> Branching:
        """As `Cell.branching`."""
        product = how(self.recurrent.weight, self.recurrent.bias)

        def branch(state: State, parents: Tensor, fed: State) -> Branch:
            (h,) = state
            recurrent, h = product(h).index_select(0, parents), h.index_select(0, parents)
            return lambda projected: self._gated(projected, recurrent, h)

        return fed_apart(branch, of_fed, how)

    def _gated(self, projected: Tensor, recurrent: Tensor, h: Tensor) -> tuple[Tensor, State]:
        """W x + b and R h + d ``[B, 3H]``, and h -> h' and (h',)."""
        x_r, x_z, x_n = projected.chunk(3, -1)
        h_r, h_z, h_n = recurrent.chunk(3, -1)
        r = torch.sigmoid(x_r + h_r)
        z = torch.sigmoid(x_z + h_z)
        n = tanh(x_n + r * h_n)
        h = n + z * (h - n)
        return h, (h,)

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.unroll`, by the fused kernel of torch."""
        weights = [self.input.weight, self.recurrent.weight, self.input.bias, self.recurrent.bias]

        def kernel(data: Tensor, first: State) -> tuple[Tensor, State]:
            ys, h = torch.gru(data, first[0], weights, True, 1, 0.0, self.training, False, True)
            return ys, (h,)

        return engines.fused(kernel, engines.cleared(xs, lengths), lengths, state)
