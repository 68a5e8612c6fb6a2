"""Nonlinearities that torch computes slowly."""

from __future__ import annotations

import torch
from torch import Tensor


def tanh(x: Tensor) -> Tensor:
    """tanh x, of any shape; in fp32 on a processor, where no gradient is asked for, as 2 σ(2x) - 1.

    torch computes σ five times as fast there as tanh, which is 5 % of the time of translating in low precision. The
    two differ by 1.2e-7 at most.
    """
    if torch.is_grad_enabled() or x.dtype is not torch.float32 or x.device.type != "cpu":
        return torch.tanh(x)
    return torch.sigmoid(x + x).mul_(2).sub_(1)
