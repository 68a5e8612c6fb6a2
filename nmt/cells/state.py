"""What a recurrence carries from step to step."""

from __future__ import annotations

from torch import Tensor

State = tuple[Tensor, ...]
"""A recurrence's state: flat, every tensor batch-first ``[B, ...]``; a GRU's state is a tuple of one."""

Noise = tuple[Tensor, ...]
"""Random masks that stay the same for a whole sequence, batch-first."""
