"""CUDA graphs of a cell's steps: a whole loop is one launch forward and one backward, where a loop has ten a step.

Captures are kept by shape, so shapes are rounded up; the row that fills up is the last sentence's, and steps behind a
sentence are padding like any other. A capture holds the numbers of one forward pass until its backward pass is done:
a second call meanwhile goes by the loop. The capturing function is given, so that all this can be tested without a GPU.
"""

from __future__ import annotations

import copy
import logging
import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nmt.cells.captures import ByShape, Capture, Captured, Steps
from nmt.cells.lasting import Lasting
from nmt.cells.padding import at_last, cleared
from nmt.cells.state import Noise, State, at_step
from nmt.cells.stepping import Step
from nmt.cells.trial import difference, in_a_line

if TYPE_CHECKING:
    from nmt.cells.cell import Cell

    Otherwise = Callable[[Cell, Tensor, Tensor, State], tuple[Tensor, State]]

ROWS, STEPS = 16, 8
"""Rows and steps are rounded up to multiples of these."""
LONGEST = 128
"""Steps of a capture at most: longer sentences are rare, and a capture holds memory for each step."""
AFTER = 2
"""How often a shape goes by the loop before it is captured: what comes once isn't worth it."""
LOG = logging.getLogger("nmt.engines")


class _Turn:
    """A forward pass whose backward pass may still come, for as long as anything refers to it."""

    done = False


@dataclass
class _Slot:
    captured: Captured
    turn: weakref.ref[_Turn] | None = field(default=None)

    def busy(self) -> bool:
        """Whether the numbers of a forward pass are still waited for."""
        turn = None if self.turn is None else self.turn()
        return turn is not None and not turn.done


