"""Sentences of unequal lengths in one tensor: what is padding, what is last, and the other way round."""

from __future__ import annotations

import torch
from torch import Tensor

from nmt.device import moved


def mask_of(lengths: Tensor, size: int, device: torch.device) -> Tensor:
    """``[B] -> [B, size]``, True where a sentence of that length has a token."""
    return torch.arange(size, device=device) < moved(lengths, device)[:, None]


def all_full(lengths: Tensor, size: int) -> bool:
    """Whether no sentence has padding. `lengths` are on the CPU, so nothing waits for a device."""
    return bool((lengths == size).all())


def cleared(xs: Tensor, lengths: Tensor) -> Tensor:
    """``[B, T, ...]`` with zeros for padding."""
    if all_full(lengths, xs.shape[1]):
        return xs
    mask = mask_of(lengths, xs.shape[1], xs.device)
    return xs.masked_fill(~mask.view(*mask.shape, *[1] * (xs.dim() - 2)), 0.0)


def at_last(ys: Tensor, lengths: Tensor) -> Tensor:
    """``[B, T, ...] -> [B, ...]``: each sentence's own last step."""
    if all_full(lengths, ys.shape[1]):
        return ys[:, -1]
    rows = torch.arange(ys.shape[0], device=ys.device)
    return ys[rows, moved(lengths, ys.device) - 1]


def reverse(xs: Tensor, lengths: Tensor) -> Tensor:
    """``[B, T, ...]`` reversed within each sentence; padding stays at the end. Its own inverse."""
    size = xs.shape[1]
    if all_full(lengths, size):
        return xs.flip(1)
    steps = torch.arange(size, device=xs.device)
    backwards = moved(lengths, xs.device)[:, None] - 1 - steps  # [B, T], negative in the padding
    index = torch.where(backwards >= 0, backwards, steps)
    return xs[torch.arange(xs.shape[0], device=xs.device)[:, None], index]
