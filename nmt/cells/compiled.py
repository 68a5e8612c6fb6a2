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

from nmt.cells.lasting import Lasting
from nmt.cells.padding import cleared
from nmt.cells.state import Noise, State
from nmt.cells.stepping import Step, along
from nmt.cells.trial import difference, in_a_line

if TYPE_CHECKING:
    from nmt.cells.cell import Cell

    Otherwise = Callable[[Cell, Tensor, Tensor, State], tuple[Tensor, State]]

StepOver = Callable[..., tuple[Tensor, State]]
"""As `Cell.step`, with what all steps are given of a batch behind, if anything."""

BUDGET = 60.0
"""Seconds after which no more compiling is begun; a step takes from 4 to 30, the first most."""
LIMIT = 32
"""Versions of one cell class's step at most: one for each size and mode."""
LOG = logging.getLogger("nmt.engines")


class Compiler(Protocol):
    """What compiles a step."""

    def missing(self, device: str) -> str:
        """What it lacks for this type of device, in words; nothing where it may work."""

    def compile(self, step: StepOver) -> StepOver:
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

    def compile(self, step: StepOver) -> StepOver:
        """For any number of rows."""
        compiled: StepOver = torch.compile(step, dynamic=True)
        return compiled

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Up to `LIMIT` versions, then an error; sizes that happen to be equal are not taken for one, and a backward
        pass may be run again."""
        with warnings.catch_warnings():
            # Of torch about itself: its own imports, and how it looks at tensors.
            warnings.filterwarnings("ignore", r"`torch\.jit", DeprecationWarning)
            warnings.filterwarnings("ignore", r"The \.grad attribute of a Tensor that is not a leaf", UserWarning)
            import torch._dynamo
            import torch._functorch.config
            import torch.fx.experimental._config as shapes

            limited = torch._dynamo.config.patch(recompile_limit=LIMIT, fail_on_recompile_limit_hit=True)
            again = torch._functorch.config.patch(donated_buffer=False)
            with limited, again, shapes.patch(use_duck_shape=False):  # type: ignore[attr-defined]
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
        self._steps: dict[Hashable, StepOver | None] = {}
        self._said: set[tuple[str, str]] = set()
        self._seconds = 0.0

    def __deepcopy__(self, memo: dict[int, object]) -> Compiled:
        """A copy of a model compiles its own steps: those kept here go with this model's weights."""
        return Compiled(self._compiler, self._otherwise)

    def __call__(self, cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As every engine. A single row, or a single step, would be compiled anew: that runs without."""
        lasting = cell.lasting()
        if min(xs.shape[:2]) < 2:
            return self._otherwise(cell, xs, lengths, state)
        key = (lasting.module, *_mode(lasting, xs))
        if key not in self._steps:
            self._steps[key] = self._tried(cell, xs)
        step = self._steps[key]
        if step is None:
            return self._otherwise(cell, xs, lengths, state)
        projected, noise, state = _prepared(cell, xs, lengths, state)
        try:
            with self._compiler.use():
                return along(_over(step, lasting.given), projected, noise, lengths, state)
        except self._compiler.refusal() as error:
            # A small batch, say, that products would be made for in another way; the next may be as most are.
            self._say(cell, f"runs some batches without a compiler: {in_a_line(error)}", "some")
            return along(cell.step, projected, noise, lengths, state)

    def _tried(self, cell: Cell, xs: Tensor) -> StepOver | None:
        """The compiled step, once it has given what the cell's own gives."""
        step: StepOver | None = None
        reason = self._compiler.missing(xs.device.type)
        if not reason and self._seconds >= BUDGET:
            reason = f"{self._seconds:.0f} s of compiling are enough"
        if not reason:
            begin = time.perf_counter()
            step, reason = self._trial(cell, xs.dtype)
            self._count(cell, time.perf_counter() - begin)
        if reason:
            self._say(cell, f"runs without a compiler: {reason}", reason)
        return None if reason else step

    def _trial(self, cell: Cell, dtype: torch.dtype) -> tuple[StepOver | None, str]:
        given, steps = cell.lasting().given, cell.lasting().steps

        def over(projected: Tensor, state: State, noise: Noise, *given: Tensor) -> tuple[Tensor, State]:
            return steps(given)(projected, state, noise)

        try:
            with self._compiler.trial():
                # Versions are counted by function, so a cell's own where nothing is given.
                step = self._compiler.compile(over if given else steps(()))
                return step, difference(cell, dtype, _by(step), self._otherwise, gradients=torch.is_grad_enabled())
        except Exception as error:  # a compiler may raise anything
            return None, in_a_line(error)

    def _count(self, cell: Cell, seconds: float) -> None:
        """What others have compiled before costs next to nothing, and no line."""
        self._seconds += seconds
        if seconds >= 1.0:
            name = type(cell).__name__
            LOG.warning("%s: compiled in %.0f s, %.0f s in all, none after %.0f", name, seconds, self._seconds, BUDGET)

    def _say(self, cell: Cell, what: str, reason: str) -> None:
        """Once for each class and reason."""
        name = type(cell).__name__
        if (name, reason) not in self._said:
            self._said.add((name, reason))
            LOG.warning("%s %s", name, what)


def _by(step: StepOver) -> Otherwise:
    """All steps by that one."""

    def run(cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        projected, noise, state = _prepared(cell, xs, lengths, state)
        return along(_over(step, cell.lasting().given), projected, noise, lengths, state)

    return run


def _over(step: StepOver, given: State) -> Step:
    """The step over what is given."""
    given = _alike(given)
    return lambda projected, state, noise: step(projected, state, noise, *given)


def _alike(tensors: State) -> State:
    """Without gaps and, where there are any, with gradients: so all calls of a compiled step are alike."""
    tensors = tuple(tensor.contiguous() for tensor in tensors)
    if not torch.is_grad_enabled():
        return tuple(tensor.detach() for tensor in tensors)
    return tuple(
        tensor if tensor.requires_grad or not tensor.is_floating_point() else tensor.detach().requires_grad_()
        for tensor in tensors
    )


def _mode(lasting: Lasting, xs: Tensor) -> tuple[Hashable, ...]:
    """What makes a compiled step another one, besides what it is of."""
    device = xs.device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    gradients = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    return (lasting.module.training, *gradients, xs.dtype, autocast, xs.device)


def _prepared(cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Sequence[Tensor], Noise, State]:
    """What makes all steps alike: inputs ``T x [B, G]`` and the first state."""
    projected = cell.project(cleared(xs, lengths)).transpose(0, 1).contiguous()  # [T, B, G]
    noise = cell.noise(*xs.shape[:2])
    return projected.unbind(0), noise, _alike(state)
