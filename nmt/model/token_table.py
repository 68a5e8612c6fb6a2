"""Rows that depend on a token alone, kept once they are computed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BLOCK = 16
"""Tokens that are computed together: so many rows by a weight take hardly longer than one, and tokenizers number
pieces by how frequent they are, so neighbours are wanted sooner or later."""

BYTES = 1 << 26
"""What is kept at most: all of 8,000 tokens for an LSTM of 512 units. Of more, those with the lowest numbers."""


class TokenTable:
    """What `compute` ``[R] -> [R, G]`` gives for each token, where that never changes: to translate on a processor.

    Safe in threads: two that miss the same rows write the same numbers to the same places.
    """

    @torch.inference_mode()
    def __init__(self, compute: Callable[[Tensor], Tensor], vocab_size: int) -> None:
        self._compute = compute
        row = compute(torch.zeros(1, dtype=torch.long))
        blocks = max(1, min(-(-vocab_size // BLOCK), BYTES // (BLOCK * row.nbytes)))
        self._rows = row.new_empty(blocks * BLOCK, row.shape[-1])
        self._last = vocab_size - 1
        self._filled: set[int] = set()  # blocks

    def __call__(self, tokens: Tensor) -> Tensor:
        """``[R] -> [R, G]``."""
        kept, wanted = len(self._rows), tokens.tolist()
        missing = {token // BLOCK for token in wanted if token < kept} - self._filled
        if missing:
            self._fill(sorted(missing))
        if max(wanted) < kept:
            return self._rows.index_select(0, tokens)
        rare = tokens >= kept
        rows = self._rows.index_select(0, tokens.masked_fill(rare, 0))
        rows[rare] = self._compute(tokens[rare])
        return rows

    @torch.inference_mode()
    def _fill(self, blocks: list[int]) -> None:
        tokens = torch.tensor([[block * BLOCK + each for each in range(BLOCK)] for block in blocks]).flatten()
        self._rows[tokens] = self._compute(tokens.clamp(max=self._last))
        self._filled.update(blocks)