class _Replay(torch.autograd.Function):
    """A captured forward pass, and its backward pass; copies go out, for the next call overwrites what is captured."""

    @staticmethod
    def forward(ctx: Any, slot: _Slot, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The first `count` tensors are inputs, the others parameters."""
        ctx.slot, ctx.turn = slot, _Turn()
        slot.turn = weakref.ref(ctx.turn)
        return tuple(output.clone() for output in slot.captured.forward(tensors[:count]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of all tensors."""
        if ctx.slot.turn() is not ctx.turn:
            raise RuntimeError("a second backward pass, after another forward pass has taken its captured numbers")
        found = ctx.slot.captured.backward(gradients)
        ctx.turn.done = True
        return None, None, *(None if gradient is None else gradient.clone() for gradient in found)


class Graphs:
    """The engine `graph`: a cell's steps by captures, or `otherwise` where that can't be or doesn't pay."""

    def __init__(self, capture: Capture, otherwise: Otherwise, *, device: str = "cuda") -> None:
        self._capture, self._otherwise, self._device = capture, otherwise, device
        self._slots: weakref.WeakKeyDictionary[nn.Module, ByShape[_Slot]] = weakref.WeakKeyDictionary()
        self._checked: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()

    def __deepcopy__(self, memo: dict[int, object]) -> Graphs:
        """A copy of a model captures its own: those kept here go with this model's weights."""
        return Graphs(copy.deepcopy(self._capture, memo), self._otherwise, device=self._device)

    def __call__(self, cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As every engine."""
        usable = xs.device.type == self._device and xs.shape[1] <= LONGEST
        if not usable or not self._trusted(cell, xs.dtype):
            return self._otherwise(cell, xs, lengths, state)
        try:
            found = self._replayed(cell, xs, lengths, state, AFTER)
        except RuntimeError as error:  # a larger capture than the trial's: memory, as a rule
            self._distrust(cell, in_a_line(error))
            found = None
        return self._otherwise(cell, xs, lengths, state) if found is None else found

    def _replayed(
        self, cell: Cell, xs: Tensor, lengths: Tensor, state: State, after: int
    ) -> tuple[Tensor, State] | None:
        """By a capture; None where there is none yet, or where it is taken."""
        rows, steps = xs.shape[:2]
        more_rows, more_steps = -rows % ROWS, -steps % STEPS
        rows_taken = torch.arange(rows + more_rows, device=xs.device).clamp(max=rows - 1)

        def widened(tensor: Tensor) -> Tensor:
            return F.pad(tensor, [0, 0] * (tensor.dim() - 2) + [0, more_steps])[rows_taken]

        lasting = cell.lasting()
        of_rows = (*state, *lasting.given)
        key: Hashable = _key(lasting, rows + more_rows, steps + more_steps, xs, of_rows)
        slots = self._slots.setdefault(lasting.module, ByShape())
        if not slots.comes_again(key, after):
            return None
        slot = slots.get(key)
        if slots.full() if slot is None else slot.busy():
            return None
        noise = cell.noise(rows, steps)
        projected = cell.project(widened(cleared(xs, lengths)))
        inputs = [projected, *map(widened, _flat(noise)), *(tensor[rows_taken] for tensor in of_rows)]
        parameters = list(lasting.module.parameters())
        if slot is None:
            run = _steps_of(lasting.steps, len(state), noise, projected)
            slot = slots.keep(key, _Slot(self._capture(run, inputs, parameters)))
        ys, *states = _Replay.apply(slot, len(inputs), *inputs, *parameters)
        final = tuple(at_last(tensor[:rows, :steps], lengths) for tensor in states)
        return cleared(ys[:rows, :steps], lengths), final

    def _trusted(self, cell: Cell, dtype: torch.dtype) -> bool:
        """Whether the cell's captures give what the loop gives, tried once on small random numbers."""
        module = cell.lasting().module
        if module not in self._checked:
            self._checked[module] = True
            reason = self._reason(cell, dtype)
            if reason:
                self._distrust(cell, reason)
        return self._checked[module]

    def _distrust(self, cell: Cell, reason: str) -> None:
        LOG.warning("%s runs without graphs: %s", type(cell).__name__, reason)
        self._checked[cell.lasting().module] = False

    def _reason(self, cell: Cell, dtype: torch.dtype) -> str:
        """What speaks against captures of the cell; nothing, as a rule."""

        def captured(cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
            return cast("tuple[Tensor, State]", self._replayed(cell, xs, lengths, state, after=0))

        try:
            with torch.inference_mode(False), torch.enable_grad():
                return difference(cell, dtype, captured, self._otherwise, gradients=True)
        except Exception as error:  # of an attention, say, that would read what a capture can't
            return in_a_line(error)


def _key(lasting: Lasting, rows: int, steps: int, xs: Tensor, of_rows: State) -> Hashable:
    """All that a capture depends on besides numbers; `of_rows` are the first state and what is given."""
    device = xs.device.type
    types = [(tensor.dtype, tensor.requires_grad) for tensor in (xs, *of_rows)]
    sizes = [xs.shape[2:], *(tensor.shape[1:] for tensor in of_rows)]
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    modes = (lasting.module.training, torch.is_grad_enabled(), autocast)
    return (rows, steps, *sizes, *types, *modes)


def _flat(noise: Noise) -> list[Tensor]:
    return [mask for part in noise for mask in ([part] if isinstance(part, Tensor) else _flat(part))]


def _like(noise: Noise, masks: list[Tensor]) -> Noise:
    """The masks, in order, in the places that `noise` has; they are taken from the list."""
    return tuple(masks.pop(0) if isinstance(part, Tensor) else _like(part, masks) for part in noise)


def _steps_of(over: Callable[[State], Step], states: int, noise: Noise, projected: Tensor) -> Steps:
    """The loop over projected inputs, masks, a first state and what is given -> outputs and each state tensor, of every
    step."""
    device = projected.device.type
    autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else projected.dtype

    def run(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        xs, *others = inputs
        masks = _like(noise, others)
        state, given, passed = tuple(others[:states]), tuple(others[states:]), []
        # A capture must not use what autocast has kept from outside of it.
        with torch.autocast(device, dtype, enabled=autocast, cache_enabled=False):
            step = over(given)
            for t, x in enumerate(xs.unbind(1)):
                output, state = step(x, state, at_step(masks, t))
                passed.append((output, *state))
        return tuple(torch.stack(each, 1) for each in zip(*passed, strict=True))

    return run
