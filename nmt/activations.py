"""Nonlinearities that torch computes slowly."""

from __future__ import annotations

import torch
from torch import Tensor

_MINUS_ONE = torch.tensor(-1.0)  # for a few rows, numbers would take torch longer than the sigmoid does


def tanh(x: Tensor) -> Tensor:
    """tanh x ``[..., H]``; in fp32 on a processor, where no gradient is asked for, as 2 σ(2x) - 1.

    torch computes σ five times as fast there as tanh, which is 5 % of the time of translating in low precision. The
    two differ by 1.8e-7 at most. Not where H is no multiple of 32: the last numbers of all would be computed in
    another way than the rest, and which they are depends on the batch.
    """
    if torch.is_grad_enabled() or x.dtype is not torch.float32 or x.device.type != "cpu" or x.shape[-1] % 32:
        return torch.tanh(x)
    return torch.add(_MINUS_ONE, (x + x).sigmoid_(), alpha=2)
