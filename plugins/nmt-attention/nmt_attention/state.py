"""What an attention that remembers keeps: a row for each hypothesis, along the source positions."""

from __future__ import annotations

import torch
from torch import Tensor

from nmt.attention.memory import Memory


def state_type(memory: Memory) -> torch.dtype:
    """The type in which weights are summed or carried along: that of the states, but never less than float32."""
    return torch.promote_types(memory.encoded.states.dtype, torch.float32)


def of_hypotheses(rows: Tensor, query: Tensor, memory: Memory) -> Tensor:
    """A state tensor ``[B·K, S', ...]`` as the queries ``[B, K, H]`` have it, ``[B, K, S, ...]``.

    In search the memory is cut when long sentences are done, so S may be less than S': the first S columns count.
    """
    kept = rows[:, : memory.encoded.mask.shape[1]]
    return kept.reshape(*query.shape[:2], *kept.shape[1:])
