"""Monotonic chunkwise attention."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from nmt.attention.attention import Attention
from nmt.attention.memory import Encoded, Memory
from nmt.cells.state import State
from nmt_attention.normed_network import NormedNetwork
from nmt_attention.state import of_hypotheses, state_type


class MonotonicChunkwiseAttention(Attention):
    """MoChA: a place in the source that only moves forward, and soft attention to a chunk that ends there (Chiu and
    Raffel 2018, section 2), in expectation over all the ways it could move.

    e_ij = g (v / ‖v‖)ᵀ tanh(U q_i + W s_j + b) + r, p_ij = σ(e_ij)              stop at j?
    α_ij = p_ij Σ_{k ≤ j} α_{i-1,k} Π_{k ≤ l < j} (1 - p_il), α_0 = (1, 0, …)    the chance to stop at j in step i
    β_ij = Σ_{j ≤ k < j+w} α_ik exp(u_ij) / Σ_{k-w < l ≤ k} exp(u_il)            the weights; u scores like e, without r

    `chunk`: w, the source positions of a chunk; 1 is the monotonic attention of Raffel et al. 2017. `noise`: the
    deviation of normal noise on e in training, which makes p learn to be near 0 or 1. `start`: where r starts: the
    lower, the longer the sources, so that the expected place doesn't rush on. `hard`: outside training p is 1 where
    e > 0 and else 0, so each step stops at one place, as an online translator must; otherwise the expectation is
    computed in search too, as in training. `size`: of each network's hidden layer; the query's size where it isn't
    given. The sum of a step's weights is the chance that it stops at all: what has run past the end reads nothing any
    more. Good for sources in the target's order; elsewhere chunks must span what is reordered.
    """

    averages = True

    def __init__(
        self,
        query_size: int,
        key_size: int,
        *,
        size: Annotated[int, Field(gt=0)] | None = None,
        chunk: Annotated[int, Field(gt=0)] = 4,
        noise: Annotated[float, Field(ge=0.0)] = 1.0,
        start: float = -1.0,
        hard: bool = False,
    ) -> None:
        super().__init__(query_size, key_size, context_size=key_size)
        self._chunk, self._noise, self._hard = chunk, noise, hard
        self.stop = NormedNetwork(query_size, key_size, size or query_size)
        self.offset = nn.Parameter(torch.full((1,), start))
        self.look = NormedNetwork(query_size, key_size, size or query_size) if chunk > 1 else None

    def prepare(self, encoded: Encoded) -> Memory:
        """Keys W s + b of e, then of u: ``[B, S, 2A]``, or ``[B, S, A]`` where chunks are of 1."""
        networks = [self.stop] if self.look is None else [self.stop, self.look]
        return Memory(encoded, torch.cat([network.keys(encoded.states) for network in networks], -1))

    def initial_state(self, memory: Memory) -> State:
        """α_0 ``[B, S]``: before the first step the place is the first."""
        places = torch.zeros(memory.encoded.mask.shape, dtype=state_type(memory), device=memory.keys.device)
        places[:, 0] = 1.0
        return (places,)

    def step(self, query: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        """As `Attention.step`."""
        places = self._moved(of_hypotheses(state[0], query, memory), *self._chances(query, memory))  # [B, K, S]
        return *self._read(places, query, memory), (places.flatten(0, 1),)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """As `Attention.forward`: scores and chunks of all steps at once, only the place one step after another."""
        (place,) = self.initial_state(memory)
        places = []
        for stopping, passing in zip(*(chance.unbind(1) for chance in self._chances(query, memory)), strict=True):
            place = self._moved(place, stopping, passing)
            places.append(place)
        return self._read(torch.stack(places, 1), query, memory)

    def _chances(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """p and 1 - p of every position, ``[B, T, S]`` each; p is 0 in the padding."""
        e = (self.stop(query, memory.keys[..., : self.stop.size]) + self.offset).to(state_type(memory))
        if self.training:
            e = e + self._noise * torch.randn_like(e)
        elif self._hard:
            e = torch.where(e > 0, float("inf"), float("-inf"))
        mask = memory.encoded.mask[:, None]
        return torch.sigmoid(e).masked_fill(~mask, 0.0), torch.sigmoid(-e)

    def _moved(self, places: Tensor, stopping: Tensor, passing: Tensor) -> Tensor:
        """α of a step from the one before, p and 1 - p, each ``[..., S]``.

        α_ij = p_ij reached_j with reached_j = (1 - p_i,j-1) reached_{j-1} + α_{i-1,j}, by a scan whose reach
        doubles: only products and sums of chances, where the paper's quotient of cumulative products underflows.
        """
        size = places.shape[-1]
        reached, passed = places, F.pad(passing, (1, 0))[..., :size]
        reach = 1
        while reach < size:
            reached = reached + passed * F.pad(reached, (reach, 0))[..., :size]
            passed = passed * F.pad(passed, (reach, 0))[..., :size]
            reach *= 2
        return stopping * reached

    def _read(self, places: Tensor, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """α ``[B, T, S]`` -> contexts and the weights β."""
        weights = places
        if self.look is not None:
            u = self.look(query, memory.keys[..., self.stop.size :]).to(places.dtype)
            weights = _over_chunks(places, u, self._chunk)
        weights = weights.to(memory.encoded.states.dtype)
        return weights @ memory.values, weights


def _over_chunks(places: Tensor, scores: Tensor, width: int) -> Tensor:
    """Spread each place's chance ``[..., S]`` over the chunk of `width` positions that ends there, by a softmax of the
    scores ``[..., S]`` within the chunk.
    """
    size = scores.shape[-1]
    chunks = F.pad(scores, (width - 1, 0), value=float("-inf")).unfold(-1, width, 1)  # [..., S, w], the place is last
    shares = F.pad((places[..., None] * torch.softmax(chunks, -1)).mT, (0, width - 1))  # [..., w, S + w - 1]
    # Member m of the chunk that ends at k stands at k - (w - 1 - m).
    parts = [shares[..., m, width - 1 - m : width - 1 - m + size] for m in range(width)]
    return torch.stack(parts).sum(0)
