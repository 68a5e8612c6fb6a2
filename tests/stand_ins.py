"""Stand-ins for what captures and what compiles, so that their bookkeeping can be tested anywhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from nmt.cells.captures import Captured, Steps
from nmt.cells.compiled import StepOver
from nmt.cells.state import Noise, State


class Capturing:
    """Captures by remembering: its buffers are written over by every call."""

    def __init__(self, *, wrong: float = 0.0, error: str = "") -> None:
        self.shapes: list[tuple[int, ...]] = []
        self._wrong, self._error = wrong, error

    def __call__(self, steps: Steps, inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> Captured:
        if self._error:
            raise RuntimeError(self._error)
        self.shapes.append(tuple(inputs[0].shape))
        static = [tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs]
        every = [*static, *parameters]
        given: list[Tensor] = []
        buffers: list[Tensor | None] = []
        kept: list[tuple[Tensor, ...]] = []

        def forward(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
            for own, tensor in zip(static, tensors, strict=True):
                own.detach().copy_(tensor)
            with torch.enable_grad():
                kept[:] = [steps(static)]
            if not given:
                given.extend(output.detach().clone() for output in kept[0])
            for own, output in zip(given, kept[0], strict=True):
                own.copy_(output.detach() + self._wrong)
            return given

        def backward(gradients: Sequence[Tensor]) -> Sequence[Tensor | None]:
            wanted = [tensor for tensor in every if tensor.requires_grad]
            found = iter(torch.autograd.grad(kept[0], wanted, gradients, allow_unused=True))
            new = [next(found) if tensor.requires_grad else None for tensor in every]
            if not buffers:
                buffers.extend(None if one is None else one.clone() for one in new)
            for own, one in zip(buffers, new, strict=True):
                if own is not None and one is not None:
                    own.copy_(one)
            return buffers

        return Captured(forward, backward)


class RefusedError(Exception):
    """What the stand-in raises outside of trials."""


class Compiling:
    """Compiles by remembering. `known` are the numbers of rows that it takes outside of trials; None for all."""

    def __init__(self, *, wrong: float = 0.0, error: str = "", known: set[int] | None = None) -> None:
        self.trials = 0
        self.calls = 0
        self._wrong, self._error, self._known = wrong, error, known
        self._trying = False

    def missing(self, device: str) -> str:
        return ""

    def compile(self, step: StepOver) -> StepOver:
        if self._error:
            raise RuntimeError(self._error)

        def run(projected: Tensor, state: State, noise: Noise, *given: Tensor) -> tuple[Tensor, State]:
            if not self._trying and self._known is not None and len(projected) not in self._known:
                raise RefusedError("too many rows")
            self.calls += not self._trying
            output, state = step(projected, state, noise, *given)
            return output + self._wrong, state

        return run

    @contextmanager
    def trial(self) -> Iterator[None]:
        self.trials += 1
        self._trying = True
        yield
        self._trying = False

    @contextmanager
    def use(self) -> Iterator[None]:
        assert not self._trying
        yield

    def refusal(self) -> type[Exception]:
        return RefusedError
