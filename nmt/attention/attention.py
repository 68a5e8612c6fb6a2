"""The contract of an attention: what a plugin author writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from nmt.attention.memory import Encoded, Memory
from nmt.cells.state import State
from nmt.shortcuts import give_up_shortcuts


class Attention(nn.Module, ABC):
    """Reads the encoded source for a query: a score for each source position, then their weighted mean.

    An author writes `prepare` and `forward`. Where a step depends on the steps before it (coverage), `initial_state`
    and `step` carry a state, and `forward` is `stepwise` or something faster that equals it.

    `query_size` is the decoder's H, `key_size` the encoder's D. Keyword-only parameters of a subclass's constructor
    are the recipe's options. `context_size` is the size of what it reads: D, or 0 where it reads nothing.
    """

    averages: ClassVar[bool] = False
    """Whether contexts are ``weights @ memory.values``, and those are read for nothing else. Search then gives it
    what a layer behind it makes of the values, so that the layer multiplies once a source position, not once a step."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        give_up_shortcuts(cls, Attention, {"averages": ["forward", "step"]})

    def __init__(self, query_size: int, key_size: int, *, context_size: int) -> None:
        super().__init__()
        self.query_size = query_size
        self.key_size = key_size
        self.context_size = context_size

    @abstractmethod
    def prepare(self, encoded: Encoded) -> Memory:
        """The keys ``[B, S, A]``, made once a sentence."""

    @abstractmethod
    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """The queries of all T steps of a target ``[B, T, H]`` -> contexts ``[B, T, context_size]`` and weights
        ``[B, T, S]``, 0 on padding. The same as T times `step`.
        """

    def initial_state(self, memory: Memory) -> State:
        """What is carried from one step of a target to the next, a row for each of the B sentences: nothing, unless
        an attention remembers where it looked.
        """
        return ()

    def step(self, query: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        """One step of K hypotheses a sentence: queries ``[B, K, H]`` and their state, rows first ``[B·K, ...]`` with
        the K rows of a sentence together -> contexts ``[B, K, context_size]``, weights ``[B, K, S]``, next state.

        The memory is cut when long sentences leave a search: of a state tensor over source positions, only the first
        S columns count. Each hypothesis is answered by itself.
        """
        contexts, weights = self(query, memory)
        return contexts, weights, state


def stepwise(attention: Attention, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
    """The `forward` of an attention that carries a state: one step after another."""
    state = attention.initial_state(memory)
    contexts, weights = [], []
    for step in query.split(1, 1):  # [B, 1, H]
        context, weight, state = attention.step(step, state, memory)
        contexts.append(context)
        weights.append(weight)
    return torch.cat(contexts, 1), torch.cat(weights, 1)


def read(scores: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
    """Scores ``[B, T, S]`` -> contexts ``[B, T, D]`` and weights ``[B, T, S]``, by a softmax over the tokens.

    a = softmax(score), context = Σ_s a_s · value_s, the values being the states
    """
    weights = torch.softmax(scores.masked_fill(memory.encoded.padding, float("-inf")), -1)
    return torch.bmm(weights, memory.values), weights
