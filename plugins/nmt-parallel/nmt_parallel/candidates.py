"""The candidate states of the minimal cells."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Candidate = Literal["positive", "linear"]
"""``positive``: g(x) = x + 0.5 where x ≥ 0, else σ(x) (Feng et al. 2024, appendix B); ``linear``: x itself."""


def candidate_of(x: Tensor, kind: Candidate) -> Tensor:
    """What enters the state, from the input's product."""
    if kind == "linear":
        return x
    return torch.relu(x) + torch.sigmoid(x.clamp(max=0.0))
