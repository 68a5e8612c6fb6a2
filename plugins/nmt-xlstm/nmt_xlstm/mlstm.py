"""mLSTM: a matrix memory."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nmt.cells import engines
from nmt.cells.cell import Cell
from nmt.cells.state import Noise, State
from nmt.errors import UserError
from nmt_xlstm import START

LIMIT = 80.0
"""No stabiliser counts as further from 0 in exp(-m). Below, h is 0 to the last digit, and exp would overflow; above,
exp would be 0 and divide by 0 where q is, as in padding.
"""

CHUNK = 64
"""Steps computed at once. A step weighs all of its chunk's, and each chunk makes a C: few and many both cost."""


class MLSTMCell(Cell):
    """mLSTM (Beck et al. 2024, arXiv 2405.04517, section 2.3 and appendix A.3), in its stabilised form.

    For each head, of size d:
    q = W_q x + b_q,  k = (W_k x + b_k) / √d,  v = W_v x + b_v
    ĩ = w_iᵀ x + b_i,  f̃ = w_fᵀ x + b_f,  f = σ(f̃) or exp(f̃),  o = σ(W_o x + b_o)
    m' = max(log f + m, ĩ)                                       the stabiliser
    C' = exp(log f + m - m') C + exp(ĩ - m') v kᵀ
    n' = exp(log f + m - m') n + exp(ĩ - m') k
    h' = o ∘ C' q / max(|n'ᵀ q|, exp(-m'))

    exp(m) C and exp(m) n are the paper's unstabilised C and n, whose divisor is max(|nᵀ q|, 1). Nothing reads h, so
    `unroll` computes many steps at once (appendix A.3) and makes the matrix C only after the last of them. `forget`: σ
    or exp for the forget gate. `forget_bias`: where b_f starts; with exp take 0 or less, as above it what is old
    outgrows what is new. `heads`: how many memories of d = hidden_size / heads.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        forget: Literal["sigmoid", "exponential"] = "sigmoid",
        forget_bias: float = 3.0,
        heads: Annotated[int, Field(gt=0)] = 1,
    ) -> None:
        size = hidden_size // heads
        super().__init__(input_size, hidden_size, state_shapes=((heads, size, size), (heads, size), (heads, 1)))
        if hidden_size % heads:
            raise UserError(f"mlstm: {heads} heads don't divide hidden_size {hidden_size}", "choose a divisor")
        self._heads, self._size = heads, size
        self._exponential = forget == "exponential"
        self.input = nn.Linear(input_size, 4 * hidden_size)
        self.gates = nn.Linear(input_size, 2 * heads)
        nn.init.zeros_(self.input.bias)
        nn.init.zeros_(self.gates.bias)
        nn.init.constant_(self.gates.bias[heads:], forget_bias)

    def initial_state(self, batch_size: int) -> State:
        """C and n of zeros, m lower than anything."""
        matrix, normalizer, stabilizer = super().initial_state(batch_size)
        return matrix, normalizer, torch.full_like(stabilizer, START)

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., 4H + 2 heads]``: q, k, v and o's argument, then those of i and f."""
        return torch.cat([self.input(xs), self.gates(xs)], -1)

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, 4H + 2 heads]`` and (C, n, m) -> h' and the next state."""
        matrix, normalizer, m = state  # [B, heads, d, d], [B, heads, d], [B, heads, 1]
        q, k, v, o, i, log_f = self._parts(projected.to(m.dtype))
        new_m = torch.maximum(log_f + m, i)
        kept, written = torch.exp(log_f + m - new_m), torch.exp(i - new_m)
        # C is large: nothing else of its size is held but C', and MKL takes for qᵀ C'ᵀ a third of the time of C' q.
        matrix = (kept[..., None] * matrix).addcmul_((written * v)[..., None], k[..., None, :])
        normalizer = kept * normalizer + written * k
        read = (q[..., None, :] @ matrix.mT).squeeze(-2)  # [B, heads, d]
        h = o * (read / _divisor((normalizer * q).sum(-1, keepdim=True), new_m)).flatten(-2)
        return h, (matrix, normalizer, new_m)

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.unroll`, `CHUNK` steps at once."""
        projected = self.project(engines.cleared(xs, lengths)).to(state[-1].dtype)
        q, k, v, o, i, log_f = self._parts(projected)
        # In padding nothing is written and nothing forgotten: the last state is that of the sentence's own last step.
        padding = ~engines.mask_of(lengths, xs.shape[1], xs.device)[:, :, None, None]
        i, log_f = i.masked_fill(padding, START), log_f.masked_fill(padding, 0.0)
        by_head = [part.transpose(1, 2) for part in (q, k, v, i, log_f)]  # [B, heads, T, ...]
        reads: list[Tensor] = []
        for pieces in zip(*(part.split(CHUNK, 2) for part in by_head), strict=True):
            read, state = _at_once(state, *pieces)
            reads.append(read)
        hs = o * torch.cat(reads, 2).transpose(1, 2).flatten(-2)  # [B, T, H]
        return engines.cleared(hs, lengths), state

    def _parts(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """q, k, v ``[..., heads, d]``, o ``[..., H]``, ĩ and log f ``[..., heads, 1]``."""
        sizes = [self.hidden_size] * 4 + [self._heads] * 2
        q, k, v, o, i, f = projected.split(sizes, -1)
        q, k, v = (part.unflatten(-1, (self._heads, self._size)) for part in (q, k, v))
        log_f = f if self._exponential else F.logsigmoid(f)
        return q, k / self._size**0.5, v, torch.sigmoid(o), i[..., None], log_f[..., None]


def _at_once(state: State, q: Tensor, k: Tensor, v: Tensor, i: Tensor, log_f: Tensor) -> tuple[Tensor, State]:
    """The first state and some steps ``[B, heads, T, ...]`` -> what these read ``[B, heads, T, d]`` and the last state.

    Each weighs those before it, and the first state, by what the forget gates in between have left of them.
    """
    matrix, normalizer, m = state
    total = log_f.cumsum(2)  # [B, heads, T, 1]
    steps = torch.arange(q.shape[2], device=q.device)
    exponents = (total - total.mT + i.mT).masked_fill(steps > steps[:, None], START)  # [B, heads, T, T]
    first = total + m[:, :, None]  # [B, heads, T, 1]: the first state's
    new_m = torch.maximum(exponents.amax(-1, keepdim=True), first)
    weights, weight_first = torch.exp(exponents - new_m), torch.exp(first - new_m)
    scores = weights * (q @ k.mT)
    read = scores @ v + weight_first * (q @ matrix.mT)
    sums = scores.sum(-1, keepdim=True) + weight_first * (q @ normalizer[..., None])
    written, kept = weights[:, :, -1, :, None], weight_first[:, :, -1]  # [B, heads, T, 1], [B, heads, 1]
    matrix = (written * v).mT @ k + kept[..., None] * matrix
    normalizer = (written * k).sum(2) + kept * normalizer
    return read / _divisor(sums, new_m), (matrix, normalizer, new_m[:, :, -1])


def _divisor(sums: Tensor, m: Tensor) -> Tensor:
    """max(abs(nᵀ q), exp(-m))."""
    return torch.maximum(sums.abs(), torch.exp(-m.clamp(-LIMIT, LIMIT)))
