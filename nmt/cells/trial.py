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
    device = next(cell.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        return _difference(cell.lasting().example(ROWS), device, dtype, run, reference, gradients)


def _difference(cell: Cell, device: torch.device, dtype: torch.dtype, run: Run, reference: Run, gradients: bool) -> str:
    generator = torch.Generator().manual_seed(1)
    xs = torch.randn(ROWS, STEPS, cell.input_size, generator=generator).to(device, dtype).requires_grad_(gradients)
    lengths = torch.arange(ROWS) % STEPS + 1

    def results(run: Run) -> tuple[list[Tensor], list[Tensor]]:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            ys, final = run(cell, xs, lengths, cell.initial_state(ROWS))
        outputs = [tensor.detach() for tensor in (ys, *final)]
        if not gradients:
            return outputs, []
        total = ys.float().square().sum() + sum(tensor.float().square().sum() for tensor in final)
        given = (xs, *cell.lasting().given, *cell.parameters())
        wanted = [tensor for tensor in given if tensor.requires_grad]
        found = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True, retain_graph=True)
        return outputs, list(found)

    exact = not torch.is_autocast_enabled(device.type)
    pairs = zip(results(run), results(reference), strict=True)
    far = [each for one, other in pairs for each in _far(one, other, exact)]
    # A NaN is never below.
    return next((f"{each:.1e} off" for each in far if not each < (1e-3 if exact else 1e-1)), "")


def _far(found: list[Tensor], expected: list[Tensor], exact: bool) -> list[float]:
    """How far each is from the other, relative to its size. In low precision what is below a hundredth of the largest
    (a bias that a softmax takes out again, say) is noise."""
    sizes = [float(tensor.float().norm()) for tensor in expected]
    least = 1e-3 if exact else max([1e-3, *(size / 100 for size in sizes)])
    differences = [float((one - other).float().norm()) for one, other in zip(found, expected, strict=True)]
    return [difference / max(size, least) for difference, size in zip(differences, sizes, strict=True)]


def in_a_line(error: Exception) -> str:
    """What an error says: a compiler's first lines are often no more than its name, so three of them."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return visible(" ".join(lines[:3])[:300]) or type(error).__name__
