"""Dropout in steps (Srivastava et al. 2014), its masks drawn before them like all noise.

So a step draws no random numbers, and whatever runs steps (a loop, a capture, a compiler) drops the same units.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nmt.cells.state import Noise


def drawn(rows: int, steps: int, size: int, dropout: float, device: torch.device) -> Noise:
    """Which units ``[rows, steps, size]`` are dropped, each with probability `dropout`; ``()`` where that is 0."""
    if dropout == 0.0:
        return ()
    units = torch.empty(steps, rows, size, dtype=torch.bool, device=device).bernoulli_(dropout)
    return (units.transpose(0, 1),)  # each step's in one piece


def dropped(xs: Tensor, noise: Noise, dropout: float) -> Tensor:
    """``[B, H]`` without the units that a step's noise names, the others larger by 1 / (1 - p); all, where it is
    ``()``."""
    for units in noise:
        assert isinstance(units, Tensor)
        xs = xs.masked_fill(units, 0.0) * (1.0 / (1.0 - dropout))
    return xs
