"""The quasi-recurrent network."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nmt.cells import engines
from nmt.cells.cell import Cell
from nmt.cells.state import Noise, State
from nmt_parallel.scan import linear_scan


class QRNNCell(Cell):
    """The quasi-recurrent network with fo-pooling (Bradbury et al. 2017, eqs. 1 to 4).

    z = tanh(W_z * x),  f = σ(W_f * x),  o = σ(W_o * x), with * a convolution over x and the width - 1 inputs before it
    c' = f ∘ c + (1 - f) ∘ z
    h' = o ∘ c'

    `width`: of the convolution. `forget_bias`: where the bias of f starts. Beside c the state holds what the inputs so
    far add to the arguments of the next steps ``[width - 1, 3H]``, so that a step needs no input but its own.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        width: Annotated[int, Field(gt=0)] = 2,
        forget_bias: float = 1.0,
    ) -> None:
        pending = ((width - 1, 3 * hidden_size),) if width > 1 else ()
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,), *pending))
        self._width = width
        self.input = nn.Linear(input_size, 3 * hidden_size)
        self.earlier = nn.Linear(input_size, (width - 1) * 3 * hidden_size, bias=False) if width > 1 else None
        nn.init.zeros_(self.input.bias)
        nn.init.constant_(self.input.bias[hidden_size : 2 * hidden_size], forget_bias)

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., width · 3H]``: what x adds to z, f and o of its own step and of the steps after it."""
        own: Tensor = self.input(xs)
        return own if self.earlier is None else torch.cat([own, self.earlier(xs)], -1)

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, width · 3H]`` and (c, pending) -> h' and the next state."""
        c, pending = state[0], state[1:]
        taps = projected.to(c.dtype).unflatten(-1, (self._width, 3 * self.hidden_size))  # [B, width, 3H]
        arguments = taps[:, 0]
        for waiting in pending:  # one tensor, or none where width is 1
            arguments = arguments + waiting[:, 0]
            pending = (F.pad(waiting[:, 1:], (0, 0, 0, 1)) + taps[:, 1:],)
        z, f, o = self._gates(arguments)
        c = z + f * (c - z)
        return o * c, (c, *pending)

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.unroll`: the convolution as shifted sums, then a scan."""
        c, pending = state[0], state[1:]
        projected = self.project(engines.cleared(xs, lengths))
        taps = projected.to(c.dtype).unflatten(-1, (self._width, 3 * self.hidden_size))  # [B, T, width, 3H]
        arguments = taps[:, :, 0]
        final: State = ()
        for waiting in pending:
            # What earlier inputs add to each step, and to the width - 1 steps behind the last.
            steps = xs.shape[1] + self._width - 1
            added = F.pad(waiting, (0, 0, 0, steps - waiting.shape[1]))  # [B, T + width - 1, 3H]
            for tap in range(1, self._width):
                added = added + F.pad(taps[:, :, tap], (0, 0, tap, self._width - 1 - tap))
            arguments = arguments + added[:, : xs.shape[1]]
            behind = lengths.to(xs.device)[:, None] + torch.arange(self._width - 1, device=xs.device)
            final = (added[torch.arange(len(xs), device=xs.device)[:, None], behind],)
        z, f, o = self._gates(arguments)
        cs = linear_scan(f, (1.0 - f) * z, c)
        return engines.cleared(o * cs, lengths), (engines.at_last(cs, lengths), *final)

    def _gates(self, arguments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z, f and o, ``[..., 3H] -> [..., H]`` each."""
        z, f, o = arguments.chunk(3, -1)
        return torch.tanh(z), torch.sigmoid(f), torch.sigmoid(o)
