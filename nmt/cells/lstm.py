"""The long short-term memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmt.activations import tanh
from nmt.cells.branching import Branch, Branching, joined
from nmt.cells.cell import Cell
from nmt.cells.engines import fused
from nmt.cells.packed import Reading, packed_lstm
from nmt.cells.padding import all_full, cleared, mask_of
from nmt.cells.state import Noise, State
from nmt.products import Prepare, Recurrences

HOLD = 1e4
"""What closes or opens a gate for good, whatever else it is given; also in half precision."""


class LSTMCell(Cell):
    """The long short-term memory (Hochreiter and Schmidhuber 1997) with a forget gate (Gers et al. 2000).

    i = σ(W_i x + b_i + R_i h)
    f = σ(W_f x + b_f + R_f h)
    g = tanh(W_g x + b_g + R_g h)
    o = σ(W_o x + b_o + R_o h)
    c' = f ∘ c + i ∘ g
    h' = o ∘ tanh(c')

    `forget_bias`: where b_f starts; 1 lets the memory through from the first update on (Jozefowicz et al. 2015).
    """

    def __init__(self, input_size: int, hidden_size: int, *, forget_bias: float = 1.0) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,), (hidden_size,)))
        self.input = nn.Linear(input_size, 4 * hidden_size)
        self.recurrent = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        nn.init.zeros_(self.input.bias)
        nn.init.constant_(self.input.bias[hidden_size : 2 * hidden_size], forget_bias)

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., 4H]``: W x + b of i, f, g and o."""
        projected: Tensor = self.input(xs)
        return projected

    def input_layer(self) -> nn.Linear:
        """W and b."""
        return self.input

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, 4H]`` and (h, c) -> h' and (h', c')."""
        h, c = state
        return self._gated(projected + self.recurrent(h), c)

    def branching(self, how: Prepare, of_fed: Tensor | None = None) -> Branching:
        """As `Cell.branching`."""
        product = joined(self.recurrent.weight, of_fed, how)

        def branch(state: State, parents: Tensor, fed: State) -> Branch:
            h, c = state
            added, c = product(h, fed).index_select(0, parents), c.index_select(0, parents)
            return lambda projected: self._gated(projected + added, c)

        return branch

    def _gated(self, gates: Tensor, c: Tensor) -> tuple[Tensor, State]:
        """``[B, 4H]`` before σ and tanh, and c -> h' and (h', c')."""
        i, f, g, o = gates.chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * tanh(g)
        h = torch.sigmoid(o) * tanh(c)
        return h, (h, c)

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.unroll`, by the fused kernel of torch.

        Where there is padding, one more input says so: it closes the input gate and opens the forget gate, so that c
        stays what it was, to the last bit.
        """
        xs, weight = cleared(xs, lengths), self.input.weight
        if not all_full(lengths, xs.shape[1]):
            padding = ~mask_of(lengths, xs.shape[1], xs.device)[..., None]
            holding = weight.new_tensor([-HOLD, HOLD, 0.0, 0.0]).repeat_interleave(self.hidden_size)
            xs, weight = torch.cat([xs, padding.to(xs.dtype)], -1), torch.cat([weight, holding[:, None]], 1)
        weights = [weight, self.recurrent.weight, self.input.bias, torch.zeros_like(self.input.bias)]

        def kernel(data: Tensor, first: State) -> tuple[Tensor, State]:
            ys, h, c = torch.lstm(data, list(first), weights, True, 1, 0.0, self.training, False, True)
            return ys, (h, c)

        return fused(kernel, xs, lengths, state)

    def reading(self, how: Recurrences) -> Reading:
        """As `Cell.reading`, by oneDNN."""
        return packed_lstm(self.input.weight, self.recurrent.weight, self.input.bias, how)
