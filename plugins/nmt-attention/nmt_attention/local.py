"""Local attention: a window on the source."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from nmt.attention.attention import Attention
from nmt.attention.memory import Encoded, Memory
from nmt.cells.state import State
from nmt_attention.state import state_type


class LocalAttention(Attention):
    """General attention within a window around a position p of the source (Luong et al. 2015, section 3.2).

    a = softmax of qᵀ W s_j over the j with |j - p| ≤ D                          local-m, p = t
    a = that softmax ∘ exp(-(j - p)² / 2σ²), σ = D/2                             local-p, equation 10
        p = S σ(vᵀ tanh(P q)), S the length of the source                        equation 9

    `centre`: `predicted` is the paper's local-p, `step` its local-m: the number of the step from 0, and the last
    position when the target is longer than the source. `window`: D; the paper's is 10. A local-p step's weights are
    together less than 1. Good for long sources in about the target's order: far words can't distract. It saves no
    work here: scores are made for all positions at once and those outside the window are set aside.
    """

    averages = True

    def __init__(
        self,
        query_size: int,
        key_size: int,
        *,
        centre: Literal["predicted", "step"] = "predicted",
        window: Annotated[int, Field(gt=0)] = 10,
    ) -> None:
        super().__init__(query_size, key_size, context_size=key_size)
        self._window = window
        self.key = nn.Linear(key_size, query_size, bias=False)
        self.centre = _Prediction(query_size) if centre == "predicted" else None

    def prepare(self, encoded: Encoded) -> Memory:
        """Keys W s ``[B, S, H]``."""
        return Memory(encoded, self.key(encoded.states))

    def initial_state(self, memory: Memory) -> State:
        """The number of the step, ``[B]``, where it is the window's centre; else nothing."""
        return () if self.centre is not None else (memory.encoded.mask.new_zeros(len(memory.keys), dtype=torch.long),)

    def step(self, query: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        """As `Attention.step`."""
        if self.centre is not None:
            return *self(query, memory), state
        (t,) = state
        return *self._around_steps(query, t.view(query.shape[:2]), memory), (t + 1,)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """As `Attention.forward`."""
        if self.centre is None:
            return self._around_steps(query, torch.arange(query.shape[1], device=query.device)[None], memory)
        p = self.centre(query, _lengths(memory).to(state_type(memory)))  # [B, T]
        apart = _positions(memory) - p[..., None]  # [B, T, S]
        nearness = torch.exp(-(apart**2) / (2 * (self._window / 2) ** 2))
        weights = self._softmax(query, apart.abs() <= self._window, memory)
        return _contexts(weights * nearness, memory)

    def _around_steps(self, query: Tensor, t: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Windows around the numbers of steps `t` ``[B or 1, T]``."""
        p = torch.minimum(t, _lengths(memory) - 1)  # [B, T]
        within = (_positions(memory) - p[..., None]).abs() <= self._window
        return _contexts(self._softmax(query, within, memory), memory)

    def _softmax(self, query: Tensor, within: Tensor, memory: Memory) -> Tensor:
        """The weights ``[B, T, S]`` of the tokens within. There is one at least: p is at most 1 beyond the last."""
        scores = query @ memory.keys.mT
        return torch.softmax(scores.masked_fill(~(within & memory.encoded.mask[:, None]), float("-inf")), -1)


class _Prediction(nn.Module):
    """p = S σ(vᵀ tanh(P q))."""

    def __init__(self, query_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(query_size, query_size, bias=False)
        self.output = nn.Linear(query_size, 1, bias=False)

    def forward(self, query: Tensor, lengths: Tensor) -> Tensor:
        """Queries ``[B, T, H]`` and lengths ``[B, 1]`` -> positions ``[B, T]``, in the type of the lengths."""
        share = self.output(torch.tanh(self.hidden(query))).squeeze(-1)  # [B, T]
        return lengths * torch.sigmoid(share.to(lengths.dtype))


def _lengths(memory: Memory) -> Tensor:
    """``[B, 1]``, on the device of the states."""
    return memory.encoded.mask.sum(1, keepdim=True)


def _positions(memory: Memory) -> Tensor:
    """``[S]``: 0, 1, …"""
    return torch.arange(memory.encoded.mask.shape[1], device=memory.encoded.mask.device)


def _contexts(weights: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
    weights = weights.to(memory.encoded.states.dtype)
    return weights @ memory.values, weights
