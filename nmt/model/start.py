"""Where a decoder's state starts from."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from nmt.attention.memory import Encoded
from nmt.cells.state import State
from nmt.errors import UserError


class Start(nn.Module):
    """The decoder's first state from the encoded source.

    zeros: the cells' own initial state. last: the encoder's summary; mean: the mean of its states; each copied into
    every state tensor, whose size it must have. learned: tanh(W summary + b) with a part of W for each state tensor
    (Bahdanau et al. 2015, appendix A.2.2), whatever the sizes and depths. State tensors of more than one axis
    (a matrix memory, say) always start as their cell has them.
    """

    def __init__(
        self,
        encoded_size: int,
        state_shapes: tuple[tuple[int, ...], ...],
        start: Literal["zeros", "last", "mean", "learned"],
    ) -> None:
        super().__init__()
        self._start = start
        self._sizes = [shape[0] if len(shape) == 1 and start != "zeros" else 0 for shape in state_shapes]
        if start in ("last", "mean") and any(size not in (0, encoded_size) for size in self._sizes):
            raise UserError(
                f"start: {start} needs a decoder as wide as the encoder's output, {encoded_size}",
                "use start: learned, or equal sizes (a both-ways encoder gives twice its hidden_size)",
            )
        self.sets_anything = any(self._sizes)
        learned = start == "learned" and self.sets_anything
        self.bridge = nn.Linear(encoded_size, sum(self._sizes)) if learned else None

    def forward(self, encoded: Encoded, zeros: State) -> State:
        """The encoded source and the cells' own initial state, each tensor ``[B, ...]`` -> the first state."""
        parts = iter(self._parts(encoded))
        return tuple(next(parts) if size else zero for size, zero in zip(self._sizes, zeros, strict=True))

    def _parts(self, encoded: Encoded) -> list[Tensor]:
        count = sum(size > 0 for size in self._sizes)
        if self.bridge is not None:
            projected = torch.tanh(self.bridge(encoded.summary))
            return list(torch.split(projected, [size for size in self._sizes if size], -1))
        if self._start == "mean":
            return [encoded.states.sum(1) / encoded.mask.sum(1, keepdim=True)] * count
        return [encoded.summary] * count
