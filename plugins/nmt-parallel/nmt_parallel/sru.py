"""The simple recurrent unit."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nmt.cells.cell import Cell
from nmt.cells.engines import at_last, cleared
from nmt.cells.state import Noise, State
from nmt_parallel.scan import before, peephole_scan, scan


class SRUCell(Cell):
    """The simple recurrent unit (Lei et al. 2018, arXiv 1709.02755, with the scaling of section 3.2).

    u  = W x
    f  = σ(W_f x + b_f + v_f ∘ c)
    r  = σ(W_r x + b_r + v_r ∘ c)
    c' = f ∘ c + (1 - f) ∘ u
    h' = r ∘ c' + (1 - r) ∘ α · s

    s is x, or W_s x where input and hidden size differ; α = √(1 + 2 exp(b)) for the b that b_r starts from keeps the
    variance of x in deep stacks. v_f and v_r start from zero.

    `peephole`: whether the gates read c. Without, f is known before c, and c is a linear scan, parallel on a GPU too.
    `highway_bias`: where b_r starts; below zero, x goes through at first, which helps deep stacks.
    """

    def __init__(self, input_size: int, hidden_size: int, *, peephole: bool = True, highway_bias: float = 0.0) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.scale = math.sqrt(1 + 2 * math.exp(highway_bias))
        self.input = nn.Linear(input_size, 3 * hidden_size, bias=False)
        self.skip = None if input_size == hidden_size else nn.Linear(input_size, hidden_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(2 * hidden_size))
        nn.init.constant_(self.bias[hidden_size:], highway_bias)
        self.peephole = nn.Parameter(torch.zeros(2 * hidden_size)) if peephole else None

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., 4H]``: u, W_f x + b_f, W_r x + b_r, and α · s."""
        u, gates = self.input(xs).split((self.hidden_size, 2 * self.hidden_size), -1)
        skipped = xs if self.skip is None else self.skip(xs)
        return torch.cat([u, gates + self.bias, self.scale * skipped], -1)

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, 4H]`` and (c,) -> h' and (c',)."""
        (c,) = state
        u, x_f, x_r, s = projected.chunk(4, -1)
        if self.peephole is not None:
            v_f, v_r = self.peephole.chunk(2)
            x_f, x_r = x_f + v_f * c, x_r + v_r * c
        c = u + torch.sigmoid(x_f) * (c - u)
        h = s + torch.sigmoid(x_r) * (c - s)
        return h, (c,)

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.unroll`, by a scan."""
        (c,) = state
        u, x_f, x_r, s = self.project(cleared(xs, lengths)).chunk(4, -1)
        if self.peephole is None:
            f = torch.sigmoid(x_f)
            cs = scan(f, (1 - f) * u, c)
        else:
            v_f, v_r = self.peephole.chunk(2)
            cs = peephole_scan(x_f, u, v_f, c)
            x_r = x_r + v_r * before(cs, c)
        hs = s + torch.sigmoid(x_r) * (cs - s)
        return cleared(hs, lengths), (at_last(cs, lengths),)
