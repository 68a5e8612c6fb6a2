"""Running a cell along time: the loop, the fused kernels, the choice between them.

Padding stands at the end of each sentence and is never read: it is cleared before the recurrence (so that not even a
NaN in it can reach a gradient), and each sentence's final state is taken at its own last step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

from nmt.cells.captures import CudaCapture
from nmt.cells.compiled import Compiled, TorchCompiler
from nmt.cells.gathered import Gathering
from nmt.cells.graphs import Graphs
from nmt.cells.padding import all_full, at_last, cleared, mask_of, reverse
from nmt.cells.state import State
from nmt.cells.stepping import along

if TYPE_CHECKING:
    from nmt.cells.cell import Cell

__all__ = ["ENGINES", "Engine", "Unroll", "all_full", "at_last", "choose", "cleared", "fused", "mask_of", "reverse"]

Engine = Literal["auto", "fused", "loop", "gathered", "graph", "compiled"]
"""What a recipe's `model.engine` may be."""


WORTH_GATHERING = 1 << 19
"""Elements of a weight from which on it pays: 1024 x 512, say. Measured with 64 rows; below, nothing is gained."""


class Unroll(Protocol):
    """A way along time: a cell, ``xs [B, T, I]``, lengths ``[B]`` and the first state -> outputs and final states."""

    def __call__(self, cell: Cell, xs: Tensor, lengths: Tensor, state: State, /) -> tuple[Tensor, State]:
        """Run the cell over all steps."""


def choose(engine: Engine) -> Unroll:
    """The recipe's `engine` as a function; captures and compiled steps are each model's own."""
    if engine == "compiled":
        return Compiled(TorchCompiler(), own)
    return Graphs(CudaCapture(), own) if engine == "graph" else ENGINES[engine]


def in_words(engine: Engine, kind: type[Cell], device: torch.device) -> str:
    """What runs cells of a kind where a recipe names `engine`, and why another where it can't."""
    if engine in ("loop", "gathered"):
        return engine
    steps = "steps (large weights gathered)" if device.type == "cpu" else "steps"
    otherwise = "fused" if kind.unrolls_itself() else steps
    if engine == "auto":
        return otherwise
    if engine == "fused":
        reason = "" if kind.unrolls_itself() else "it has no kernel of its own"
    elif engine == "graph":
        reason = "" if device.type == "cuda" else "graphs need a GPU"
    else:
        reason = TorchCompiler().missing(device.type)
    return f"{otherwise}, since {reason}" if reason else engine


def own(cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
    """The cell's own `unroll`."""
    return cell.unroll(xs, lengths, state)


def loop(cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
    """The reference: the input projected for all steps at once, then one `step` after another."""
    projected = cell.project(cleared(xs, lengths))  # [B, T, G]
    return along(cell.step, projected.unbind(1), cell.noise(*xs.shape[:2]), lengths, state)


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
        return along(cell.step, projected.unbind(1), noise, lengths, state)


ENGINES: dict[Engine, Unroll] = {
    "auto": own,
    "fused": own,
    "loop": loop,
    "gathered": gathered,
    "graph": Graphs(CudaCapture(), own),
}
"""What costs nothing to try with any cell: all but `compiled`. A graph only on a GPU."""

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
