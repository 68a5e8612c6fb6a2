"""What attention reads: the encoded source, and the keys made from it once a sentence."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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

    def select(self, rows: Tensor) -> Encoded:
        """The sentences at the indices `rows`, cut to their longest; `rows` are on the CPU."""
        lengths = self.lengths[rows]
        index, size = rows.to(self.mask.device), int(lengths.max())
        return Encoded(self.states[index, :size], self.mask[index, :size], lengths, self.summary[index])


@dataclass(frozen=True)
class Memory:
    """Encoded sentences with an attention's keys. Beams share their sentence's memory; nothing is repeated."""

    encoded: Encoded
    keys: Tensor
    """``[B, S, A]``"""

    def select(self, rows: Tensor) -> Memory:
        """The memory of the sentences at the indices `rows`; `rows` are on the CPU."""
        encoded = self.encoded.select(rows)
        return Memory(encoded, self.keys[rows.to(self.keys.device), : encoded.mask.shape[1]])
