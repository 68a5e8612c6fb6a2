"""The simple recurrent network."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from nmt.activations import tanh
from nmt.cells import engines
from nmt.cells.branching import Branch, Branching, joined
from nmt.cells.cell import Cell
from nmt.cells.state import Noise, State
from nmt.products import Prepare


class ElmanCell(Cell):
    """The simple recurrent network (Elman 1990).

    h' = f(W x + b + R h), f = tanh or relu

    `nonlinearity`: tanh, or relu (Le et al. 2015; start it with an orthogonal R).
    """

    def __init__(self, input_size: int, hidden_size: int, *, nonlinearity: Literal["tanh", "relu"] = "tanh") -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.nonlinearity = nonlinearity
        self.input = nn.Linear(input_size, hidden_size)
        self.recurrent = nn.Linear(hidden_size, hidden_size, bias=False)
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
        (h,) = state
        return self._bent(projected + self.recurrent(h))

    def branching(self, how: Prepare, of_fed: Tensor | None = None) -> Branching:
        """As `Cell.branching`."""
        product = joined(self.recurrent.weight, of_fed, how)

        def branch(state: State, parents: Tensor, fed: State) -> Branch:
            (h,) = state
            added = product(h, fed).index_select(0, parents)
            return lambda projected: self._bent(projected + added)

        return branch

    def _bent(self, total: Tensor) -> tuple[Tensor, State]:
        """``[B, H]`` before f -> h' and (h',)."""
        h = tanh(total) if self.nonlinearity == "tanh" else torch.relu(total)
        return h, (h,)

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.unroll`, by the fused kernel of torch."""
        weights = [
            self.input.weight,
            self.recurrent.weight,
            self.input.bias,
            torch.zeros_like(self.input.bias),
        ]
        run = torch.rnn_tanh if self.nonlinearity == "tanh" else torch.rnn_relu

        def kernel(data: Tensor, first: State) -> tuple[Tensor, State]:
            ys, h = run(data, first[0], weights, True, 1, 0.0, self.training, False, True)
            return ys, (h,)

        return engines.fused(kernel, engines.cleared(xs, lengths), lengths, state)
