"""Running a cell along time: the loop, the fused kernels, the choice between them.

Padding stands at the end of each sentence and is never read: it is cleared before the recurrence (so that not even a
NaN in it can reach a gradient), and each sentence's final state is taken at its own last step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from nmt.cells.gathered import Gathering
from nmt.cells.state import Noise, State, at_step
from nmt.device import moved

if TYPE_CHECKING:
    from nmt.cells.cell import Cell


WORTH_GATHERING = 1 << 19
"""Elements of a weight from which on it pays: 1024 x 512, say. Measured with 64 rows; below, nothing is gained."""


class Unroll(Protocol):
    """A way along time: a cell, ``xs [B, T, I]``, lengths ``[B]`` and the first state -> outputs and final states."""

    def __call__(self, cell: Cell, xs: Tensor, lengths: Tensor, state: State, /) -> tuple[Tensor, State]:
        """Run the cell over all steps."""


def choose(engine: Literal["auto", "loop", "gathered"]) -> Unroll:
    """The recipe's `engine` as a function."""
    return ENGINES[engine]


def own(cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
    """The cell's own `unroll`."""
    return cell.unroll(xs, lengths, state)


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


ENGINES: dict[str, Unroll] = {"auto": own, "loop": loop, "gathered": gathered}
"""What a recipe's `model.engine` may be: each cell's own fastest way, or always the same."""

Kernel = Callable[[Tensor, Tensor | None, State], tuple[Tensor, State]]
"""A fused recurrence: data and batch sizes as in a PackedSequence (or ``[B, T, I]`` and None) and a state with a
layer axis ``[1, B, H]`` -> outputs in the data's form and the final state ``[1, B, H]``."""


def fused(kernel: Kernel, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
    """A fused kernel of torch with every sentence's own length: packed only where lengths differ."""
    layered = tuple(tensor[None].contiguous() for tensor in state)  # [1, B, H]
    if all_full(lengths, xs.shape[1]):
        ys, final = kernel(xs, None, layered)
        return ys, tuple(tensor[0] for tensor in final)
    packed = pack_padded_sequence(xs, lengths, batch_first=True, enforce_sorted=False)
    order, inverse = packed.sorted_indices, packed.unsorted_indices
    assert order is not None and inverse is not None  # made by enforce_sorted=False
    data, final = kernel(packed.data, packed.batch_sizes, tuple(tensor[:, order] for tensor in layered))
    ys, _ = pad_packed_sequence(
        PackedSequence(data, packed.batch_sizes, order, inverse), batch_first=True, total_length=xs.shape[1]
    )
    return ys, tuple(tensor[0, inverse] for tensor in final)
