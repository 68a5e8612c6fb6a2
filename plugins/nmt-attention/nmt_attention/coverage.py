"""Attention that knows what it has covered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from nmt.attention.attention import Attention, read, stepwise
from nmt.attention.memory import Encoded, Memory
from nmt.cells.gru import GRUCell
from nmt.cells.state import State
from nmt.errors import UserError
from nmt_attention.state import of_hypotheses, state_type


class CoverageAttention(Attention):
    """Additive attention that also reads what each source position has got so far (Tu et al. 2016, section 3).

    score_j = vᵀ tanh(U q + W s_j + b + R C_j)      C is zero before the first step

    Its coverage C_j after a step with the weights a is one of

    C_j + a_j                        linguistic coverage without fertility: the plain sum of the weights
    C_j + a_j / Φ_j                  with fertility: Φ_j = N σ(Fᵀ s_j), how many target words s_j is good for
    GRU(C_j, [a_j; s_j; q])          neural coverage with gating, C_j of `units` numbers

    `fertility`: N, the most target words for one source word (the paper's is 2); `units`: the size of neural coverage
    (the paper's is 10); with neither, the plain sum. `size`: of the network's hidden layer; the query's size where it
    isn't given. The paper's t_{i-1}, the decoder's state before a step, is here the query, the output of the step.
    Good against leaving source words out and translating them twice; a step waits for the one before it.
    """

    averages = True

    def __init__(
        self,
        query_size: int,
        key_size: int,
        *,
        size: Annotated[int, Field(gt=0)] | None = None,
        fertility: Annotated[float, Field(gt=0.0)] | None = None,
        units: Annotated[int, Field(gt=0)] | None = None,
    ) -> None:
        if fertility is not None and units is not None:
            raise UserError("coverage attention: fertility belongs to sums and units to a GRU", "give one of them")
        super().__init__(query_size, key_size, context_size=key_size)
        self.query = nn.Linear(query_size, size or query_size, bias=False)
        self.key = nn.Linear(key_size, size or query_size)
        self.score = nn.Linear(size or query_size, 1, bias=False)
        self.growth = _growth(query_size, key_size, fertility, units)
        self.coverage = nn.Linear(self.growth.size, size or query_size, bias=False)

    def prepare(self, encoded: Encoded) -> Memory:
        """Keys W s + b, and what the growth of coverage needs of the states, ``[B, S, A + F]``."""
        return Memory(encoded, torch.cat([self.key(encoded.states), self.growth.features(encoded.states)], -1))

    def initial_state(self, memory: Memory) -> State:
        """C of no step yet, ``[B, S, C]``: zeros."""
        shape = (*memory.encoded.mask.shape, self.growth.size)
        return (memory.keys.new_zeros(shape, dtype=state_type(memory)),)

    def step(self, query: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        """As `Attention.step`."""
        size = self.key.out_features
        keys, features = memory.keys[..., :size], memory.keys[..., size:]
        coverage = of_hypotheses(state[0], query, memory)  # [B, K, S, C]
        seen = self.coverage(coverage.to(keys.dtype))  # [B, K, S, A]
        hidden = torch.tanh(self.query(query)[:, :, None] + keys[:, None] + seen)
        contexts, weights = read(self.score(hidden).squeeze(-1), memory)
        grown = self.growth(coverage, weights, query, features)
        return contexts, weights, (grown.to(coverage.dtype).flatten(0, 1),)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """As `Attention.forward`, one step after another."""
        return stepwise(self, query, memory)


class _Growth(nn.Module, ABC):
    """How coverage grows by a step. `size`: how many numbers it is for each source position, C."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    @abstractmethod
    def features(self, states: Tensor) -> Tensor:
        """What it needs of the states, made once a sentence: ``[B, S, D] -> [B, S, F]``."""

    @abstractmethod
    def forward(self, coverage: Tensor, weights: Tensor, query: Tensor, features: Tensor) -> Tensor:
        """Coverage ``[B, K, S, C]``, a step's weights ``[B, K, S]`` and query ``[B, K, H]`` -> the next coverage."""


class _Sum(_Growth):
    def __init__(self) -> None:
        super().__init__(1)

    def features(self, states: Tensor) -> Tensor:
        return states[..., :0]

    def forward(self, coverage: Tensor, weights: Tensor, query: Tensor, features: Tensor) -> Tensor:
        return coverage + weights[..., None]


class _Fertility(_Growth):
    def __init__(self, key_size: int, most: float) -> None:
        super().__init__(1)
        self._most = most
        self.fertility = nn.Linear(key_size, 1, bias=False)

    def features(self, states: Tensor) -> Tensor:
        """1 / Φ."""
        return 1 / (self._most * torch.sigmoid(self.fertility(states)))

    def forward(self, coverage: Tensor, weights: Tensor, query: Tensor, features: Tensor) -> Tensor:
        return coverage + weights[..., None] * features[:, None]


class _Gated(_Growth):
    def __init__(self, query_size: int, key_size: int, units: int) -> None:
        super().__init__(units)
        # A GRU's product with [a; s; q] is the sum of its products with each: that of s is made once a sentence, and
        # that of q once for all source positions.
        self.cell = GRUCell(1, units)
        self.state = nn.Linear(key_size, 3 * units, bias=False)
        self.query = nn.Linear(query_size, 3 * units, bias=False)

    def features(self, states: Tensor) -> Tensor:
        projected: Tensor = self.state(states)
        return projected

    def forward(self, coverage: Tensor, weights: Tensor, query: Tensor, features: Tensor) -> Tensor:
        numbers = weights[..., None].to(features.dtype)
        projected = self.cell.project(numbers) + features[:, None] + self.query(query)[:, :, None]  # [B, K, S, 3C]
        grown, _ = self.cell.step(projected.flatten(0, 2), (coverage.to(projected.dtype).flatten(0, 2),))
        return grown.view_as(coverage)


def _growth(query_size: int, key_size: int, fertility: float | None, units: int | None) -> _Growth:
    if units is not None:
        return _Gated(query_size, key_size, units)
    return _Sum() if fertility is None else _Fertility(key_size, fertility)
