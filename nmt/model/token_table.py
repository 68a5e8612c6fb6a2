"""Rows that depend on a token alone, kept once they are computed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BLOCK = 16
"""Tokens that are computed together: so many rows by a weight take hardly longer than one, and tokenizers number
pieces by how frequent they are, so neighbours are wanted sooner or later."""

BYTES = 1 << 26
"""What is kept at most: all of 8,000 tokens for an LSTM of 512 units."""


class TokenTable:
    """What `compute` ``[R] -> [R, G]`` gives for each token, where that never changes: to translate on a processor."""

    def __init__(self, compute: Callable[[Tensor], Tensor], vocab_size: int) -> None:
        self._compute = compute
        self._last = vocab_size - 1
        self._rows: Tensor | None = None  # [as many as fit, G], of blocks in the order in which they were wanted
        self._places: dict[int, int] = {}  # of each block's first row

    def __call__(self, tokens: Tensor) -> Tensor:
        """``[R] -> [R, G]``."""
        wanted = tokens.tolist()
        blocks = {token // BLOCK for token in wanted}
        missing = blocks - self._places.keys()
        if missing and not self._filled(blocks, missing):
            return self._compute(tokens)
        assert self._rows is not None
        places = [self._places[token // BLOCK] + token % BLOCK for token in wanted]
        return self._rows.index_select(0, torch.tensor(places))

    @torch.inference_mode()
    def _filled(self, blocks: set[int], missing: set[int]) -> bool:
        """Compute the missing blocks, forgetting all where there is no room for them; False where there never is."""
        if self._rows is None:
            row = self._compute(torch.zeros(1, dtype=torch.long))
            self._rows = row.new_empty(BYTES // row.nbytes, row.shape[-1])
        room = len(self._rows) // BLOCK
        if len(blocks) > room:
            return False
        if len(self._places) + len(missing) > room:
            self._places.clear()
            missing = blocks
        tokens = torch.tensor([[block * BLOCK + each for each in range(BLOCK)] for block in sorted(missing)])
        first = len(self._places) * BLOCK
        self._rows[first : first + tokens.numel()] = self._compute(tokens.flatten().clamp_max_(self._last))
        self._places.update((block, first + index * BLOCK) for index, block in enumerate(sorted(missing)))
        return True
