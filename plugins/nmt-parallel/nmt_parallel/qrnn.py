"""The quasi-recurrent network."""

from __future__ import annotations

from typing import Annotated, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nmt.cells.cell import Cell
from nmt.cells.engines import all_full, at_last, cleared
from nmt.cells.state import Noise, State
from nmt_parallel.scan import scan


class QRNNCell(Cell):
    """The quasi-recurrent network with fo-pooling (Bradbury et al. 2017, arXiv 1611.01576, eqs. 1, 2 and 4): gates by
    a convolution over the last k inputs.

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

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, k · 3H]`` and (c, what is pending ``[B, k - 1, 3H]``) -> h' and the next state."""
        c, pending = state
        gates = F.pad(pending, (0, 0, 0, 1)) + projected.unflatten(-1, (self.width, -1))  # [B, k, 3H]
        a, b, o = self._coefficients(gates[:, 0], noise)
        c = a * c + b
        return o * c, (c, gates[:, 1:])

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.unroll`, by a scan."""
        c, pending = state
        noise = self.noise(xs.shape[0], xs.shape[1])
        gates = self._convolved(self.project(cleared(xs, lengths)), pending)  # [B, T + k - 1, 3H]
        a, b, o = self._coefficients(gates[:, : xs.shape[1]], noise)
        cs = scan(a, b, c)
        return cleared(o * cs, lengths), (at_last(cs, lengths), self._pending(gates, lengths, xs.shape[1]))

    def _convolved(self, projected: Tensor, pending: Tensor) -> Tensor:
        """What each input adds to its own step and to the k - 1 after it, summed; also for k - 1 steps behind T."""
        last = self.width - 1
        total = F.pad(pending, (0, 0, 0, projected.shape[1]))
        for delay, part in enumerate(projected.chunk(self.width, -1)):
            total = total + F.pad(part, (0, 0, delay, last - delay))
        return total

    def _pending(self, gates: Tensor, lengths: Tensor, size: int) -> Tensor:
        """What stands in the k - 1 steps behind each sentence's length; padding is zeros and adds none."""
        if all_full(lengths, size):
            return gates[:, size:]
        steps = lengths[:, None] + torch.arange(self.width - 1)
        rows = torch.arange(gates.shape[0])[:, None]
        return gates[rows.to(gates.device), steps.to(gates.device)]

    def _coefficients(self, gates: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """What of c is kept, what is added to it, and o, each ``[..., H]``."""
        x_z, x_f, x_o = (gates + self.bias).chunk(3, -1)
        update = torch.sigmoid(-x_f)  # 1 - f
        if noise:
            update = update * cast(Tensor, noise[0])
        elif self.zoneout > 0.0:
            update = update * (1 - self.zoneout)
        return 1 - update, update * torch.tanh(x_z), torch.sigmoid(x_o)
