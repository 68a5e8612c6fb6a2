"""The loop of steps, which is what every engine is measured by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nmt.cells.padding import all_full, at_last, cleared
from nmt.cells.state import Noise, State, at_step

Step = Callable[[Tensor, State, Noise], tuple[Tensor, State]]
"""As `Cell.step`."""


def along(step: Step, projected: Sequence[Tensor], noise: Noise, lengths: Tensor, state: State) -> tuple[Tensor, State]:
    """One step after another: projected inputs ``[B, G]``, all steps' noise, lengths ``[B]`` and the first state
    -> outputs ``[B, T, H]``, cleared, and each sentence's state at its own last step."""
    outputs: list[Tensor] = []
    states: list[State] = []
    for t, each in enumerate(projected):
        output, state = step(each, state, at_step(noise, t))
        outputs.append(output)
        states.append(state)
    ys = cleared(torch.stack(outputs, 1), lengths)  # [B, T, H]
    if all_full(lengths, len(outputs)):
        return ys, state
    final = tuple(at_last(torch.stack(tensors, 1), lengths) for tensors in zip(*states, strict=True))
    return ys, final
