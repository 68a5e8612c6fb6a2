"""A cell's step by torch.compile: the step alone, since a compiled loop is compiled anew for each length.

All compiling is done in trials on small random numbers, forward and backward, one for each cell and mode; outside of
them nothing is compiled, so that training never stands still. What fails in any way is said in a line, and the cell
runs without.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from nmt.cells.padding import cleared
from nmt.cells.state import Noise, State
from nmt.cells.stepping import Step, along
from nmt.cells.trial import difference, in_a_line

if TYPE_CHECKING:
    from nmt.cells.cell import Cell

    Otherwise = Callable[[Cell, Tensor, Tensor, State], tuple[Tensor, State]]

BUDGET = 60.0
"""Seconds after which no more compiling is begun; a step takes from 4 to 30, the first most."""
LIMIT = 32
"""Versions of one cell class's step at most: one for each size and mode."""
LOG = logging.getLogger("nmt.engines")


class Compiler(Protocol):
    """What compiles a step."""

    def missing(self, device: str) -> str:
        """What it lacks for this type of device, in words; nothing where it may work."""

    def compile(self, step: Step) -> Step:
        """The step, to be compiled when it is called."""

    def trial(self) -> AbstractContextManager[None]:
        """While it lasts, what is called is compiled."""

    def use(self) -> AbstractContextManager[None]:
        """While it lasts, what would have to be compiled raises `refusal` instead."""

    def refusal(self) -> type[Exception]:
        """What that raises."""


class TorchCompiler:
    """torch.compile, imported only when something is compiled: that alone takes seconds."""

    def missing(self, device: str) -> str:
        """Triton on a GPU, a C++ compiler elsewhere."""
        if device == "cuda":
            return "" if importlib.util.find_spec("triton") else "torch.compile needs Triton"
        name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
        return "" if shutil.which(name) else f"torch.compile needs a C++ compiler, and there is no {name}"

    def compile(self, step: Step) -> Step:
        """For any number of rows."""
        compiled: Step = torch.compile(step, dynamic=True)
        return compiled

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Up to `LIMIT` versions, then an error; a backward pass may be run again."""
        with warnings.catch_warnings():
            # Of torch about itself: its own imports, and how it looks at tensors.
            warnings.filterwarnings("ignore", r"`torch\.jit", DeprecationWarning)
            warnings.filterwarnings("ignore", r"The \.grad attribute of a Tensor that is not a leaf", UserWarning)
            import torch._dynamo
            import torch._functorch.config

            limited = torch._dynamo.config.patch(recompile_limit=LIMIT, fail_on_recompile_limit_hit=True)
            with limited, torch._functorch.config.patch(donated_buffer=False):
                yield

    def use(self) -> AbstractContextManager[None]:
        """What a trial did not show is refused."""
        import torch._dynamo

        limited: AbstractContextManager[None] = torch._dynamo.config.patch(error_on_recompile=True)
        return limited

    def refusal(self) -> type[Exception]:
        """Of dynamo, whatever it doesn't want to do."""
        import torch._dynamo

        return torch._dynamo.exc.TorchDynamoException


class Compiled:
    """The engine `compiled`: a cell's compiled steps, or `otherwise` where that can't be."""

    def __init__(self, compiler: Compiler, otherwise: Otherwise) -> None:
        self._compiler, self._otherwise = compiler, otherwise
        self._steps: dict[Hashable, Step | None] = {}
        self._said: set[tuple[str, str]] = set()
        self._seconds = 0.0

    def __deepcopy__(self, memo: dict[int, object]) -> Compiled:
        """A copy of a model compiles its own steps: those kept here go with this model's weights."""
        return Compiled(self._compiler, self._otherwise)

    def __call__(self, cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As every engine. A single row, or a single step, would be compiled anew: that runs without."""
        if not cell.lasting or min(xs.shape[:2]) < 2:
            return self._otherwise(cell, xs, lengths, state)
        key = (cell, *_mode(cell, xs))
        if key not in self._steps:
            self._steps[key] = self._tried(cell, xs)
        step = self._steps[key]
        if step is None:
            return self._otherwise(cell, xs, lengths, state)
        projected, noise, state = _prepared(cell, xs, lengths, state)
        try:
            with self._compiler.use():
                return along(step, projected, noise, lengths, state)
        except self._compiler.refusal() as error:
            self._say(cell, in_a_line(error))
            self._steps[key] = None
            return along(cell.step, projected, noise, lengths, state)

    def _tried(self, cell: Cell, xs: Tensor) -> Step | None:
        """The compiled step, once it has given what the cell's own gives."""
        step: Step | None = None
        reason = self._compiler.missing(xs.device.type)
        if not reason and self._seconds >= BUDGET:
            reason = f"{self._seconds:.0f} s of compiling are enough"
        if not reason:
            begin = time.perf_counter()
            step, reason = self._trial(cell, xs.dtype)
            self._count(cell, time.perf_counter() - begin)
        if reason:
            self._say(cell, reason)
        return None if reason else step

    def _trial(self, cell: Cell, dtype: torch.dtype) -> tuple[Step | None, str]:
        def by(step: Step) -> Otherwise:
            def run(cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
                projected, noise, state = _prepared(cell, xs, lengths, state)
                return along(step, projected, noise, lengths, state)

            return run

        try:
            with self._compiler.trial():
                step = self._compiler.compile(cell.step)
                return step, difference(cell, dtype, by(step), by(cell.step), gradients=torch.is_grad_enabled())
        except Exception as error:  # a compiler may raise anything
            return None, in_a_line(error)

    def _count(self, cell: Cell, seconds: float) -> None:
        """What others have compiled before costs next to nothing, and no line."""
        self._seconds += seconds
        if seconds >= 1.0:
            name = type(cell).__name__
            LOG.warning("%s: compiled in %.0f s, %.0f s in all, none after %.0f", name, seconds, self._seconds, BUDGET)

    def _say(self, cell: Cell, reason: str) -> None:
        """Once for each class and reason."""
        name = type(cell).__name__
        if (name, reason) not in self._said:
            self._said.add((name, reason))
            LOG.warning("%s runs without a compiler: %s", name, reason)


def _mode(cell: Cell, xs: Tensor) -> tuple[Hashable, ...]:
    """What makes a compiled step another one, besides the cell."""
    device = xs.device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    gradients = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    return (cell.training, *gradients, xs.dtype, autocast, xs.device)


def _prepared(cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Sequence[Tensor], Noise, State]:
    """What makes all steps alike: inputs ``T x [B, G]`` and states without gaps, the first state with a gradient."""
    projected = cell.project(cleared(xs, lengths)).transpose(0, 1).contiguous()  # [T, B, G]
    noise = cell.noise(*xs.shape[:2])
    state = tuple(tensor.contiguous() for tensor in state)
    if torch.is_grad_enabled():
        state = tuple(tensor if tensor.requires_grad else tensor.detach().requires_grad_() for tensor in state)
    return projected.unbind(0), noise, state
