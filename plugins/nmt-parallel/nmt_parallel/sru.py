"""The simple recurrent unit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmt.cells import engines
from nmt.cells.cell import Cell
from nmt.cells.state import Noise, State
from nmt_parallel.scan import linear_scan


class SRUCell(Cell):
    """The simple recurrent unit (Lei et al. 2018, arXiv 1709.02755, eqs. 1 to 4).

    f = σ(W_f x + v_f ∘ c + b_f)
    c' = f ∘ c + (1 - f) ∘ (W x)
    r = σ(W_r x + v_r ∘ c + b_r)
    h' = r ∘ c' + (1 - r) ∘ x

    Where x is of another size than h, the last line reads W_x x. `peephole`: whether gates read c through the vectors
    v_f and v_r. Without (the paper's first version, 2017) the recurrence is linear and training runs a scan; with them
    it is a loop of element-wise operations. `forget_bias`: where b_f starts.
    """

    def __init__(self, input_size: int, hidden_size: int, *, peephole: bool = False, forget_bias: float = 1.0) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.input = nn.Linear(input_size, (3 if input_size == hidden_size else 4) * hidden_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(2 * hidden_size))  # of f and r
        nn.init.constant_(self.bias[:hidden_size], forget_bias)
        self.peephole = nn.Parameter(torch.zeros(2 * hidden_size)) if peephole else None  # v_f and v_r

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., 4H]``: the arguments of f and r, W x, and x or W_x x."""
        products = self.input(xs)
        size = 2 * self.hidden_size
        parts = [products[..., :size] + self.bias, products[..., size:]]
        return torch.cat([*parts, xs] if self.input_size == self.hidden_size else parts, -1)

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, 4H]`` and (c,) -> h' and (c',)."""
        (c,) = state
        gates, candidate, highway = projected.to(c.dtype).split([2 * self.hidden_size, *2 * [self.hidden_size]], -1)
        if self.peephole is not None:
            gates = gates + self.peephole * c.repeat(1, 2)
        f, r = torch.sigmoid(gates).chunk(2, -1)
        c = candidate + f * (c - candidate)
        return highway + r * (c - highway), (c,)

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.unroll`: without a peephole by a scan."""
        if self.peephole is not None:
            return engines.loop(self, xs, lengths, state)
        projected = self.project(engines.cleared(xs, lengths))
        gates, candidate, highway = projected.split([2 * self.hidden_size, *2 * [self.hidden_size]], -1)
        f, r = torch.sigmoid(gates).chunk(2, -1)
        cs = linear_scan(f, (1.0 - f) * candidate, state[0])
        hs = highway + r * (cs - highway)
        return engines.cleared(hs, lengths), (engines.at_last(cs, lengths),)
