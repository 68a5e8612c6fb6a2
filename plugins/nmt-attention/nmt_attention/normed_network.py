"""A small network's score with its own length."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NormedNetwork(nn.Module):
    """score = g (v / ‖v‖)ᵀ tanh(U q + W s + b): weight normalisation (Salimans and Kingma 2016, equation 2) of v.

    g starts at 1/√A, so that scores start as small as those of a v of random signs and length 1/√A would.
    """

    def __init__(self, query_size: int, key_size: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.query = nn.Linear(query_size, size, bias=False)
        self.key = nn.Linear(key_size, size)
        self.direction = nn.Parameter(torch.randn(size))
        self.gain = nn.Parameter(torch.full((1,), size**-0.5))

    def keys(self, states: Tensor) -> Tensor:
        """W s + b, ``[B, S, D] -> [B, S, A]``."""
        keys: Tensor = self.key(states)
        return keys

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        """Queries ``[B, T, H]`` and keys ``[B, S, A]`` -> scores ``[B, T, S]``."""
        hidden = torch.tanh(self.query(query)[:, :, None] + keys[:, None])  # [B, T, S, A]
        return hidden @ (self.gain * F.normalize(self.direction, dim=0))
