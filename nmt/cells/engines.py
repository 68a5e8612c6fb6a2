"""Running a cell along time: the loop, the fused kernels, the choice between them.

Padding stands at the end of each sentence and is never read: it is cleared before the recurrence (so that not even a
NaN in it can reach a gradient), and each sentence's final state is taken at its own last step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

from nmt.cells.gathered import Gathering
from nmt.cells.graphs import Graphs, capture
from nmt.cells.padding import all_full, at_last, cleared, mask_of, reverse
from nmt.cells.state import Noise, State, at_step

if TYPE_CHECKING:
    from nmt.cells.cell import Cell

__all__ = ["ENGINES", "Engine", "Unroll", "all_full", "at_last", "choose", "cleared", "fused", "mask_of", "reverse"]

Engine = Literal["auto", "loop", "gathered", "graph"]
"""What a recipe's `model.engine` may be."""


WORTH_GATHERING = 1 << 19
"""Elements of a weight from which on it pays: 1024 x 512, say. Measured with 64 rows; below, nothing is gained."""


class Unroll(Protocol):
    """A way along time: a cell, ``xs [B, T, I]``, lengths ``[B]`` and the first state -> outputs and final states."""

    def __call__(self, cell: Cell, xs: Tensor, lengths: Tensor, state: State, /) -> tuple[Tensor, State]:
        """Run the cell over all steps."""


def choose(engine: Engine) -> Unroll:
    """The recipe's `engine` as a function; captures of `graph` are each model's own."""
    return Graphs(capture, by_steps) if engine == "graph" else ENGINES[engine]


def own(cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
    """The cell's own `unroll`."""
    return cell.unroll(xs, lengths, state)


def loop(cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
    """The reference: the input projected for all steps at once, then one `step` after another."""
    projected = cell.project(cleared(xs, lengths))  # [B, T, G]
    return _steps(cell, projected, cell.noise(*xs.shape[:2]), lengths, state)


def by_steps(cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
    """The fastest way for a cell that has none of its own: on a CPU, large weights are gathered."""
    if xs.device.type == "cpu":
        return gathered(cell, xs, lengths, state, smallest=WORTH_GATHERING)
    return loop(cell, xs, lengths, state)


def gathered(cell: Cell, xs: Tensor, lengths: Tensor, state: State, *, smallest: int = 0) -> tuple[Tensor, State]:
    """The loop with weights of `smallest` elements and more laid out once and their gradients gathered."""
    projected = cell.project(cleared(xs, lengths))  # [B, T, G]
    noise = cell.noise(*xs.shape[:2])
    with Gathering(smallest):
        return _steps(cell, projected, noise, lengths, state)


def _steps(cell: Cell, projected: Tensor, noise: Noise, lengths: Tensor, state: State) -> tuple[Tensor, State]:
    outputs: list[Tensor] = []
    states: list[State] = []
    for t, step in enumerate(projected.unbind(1)):
        output, state = cell.step(step, state, at_step(noise, t))
        outputs.append(output)
        states.append(state)
    ys = cleared(torch.stack(outputs, 1), lengths)  # [B, T, H]
    if all_full(lengths, len(outputs)):
        return ys, state
    final = tuple(at_last(torch.stack(tensors, 1), lengths) for tensors in zip(*states, strict=True))
    return ys, final


ENGINES: dict[Engine, Unroll] = {"auto": own, "loop": loop, "gathered": gathered, "graph": Graphs(capture, by_steps)}
"""Each cell's own fastest way, or always the same; a graph only on a GPU."""

Kernel = Callable[[Tensor, State], tuple[Tensor, State]]
"""A fused recurrence: ``[B, T, I]`` and a state with a layer axis ``[1, B, H]`` -> outputs ``[B, T, H]`` and the state
after T steps ``[1, B, H]``."""


def fused(kernel: Kernel, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
    """A fused kernel of torch over the padding, too: that costs less than packing, for which there is no fused one.

    The first tensor of the state must be the output; the others must not change in the padding.
    """
    ys, final = kernel(xs, tuple(tensor[None].contiguous() for tensor in state))
    _, *others = final
    return cleared(ys, lengths), (at_last(ys, lengths), *(tensor[0] for tensor in others))
