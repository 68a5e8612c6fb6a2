"""Noise for recurrences: dropout of the candidate and of the state, and zoneout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from nmt.cells.state import Noise

Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
"""A probability below 1."""


@dataclass(frozen=True)
class Regularization:
    """The rates of a cell's noise; what has rate 0 is neither drawn nor applied."""

    recurrent_dropout: float
    """Of the candidate, another mask at each step (Semeniuta et al. 2016)."""
    variational_dropout: float
    """Of the state that a step reads, one mask for the whole sequence (Gal and Ghahramani 2016)."""
    zoneout: tuple[float, ...]
    """For each tensor of the state, the chance of a unit to stay, drawn at each step (Krueger et al. 2017)."""

    def draw(self, like: Tensor, rows: int, steps: int) -> Noise:
        """Masks ``[B, T, H]`` for a sequence, H being `like`'s size: of the candidate, of the state read, and a tuple
        of those of zoneout; an empty tuple in the place of a mask that is not needed.
        """
        if not any((self.recurrent_dropout, self.variational_dropout, *self.zoneout)):
            return ()
        return (
            _dropped(like, rows, steps, self.recurrent_dropout),
            _dropped(like, rows, 1, self.variational_dropout, repeat=steps),
            tuple(_kept(like, rows, steps, rate) for rate in self.zoneout),
        )

    def zoned(self, index: int, old: Tensor, new: Tensor, masks: Noise) -> Tensor:
        """Tensor `index` of the state after zoneout: d ∘ old + (1 - d) ∘ new, with the rate for d where no masks are
        drawn, which is the mean over all of them.
        """
        if self.zoneout[index] == 0.0:
            return new
        mask = masks[index] if masks else ()
        return old.lerp(new, 1.0 - mask) if isinstance(mask, Tensor) else old.lerp(new, 1.0 - self.zoneout[index])


def masked(values: Tensor, mask: Tensor | Noise) -> Tensor:
    """The values, multiplied by the mask where there is one."""
    return values * mask if isinstance(mask, Tensor) else values


def _dropped(like: Tensor, rows: int, steps: int, rate: float, *, repeat: int = 1) -> Tensor | Noise:
    """1 / (1 - rate) with probability 1 - rate, else 0; the same for `repeat` steps."""
    if rate == 0.0:
        return ()
    mask = like.new_empty(rows, steps, like.shape[-1]).bernoulli_(1.0 - rate) / (1.0 - rate)
    return mask.expand(-1, steps * repeat, -1)


def _kept(like: Tensor, rows: int, steps: int, rate: float) -> Tensor | Noise:
    """1 with probability `rate`, where the old value stays."""
    return like.new_empty(rows, steps, like.shape[-1]).bernoulli_(rate) if rate else ()
