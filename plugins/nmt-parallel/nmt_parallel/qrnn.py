"""The quasi-recurrent network."""

from __future__ import annotations

from typing import Annotated, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nmt.cells.cell import Cell
from nmt.cells.engines import at_last, cleared
from nmt.cells.state import Noise, State
from nmt_parallel.scan import scan


class QRNNCell(Cell):
    """The quasi-recurrent network with fo-pooling (Bradbury et al. 2017, arXiv 1611.01576): gates by a convolution
    over the last k inputs.

    z  = tanh(W_z * x + b_z)
    f  = σ(W_f * x + b_f)
    o  = σ(W_o * x + b_o)
    c' = f ∘ c + (1 - f) ∘ z
    h' = o ∘ c'

    with (W * x)_t = W⁰ x_t + W¹ x_{t-1} + … + W^{k-1} x_{t-k+1}, zeros before the first input. The state is c, and what
    the inputs so far add to the gates of the k - 1 steps to come.

    `width`: k, how many inputs a gate sees. `zoneout`: the chance of a unit to keep its c at a step (section 2.1);
    when decoding, the expectation.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        width: Annotated[int, Field(ge=1)] = 2,
        zoneout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
    ) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,), (width - 1, 3 * hidden_size)))
        self.width = width
        self.zoneout = zoneout
        self.input = nn.Linear(input_size, width * 3 * hidden_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(3 * hidden_size))

    def noise(self, rows: int, steps: int) -> Noise:
        """Where c may change, ``[B, T, H]``: 1 with the chance 1 - zoneout."""
        if not self.training or self.zoneout == 0.0:
            return ()
        return (self.bias.new_empty(rows, steps, self.hidden_size).bernoulli_(1 - self.zoneout),)

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., k · 3H]``: W⁰ x to W^{k-1} x, each of z, f and o."""
        projected: Tensor = self.input(xs)
        return projected

    def input_layer(self) -> nn.Linear:
        """W and b."""
        return self.input

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, k · 3H]`` and (c, what is pending ``[B, k - 1, 3H]``) -> h' and the next state."""
        c, pending = state
        gates = F.pad(pending, (0, 0, 0, 1)) + projected.unflatten(-1, (self.width, -1))  # [B, k, 3H]
        a, b, o = self._coefficients(gates[:, 0] + self.bias, noise)
        c = a * c + b
        return o * c, (c, gates[:, 1:])

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.unroll`: one product with the last k inputs side by side, then a scan."""
        c, pending = state
        noise = self.noise(xs.shape[0], xs.shape[1])
        xs = cleared(xs, lengths)
        a, b, o = self._coefficients(self._gates(xs, pending), noise)
        cs = scan(a, b, c)
        return cleared(o * cs, lengths), (at_last(cs, lengths), self._pending(xs, lengths, pending))

    def _gates(self, xs: Tensor, pending: Tensor) -> Tensor:
        """``[B, T, I] -> [B, T, 3H]``: W * x + b, with what was pending added to the first k - 1 steps."""
        size = xs.shape[1]
        windows = torch.cat([F.pad(xs, (0, 0, delay, 0))[:, :size] for delay in range(self.width)], -1)  # [B, T, k · I]
        weight = self.input.weight.unflatten(0, (self.width, -1)).transpose(0, 1).flatten(1)  # [3H, k · I]
        gates = F.linear(windows, weight, self.bias)
        gates[:, : self.width - 1] += pending[:, :size]
        return gates

    def _pending(self, xs: Tensor, lengths: Tensor, pending: Tensor) -> Tensor:
        """What each sentence's last k - 1 inputs, and what was pending, add to the k - 1 steps behind its length."""
        last = self.width - 1
        steps = (lengths[:, None] + torch.arange(last)).to(xs.device)  # [B, k - 1]
        rows = torch.arange(xs.shape[0], device=xs.device)[:, None]
        inputs = F.pad(xs, (0, 0, last, 0))[rows, steps]  # [B, k - 1, I], zeros before the first
        parts = self.project(inputs).unflatten(-1, (self.width, -1))  # [B, k - 1, k, 3H]
        total = F.pad(pending, (0, 0, 0, xs.shape[1]))[rows, steps]
        for delay in range(1, self.width):
            total = total + F.pad(parts[:, last - delay :, delay], (0, 0, 0, last - delay))
        return total

    def _coefficients(self, gates: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """What of c is kept, what is added to it, and o, each ``[..., H]``."""
        x_z, x_f, x_o = gates.chunk(3, -1)
        update = torch.sigmoid(-x_f)  # 1 - f
        if noise:
            update = update * cast(Tensor, noise[0])
        elif self.zoneout > 0.0:
            update = update * (1 - self.zoneout)
        return 1 - update, update * torch.tanh(x_z), torch.sigmoid(x_o)
