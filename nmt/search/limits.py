"""Search among some of the tokens, each sentence by a list of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nmt.device import moved
from nmt.model.embeddings import OutputLayer


@dataclass(frozen=True)
class Limits:
    """The tokens that translations may be made of, where not the whole vocabulary."""

    shared: Tensor
    """``[A]``: tokens of every sentence, the end mark among them."""
    further: Tensor
    """``[F]``: others that some of these sentences may use."""
    own: Tensor
    """``[B, M]``: which of the further ones a sentence may use, rising, and -1 behind the last of them."""

    def columns_of(self, tokens: Sequence[int]) -> Tensor:
        """The columns of logits that those of the `tokens` that are shared have, rising."""
        return torch.isin(self.shared, torch.tensor(tokens, dtype=torch.long)).nonzero().squeeze(1)

    def own_tokens(self) -> Tensor:
        """``[B, M]``: the tokens that `own` are, any behind the last of them."""
        own = self.own.clamp(min=0)
        return self.further[own] if len(self.further) else own


@dataclass(frozen=True)
class Limited:
    """The columns of logits of N sentences: the shared tokens, then each sentence's own.

    Where a token stands doesn't depend on the tokens that a sentence's neighbours bring along, only how many empty
    columns follow. So a softmax, which adds up the columns in their order, has the same bits in any batch.
    """

    parts: Callable[[Tensor], tuple[Tensor, Tensor]]
    """Features ``[L, H]`` -> logits of the shared tokens ``[L, A]`` and of the further ones ``[L, F]``."""
    own: Tensor
    """``[N, M]``, of which of the further ones a column behind the shared ones is."""
    empty: Tensor
    """``[N, M]``: -inf for a column of no token, else 0."""
    shared_tokens: list[int]
    own_tokens: list[list[int]]

    @classmethod
    def of(cls, output: OutputLayer, limits: Limits, banned: Sequence[int], like: Tensor) -> Limited:
        """Those of a batch; none is of a `banned` token that isn't shared. Numbers are of the type and on the device of
        `like`."""
        own, tokens = limits.own.clamp(min=0), limits.own_tokens()
        there = (limits.own >= 0) & ~torch.isin(tokens, torch.tensor(banned, dtype=torch.long))
        empty = torch.zeros(own.shape, dtype=like.dtype).masked_fill_(~there, float("-inf"))
        parts = output.over(limits.shared, limits.further)
        return cls(parts, moved(own, like.device), moved(empty, like.device), limits.shared.tolist(), tokens.tolist())

    def logits(self, features: Tensor, places: Tensor | None, width: int) -> Tensor:
        """Features ``[L, H]`` -> ``[L, A + M]``. The rows are of some `places` in the sentences' beams of a `width`, or
        of all."""
        shared, further = self.parts(features)
        if places is None:
            own, empty = (each[:, None].expand(-1, width, -1).flatten(0, 1) for each in (self.own, self.empty))
        else:
            sentences = places.div(width, rounding_mode="floor")
            own, empty = self.own.index_select(0, sentences), self.empty.index_select(0, sentences)
        return torch.cat([shared, further.gather(1, own).add_(empty) if further.shape[1] else empty], -1)

    def tokens(self, sentence: int, columns: Sequence[int]) -> list[int]:
        """The tokens that some columns of a sentence are of."""
        own, before = self.own_tokens[sentence], len(self.shared_tokens)
        return [self.shared_tokens[each] if each < before else own[each - before] for each in columns]

    def select(self, sentences: Sequence[int]) -> Limited:
        """Those of some of the sentences."""
        rows = moved(torch.tensor(sentences), self.own.device)
        return replace(
            self,
            own=self.own.index_select(0, rows),
            empty=self.empty.index_select(0, rows),
            own_tokens=[self.own_tokens[sentence] for sentence in sentences],
        )
