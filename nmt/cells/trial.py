"""A trial of another way along time: does it give what the loop gives, on small random numbers?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nmt.cells.state import State
from nmt.errors import visible

if TYPE_CHECKING:
    from nmt.cells.cell import Cell

    Run = Callable[[Cell, Tensor, Tensor, State], tuple[Tensor, State]]

ROWS, STEPS = 11, 5


def difference(cell: Cell, dtype: torch.dtype, run: Run, reference: Run, *, gradients: bool) -> str:
    """What speaks against `run`; nothing where outputs, final states and, with `gradients`, all gradients agree.

    The cell is as it is: in training both see the same masks, and no random number is taken from anybody.
    """
    cell = cell.lasting().example(ROWS)
    device = next(cell.parameters()).device
    generator = torch.Generator().manual_seed(1)
    xs = torch.randn(ROWS, STEPS, cell.input_size, generator=generator).to(device, dtype).requires_grad_(gradients)
    lengths = torch.arange(ROWS) % STEPS + 1

    def results(run: Run) -> list[Tensor]:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            ys, final = run(cell, xs, lengths, cell.initial_state(ROWS))
        if not gradients:
            return [tensor.detach() for tensor in (ys, *final)]
        total = ys.float().square().sum() + sum(tensor.float().square().sum() for tensor in final)
        given = (xs, *cell.lasting().given, *cell.parameters())
        wanted = [tensor for tensor in given if tensor.requires_grad]
        found = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True, retain_graph=True)
        return [tensor.detach() for tensor in (ys, *final, *found)]

    pairs = zip(results(run), results(reference), strict=True)
    far = [float((one - other).float().norm() / other.float().norm().clamp_min(1e-3)) for one, other in pairs]
    near = 3e-2 if torch.is_autocast_enabled(device.type) else 1e-3
    # A NaN is never below.
    return next((f"{each:.1e} off" for each in far if not each < near), "")


def in_a_line(error: Exception) -> str:
    """What an error says: a compiler's first lines are often no more than its name, so three of them."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return visible(" ".join(lines[:3])[:300]) or type(error).__name__
