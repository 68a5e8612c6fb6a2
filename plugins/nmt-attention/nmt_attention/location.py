"""Location-aware attention."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nmt.attention.attention import Attention, read, stepwise
from nmt.attention.memory import Encoded, Memory
from nmt.cells.state import State
from nmt.errors import UserError
from nmt_attention.state import of_hypotheses, state_type


class LocationAttention(Attention):
    """Additive attention that also sees where the step before looked, through a convolution (Chorowski et al. 2015,
    equations 8 and 9).

    f_i = F * a_{i-1}                                  n filters of a width along the source; a_0 is zero
    score_ij = vᵀ tanh(U q_i + W s_j + b + L f_ij)

    `filters`: n; `width`: of a filter in source positions, odd. `cumulative`: f reads the sum of all weights so far
    instead of the last (Shen et al. 2018, Tacotron 2), so that coverage is seen too. `size`: of the network's hidden
    layer; the query's size where it isn't given. Good where source and target run side by side (copying, spelling,
    close languages) and where the same words come again; a step waits for the one before it.
    """

    averages = True

    def __init__(
        self,
        query_size: int,
        key_size: int,
        *,
        size: Annotated[int, Field(gt=0)] | None = None,
        filters: Annotated[int, Field(gt=0)] = 10,
        width: Annotated[int, Field(gt=0)] = 5,
        cumulative: bool = False,
    ) -> None:
        if width % 2 == 0:
            raise UserError(f"location attention: a filter of width {width} has no middle", "choose an odd width")
        super().__init__(query_size, key_size, context_size=key_size)
        self._width, self._cumulative = width, cumulative
        self.query = nn.Linear(query_size, size or query_size, bias=False)
        self.key = nn.Linear(key_size, size or query_size)
        self.filters = nn.Linear(width, filters, bias=False)
        self.location = nn.Linear(filters, size or query_size, bias=False)
        self.score = nn.Linear(size or query_size, 1, bias=False)

    def prepare(self, encoded: Encoded) -> Memory:
        """Keys W s + b ``[B, S, A]``."""
        return Memory(encoded, self.key(encoded.states))

    def initial_state(self, memory: Memory) -> State:
        """The weights of no step yet, ``[B, S]``: zeros."""
        return (memory.keys.new_zeros(memory.encoded.mask.shape, dtype=state_type(memory)),)

    def step(self, query: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        """As `Attention.step`."""
        before = of_hypotheses(state[0], query, memory)  # [B, K, S]
        known = before.masked_fill(~memory.encoded.mask[:, None], 0.0).to(memory.keys.dtype)
        around = F.pad(known, (self._width // 2, self._width // 2)).unfold(-1, self._width, 1)  # [B, K, S, width]
        located = self.location(self.filters(around))  # [B, K, S, A]
        hidden = torch.tanh(self.query(query)[:, :, None] + memory.keys[:, None] + located)
        contexts, weights = read(self.score(hidden).squeeze(-1), memory)
        after = before + weights if self._cumulative else weights
        return contexts, weights, (after.to(before.dtype).flatten(0, 1),)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """As `Attention.forward`, one step after another."""
        return stepwise(self, query, memory)
