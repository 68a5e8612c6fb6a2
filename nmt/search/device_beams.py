"""The beams of search on a device that is no processor: the rules of `nmt.search.sentence`, written for tensors."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.recipe import Search
from nmt.search.hypothesis import Marks, normalizer


class Beams(NamedTuple):
    """N sentences of W hypotheses each, the best first, and what has ended of them."""

    length: Tensor
    """``[]``: tokens of the hypotheses."""
    tokens: Tensor
    """``[N, W]``, the last of each hypothesis."""
    parents: Tensor
    """``[N, W]``, which of the W before it each goes on."""
    log_p: Tensor
    """``[N, W]``; -inf for a place in the beam that no hypothesis fills."""
    done: Tensor
    """``[N]``"""
    broken: Tensor
    """``[N]``: whether the model gave NaN."""
    ended_log_p: Tensor
    """``[N, W]``, of hypotheses in the order in which they ended, -inf for none."""
    ended_lengths: Tensor
    """``[N, W]``, with the end mark."""
    ended_parents: Tensor
    """``[N, W]``, which of the W before its end each went on."""

    @classmethod
    def first(cls, sentences: int, width: int, begin: int, like: Tensor) -> Beams:
        """Those before the first token; numbers are of the type and on the device of `like`."""
        tokens = torch.full((sentences, width), begin, device=like.device)
        zeros, ones = torch.zeros_like(tokens), torch.ones_like(tokens)
        no, none = torch.zeros_like(tokens[:, 0], dtype=torch.bool), like.new_full(tokens.shape, float("-inf"))
        log_p = none.index_fill(1, zeros[0, :1], 0.0)
        return cls(zeros[0, 0], tokens, zeros, log_p, no, no, none, ones, zeros)

    def advanced(
        self, best: tuple[Tensor, Tensor, Tensor], longest: Tensor, settings: Search, marks: Marks, n_best: int
    ) -> Beams:
        """Those with one token more, from the W `best` continuations of each sentence: log-probabilities, parents and
        tokens ``[N, W]``. `longest` ``[N]`` are tokens at most."""
        log_p, parents, tokens = best
        width, length = tokens.shape[1], self.length + 1
        before = (self.ended_log_p > float("-inf")).sum(-1, keepdim=True)  # [N, 1]
        rank = torch.arange(width, device=tokens.device)
        counts = (rank < width - before) & (log_p > float("-inf"))  # [N, W]
        ends = counts & (tokens == marks.end)
        goes = counts & ~ends
        slots = (before + ends.cumsum(-1) - 1).masked_fill(~ends, width)
        places = (goes.cumsum(-1) - 1).masked_fill(~goes, width)

        ended_log_p = _written(self.ended_log_p, slots, log_p)
        ended_lengths = _written(self.ended_lengths, slots, length.expand_as(slots))
        going = _written(torch.full_like(log_p, float("-inf")), places, log_p)
        ahead = longest if settings.lookahead is None else torch.minimum(length + settings.lookahead, longest)
        bound = going[:, 0] / normalizer(ahead.to(log_p.dtype), settings)
        scores = ended_log_p / normalizer(ended_lengths.to(log_p.dtype), settings)
        decided = (scores >= bound[:, None]).sum(-1) >= n_best
        done = ~goes.any(-1) | decided  # and it remains so: from nothing that is open, nothing goes on
        return Beams(
            length,
            _written(torch.full_like(tokens, marks.end), places, tokens),
            _written(torch.zeros_like(parents), places, parents),
            going.masked_fill(done[:, None], float("-inf")),
            done,
            self.broken | (log_p[:, 0].isnan() & ~self.done),
            ended_log_p,
            ended_lengths,
            _written(self.ended_parents, slots, parents),
        )


def _written(to: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """``[N, W]`` with values ``[N, W]`` at their places; those whose place is W, behind the last, are left out."""
    return F.pad(to, (0, 1)).scatter(1, places, values)[:, :-1]
