"""The layer-normalised GRU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nmt.cells.cell import Cell
from nmt.cells.state import Noise, State
from nmt_layernorm.regularization import Rate, Regularization, masked


class LayerNormGRUCell(Cell):
    """The gated recurrent unit with layer normalisation (Ba et al. 2016, supplementary material).

    [z, r] = LN(R_zr h; α_1, β_1) + LN(W_zr x; α_2, β_2)
    n = tanh(LN(W_n x; α_3, β_3) + σ(r) ∘ LN(R_n h; α_4, β_4))
    h' = (1 - σ(z)) ∘ h + σ(z) ∘ n

    LN(a; α, β) = α ∘ (a - mean(a)) / sqrt(variance(a) + ε) + β, over both gates together in the first line.

    `recurrent_dropout`: of n, anew at each step (Semeniuta et al. 2016). `variational_dropout`: of the h that R reads,
    one mask a sequence (Gal and Ghahramani 2016); inputs have the framework's own `dropout`. `zoneout`: the chance of a
    unit of h to stay as it was (Krueger et al. 2017); in evaluation, its mean.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        recurrent_dropout: Rate = 0.0,
        variational_dropout: Rate = 0.0,
        zoneout: Rate = 0.0,
    ) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.input = nn.Linear(input_size, 3 * hidden_size, bias=False)
        self.recurrent = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.input_gates_norm = nn.LayerNorm(2 * hidden_size)
        self.input_candidate_norm = nn.LayerNorm(hidden_size)
        self.recurrent_gates_norm = nn.LayerNorm(2 * hidden_size)
        self.recurrent_candidate_norm = nn.LayerNorm(hidden_size)
        self._noise = Regularization(recurrent_dropout, variational_dropout, (zoneout,))

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., 3H]``: LN(W x) of z and r together, and of n."""
        gates, candidate = self.input(xs).split([2 * self.hidden_size, self.hidden_size], -1)
        return torch.cat([self.input_gates_norm(gates), self.input_candidate_norm(candidate)], -1)

    def noise(self, rows: int, steps: int) -> Noise:
        """Masks of n, of the h read, and of zoneout."""
        return self._noise.draw(self.input_candidate_norm.weight, rows, steps) if self.training else ()

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, 3H]`` and (h,) -> h' and (h',)."""
        (h,) = state
        candidate, read, zones = noise or ((), (), ())
        sizes = [2 * self.hidden_size, self.hidden_size]
        x_gates, x_n = projected.split(sizes, -1)
        h_gates, h_n = self.recurrent(masked(h, read)).split(sizes, -1)
        z, r = torch.sigmoid(x_gates + self.recurrent_gates_norm(h_gates)).chunk(2, -1)
        n = torch.tanh(x_n + r * self.recurrent_candidate_norm(h_n))
        new_h = h + z * (masked(n, candidate) - h)
        new_h = self._noise.zoned(0, h, new_h, zones if isinstance(zones, tuple) else ())
        return new_h, (new_h,)
