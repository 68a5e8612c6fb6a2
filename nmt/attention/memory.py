"""What attention reads: the encoded source, and the keys made from it once a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch.nn.functional as F
from torch import Tensor

from nmt.device import moved

WIDTH = 16
"""Search pads memories to multiples of this: what MKL and a softmax compute of a sentence depends, in the last bit, on
the padding behind it, but no longer among such widths."""


@dataclass(frozen=True)
class Encoded:
    """A batch of encoded source sentences: what an encoder returns."""

    states: Tensor
    """``[B, S, D]``, zero in the padding."""
    mask: Tensor
    """``[B, S]``, True where there is a token."""
    lengths: Tensor
    """``[B]`` int64, on the CPU."""
    summary: Tensor
    """``[B, D]``: each direction's output where it has read the whole sentence."""

    @cached_property
    def padding(self) -> Tensor:
        """``[B, 1, S]``, True where there is no token: the same for every query of every step."""
        return ~self.mask[:, None]

    def widened(self, multiple: int = WIDTH) -> Encoded:
        """The same with S a multiple."""
        extra = -self.mask.shape[1] % multiple
        if extra == 0:
            return self
        return Encoded(F.pad(self.states, (0, 0, 0, extra)), F.pad(self.mask, (0, extra)), self.lengths, self.summary)

    def select(self, rows: Tensor, multiple: int = 1) -> Encoded:
        """The sentences at the indices `rows` (on the CPU), cut to the longest, or a `multiple` behind it."""
        lengths = self.lengths[rows]
        longest = int(lengths.max())
        index, size = moved(rows, self.mask.device), longest + -longest % multiple
        states, mask = self.states[:, :size].index_select(0, index), self.mask[:, :size].index_select(0, index)
        return Encoded(states, mask, lengths, self.summary.index_select(0, index))


@dataclass(frozen=True)
class Memory:
    """Encoded sentences with an attention's keys. Beams share their sentence's memory; nothing is repeated."""

    encoded: Encoded
    keys: Tensor
    """``[B, S, A]``"""
    products: Tensor | None = None
    """``[B, S, C]``: what search has in the place of the states for an attention that `averages`."""

    @property
    def values(self) -> Tensor:
        """``[B, S, C]``, what contexts are means of: the states ``[B, S, D]``, unless there are products of them."""
        return self.encoded.states if self.products is None else self.products

    def select(self, rows: Tensor, multiple: int = 1) -> Memory:
        """The memory of the sentences at the indices `rows`, as `Encoded.select`."""
        encoded = self.encoded.select(rows, multiple)
        size, index = encoded.mask.shape[1], moved(rows, self.keys.device)
        products = None if self.products is None else self.products[:, :size].index_select(0, index)
        return Memory(encoded, self.keys[:, :size].index_select(0, index), products)

    def widened(self, multiple: int = WIDTH) -> Memory:
        """The same with S a multiple, before any products are there; no attention weighs what is added."""
        encoded = self.encoded.widened(multiple)
        if self.keys is self.encoded.states:
            return Memory(encoded, encoded.states)
        return Memory(encoded, F.pad(self.keys, (0, 0, 0, encoded.mask.shape[1] - self.keys.shape[1])))
