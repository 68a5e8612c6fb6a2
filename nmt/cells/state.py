"""What a recurrence carries from step to step."""

from __future__ import annotations

from torch import Tensor

State = tuple[Tensor, ...]
"""A recurrence's state: flat, every tensor batch-first ``[B, ...]``; a GRU's state is a tuple of one."""

Noise = tuple["Tensor | Noise", ...]
"""Random masks of a recurrence: ``[B, T, ...]`` for a whole sequence, ``[B, ...]`` for one step; a tuple for each cell
where a recurrence is made of several. Empty where there is none."""


def at_step(noise: Noise, t: int) -> Noise:
    """The masks of step `t`, from those of a whole sequence."""
    return tuple(part[:, t] if isinstance(part, Tensor) else at_step(part, t) for part in noise)


def rows_of(state: State, rows: Tensor) -> State:
    """The rows ``[R]`` of a state ``[U, ...]``, some of them several times perhaps -> ``[R, ...]``."""
    return tuple(tensor.index_select(0, rows) for tensor in state)
