"""sLSTM: exponential gates and a normaliser."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nmt.cells.cell import Cell
from nmt.cells.state import Noise, State
from nmt.errors import UserError
from nmt_xlstm import START


class SLSTMCell(Cell):
    """sLSTM (Beck et al. 2024, arXiv 2405.04517, section 2.2 and appendix A.2), in its stabilised form.

    z = tanh(W_z x + b_z + R_z h)
    i = exp(ĩ), ĩ = W_i x + b_i + R_i h
    f = σ(f̃) or exp(f̃), f̃ = W_f x + b_f + R_f h
    o = σ(W_o x + b_o + R_o h)
    m' = max(log f + m, ĩ)                                   the stabiliser
    c' = exp(log f + m - m') ∘ c + exp(ĩ - m') ∘ z           exp(m) c is the paper's unstabilised c, likewise n
    n' = exp(log f + m - m') ∘ n + exp(ĩ - m')
    h' = o ∘ c' / n'

    n is 1 after the first step and never less. `forget`: σ or exp for the forget gate. `forget_bias`: where b_f starts;
    with exp take 0 or less, as above it what is old outgrows what is new. `heads`: R is block-diagonal, a block for
    each head. The state is h, and c, n and m together ``[3, H]``, so that a decoder starts h alone.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        forget: Literal["sigmoid", "exponential"] = "sigmoid",
        forget_bias: float = 1.0,
        heads: Annotated[int, Field(gt=0)] = 1,
    ) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,), (3, hidden_size)))
        if hidden_size % heads:
            raise UserError(f"slstm: {heads} heads don't divide hidden_size {hidden_size}", "choose a divisor")
        size = hidden_size // heads
        self._forget = F.logsigmoid if forget == "sigmoid" else _itself
        self.input = nn.Linear(input_size, 4 * hidden_size)
        # A matrix for each gate and head, since each is started by itself; a single head's are one, for one product.
        shapes = [(size, size)] * (4 * heads) if heads > 1 else [(size, 4 * size)]
        self.recurrent = nn.ModuleList(nn.Linear(*shape, bias=False) for shape in shapes)
        nn.init.zeros_(self.input.bias)
        nn.init.constant_(self.input.bias[2 * hidden_size : 3 * hidden_size], forget_bias)

    def initial_state(self, batch_size: int) -> State:
        """h, c and n of zeros, m lower than anything."""
        h, memory = super().initial_state(batch_size)
        return h, torch.cat([memory[:, :2], torch.full_like(memory[:, :1], START)], 1)

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., 4H]``: W x + b of z, i, f and o."""
        projected: Tensor = self.input(xs)
        return projected

    def input_layer(self) -> nn.Linear:
        """W and b."""
        return self.input

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, 4H]`` and (h, (c, n, m)) -> h' and the next state."""
        h, memory = state
        c, n, m = memory.unbind(1)
        # The exponents are kept in the state's type: under autocast the products are coarser.
        z, i, f, o = (projected + self._recurrent(h)).to(memory.dtype).chunk(4, -1)
        log_f = self._forget(f)
        new_m = torch.maximum(log_f + m, i)
        kept, written = torch.exp(log_f + m - new_m), torch.exp(i - new_m)
        c, n = kept * c + written * torch.tanh(z), kept * n + written
        h = torch.sigmoid(o) * c / n
        return h, (h, torch.stack([c, n, new_m], 1))

    def _recurrent(self, h: Tensor) -> Tensor:
        """R h of z, i, f and o, ``[B, H] -> [B, 4H]``, each head by itself."""
        if len(self.recurrent) == 1:
            product: Tensor = self.recurrent[0](h)
            return product
        heads = len(self.recurrent) // 4
        blocks = torch.stack(list(self.recurrent.parameters())).unflatten(0, (4, heads))
        # g: gate, n: head, o and i: units of a head
        return torch.einsum("gnoi,bni->bgno", blocks, h.unflatten(-1, (heads, -1))).flatten(1)


def _itself(x: Tensor) -> Tensor:
    """log exp x."""
    return x
