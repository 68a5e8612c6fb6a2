"""The layer-normalised LSTM."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmt.cells.cell import Cell
from nmt.cells.state import Noise, State
from nmt_layernorm.regularization import Rate, Regularization, masked


class LayerNormLSTMCell(Cell):
    """The long short-term memory with layer normalisation (Ba et al. 2016, supplementary material).

    [i, f, g, o] = LN(R h; α_h, β_h) + LN(W x; α_x, β_x)
    c' = σ(f) ∘ c + σ(i) ∘ tanh(g)
    h' = σ(o) ∘ tanh(LN(c'; α_c, β_c))

    LN(a; α, β) = α ∘ (a - mean(a)) / sqrt(variance(a) + ε) + β over all four gates together; the paper's bias b is β_x.

    `forget_bias`: where β_x of the forget gate starts. `recurrent_dropout`: of tanh(g), anew at each step (Semeniuta et
    al. 2016). `variational_dropout`: of the h that R reads, one mask a sequence (Gal and Ghahramani 2016); inputs have
    the framework's own `dropout`. `zoneout_hidden`, `zoneout_cell`: the chance of a unit of h or c to stay as it was
    (Krueger et al. 2017); in evaluation, its mean.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        forget_bias: float = 1.0,
        recurrent_dropout: Rate = 0.0,
        variational_dropout: Rate = 0.0,
        zoneout_hidden: Rate = 0.0,
        zoneout_cell: Rate = 0.0,
    ) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,), (hidden_size,)))
        self.input = nn.Linear(input_size, 4 * hidden_size, bias=False)
        self.recurrent = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.input_norm = nn.LayerNorm(4 * hidden_size)
        self.recurrent_norm = nn.LayerNorm(4 * hidden_size)
        self.cell_norm = nn.LayerNorm(hidden_size)
        nn.init.constant_(self.input_norm.bias[hidden_size : 2 * hidden_size], forget_bias)
        self._noise = Regularization(recurrent_dropout, variational_dropout, (zoneout_hidden, zoneout_cell))

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., 4H]``: LN(W x) of i, f, g and o."""
        projected: Tensor = self.input_norm(self.input(xs))
        return projected

    def noise(self, rows: int, steps: int) -> Noise:
        """Masks of tanh(g), of the h read, and of zoneout."""
        return self._noise.draw(self.cell_norm.weight, rows, steps) if self.training else ()

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, 4H]`` and (h, c) -> h' and (h', c')."""
        h, c = state
        candidate, read, zones = noise or ((), (), ())
        gates = projected + self.recurrent_norm(self.recurrent(masked(h, read)))
        i, f, g, o = gates.chunk(4, -1)
        new_c = torch.sigmoid(f) * c + torch.sigmoid(i) * masked(torch.tanh(g), candidate)
        new_h = torch.sigmoid(o) * torch.tanh(self.cell_norm(new_c))
        zones = zones if isinstance(zones, tuple) else ()
        new_h, new_c = self._noise.zoned(0, h, new_h, zones), self._noise.zoned(1, c, new_c, zones)
        return new_h, (new_h, new_c)
