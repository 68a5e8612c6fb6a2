"""The beams of search on a device that is no processor: the rules of `nmt.search.sentence`, written for tensors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nmt.device import moved
from nmt.recipe import Search
from nmt.search.hypothesis import Marks, normalizer

FIELDS = 4
"""What there is of each hypothesis: its log-probability, which of the W before it goes on (its parent), its last token
and its length. All are numbers of one type, which holds the whole ones, below 2^24, exactly: so one operation writes
them all, and of operations this is made, whatever their size."""


class Beams(NamedTuple):
    """N sentences of W hypotheses each, and as many that have ended."""

    length: Tensor
    """``[1]``: tokens of the hypotheses."""
    going: Tensor
    """``[N, 4, W]``, the best first; with a log-probability of -inf for a place in the beam that none fills."""
    ended: Tensor
    """``[N, 4, W]``, in the order in which they ended, filled up likewise; lengths count the end mark."""
    done: Tensor
    """``[N]``"""
    broken: Tensor
    """``[N]``: whether the model gave NaN."""
    none: Tensor
    """``[4, 1]``: no hypothesis, with a parent and a token that a step can read and a length that divides."""

    @classmethod
    def first(cls, sentences: int, width: int, marks: Marks, dtype: torch.dtype, device: torch.device) -> Beams:
        """Those before the first token, as numbers of a type."""
        none = moved(torch.tensor([[float("-inf")], [0.0], [marks.end], [1.0]], dtype=dtype), device)
        ended = none.expand(sentences, FIELDS, width)
        going = ended.clone()
        going[:, 2] = marks.begin
        going[:, 0, 0] = 0.0
        no = torch.zeros(sentences, dtype=torch.bool, device=device)
        return cls(torch.zeros(1, dtype=dtype, device=device), going, ended, no, no, none)

    @property
    def log_p(self) -> Tensor:
        """``[N, W]``"""
        return self.going[:, 0]

    def advanced(
        self, best: tuple[Tensor, Tensor, Tensor], longest: Tensor, settings: Search, marks: Marks, n_best: int
    ) -> Beams:
        """Those with one token more, from the W `best` continuations of each sentence: log-probabilities, parents and
        tokens ``[N, W]``. `longest` ``[N]`` are tokens at most, numbers of the beams' type."""
        log_p, parents, tokens = best
        width, length, minus = tokens.shape[1], self.length + 1, float("-inf")
        before = (self.ended[:, 0] > minus).sum(-1, keepdim=True)  # [N, 1]
        rank = torch.arange(width, device=tokens.device)
        counts = (rank < width - before) & (log_p > minus)  # [N, W]
        ends = counts & (tokens == marks.end)
        goes = counts ^ ends
        # Those that ended stand before those that go on, and one place behind all is for the others.
        places = torch.where(goes, goes.cumsum(-1) + (width - 1), 2 * width)
        places = torch.where(ends, ends.cumsum(-1) + (before - 1), places)
        found = torch.stack([log_p, parents.to(log_p), tokens.to(log_p), length.expand_as(log_p)], 1)  # [N, 4, W]
        both = torch.cat([self.ended, self.none.expand(*found.shape[:2], width + 1)], -1)
        both.scatter_(2, places[:, None].expand_as(found), found)
        ended, going, _ = both.split([width, width, 1], -1)

        ahead = longest if settings.lookahead is None else torch.minimum(length + settings.lookahead, longest)
        bound = going[:, 0, 0] / normalizer(ahead, settings)
        decided = (ended[:, 0] / normalizer(ended[:, 3], settings) >= bound[:, None]).sum(-1) >= n_best
        done = ~goes.any(-1) | decided  # and it remains so: from nothing that is open, nothing goes on
        going[:, 0].masked_fill_(done[:, None], minus)
        return Beams(length, going, ended, done, self.broken | (log_p[:, 0].isnan() & ~self.done), self.none)
