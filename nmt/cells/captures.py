"""CUDA graphs of a function of tensors, and keeping few of them: of shapes that come again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

MOST = 32
"""Captures of one cell, or of one model's search, at most."""

Steps = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]
"""What is captured."""


@dataclass(frozen=True)
class Captured:
    """A forward pass and its backward pass; what either gives is overwritten by its next call."""

    forward: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    """Inputs to outputs."""
    backward: Callable[[Sequence[Tensor]], Sequence[Tensor | None]]
    """The outputs' gradients to those of the inputs and then the parameters."""


Capture = Callable[[Steps, Sequence[Tensor], Sequence[Tensor]], Captured]
"""Captures a function of some inputs; its gradients also reach the parameters."""


class CudaCapture:
    """By torch.cuda: run three times on a stream of its own first, for libraries choose and allocate then.

    One of them is for one model's captures, which use one stream: what libraries keep for a stream is there once, and
    torch lets it go with any graph of that stream, so graphs are kept for as long as this is. What captures without
    gradients make on their way has its place in the same memory, for what they give out is to be copied before another
    runs.
    """

    _one_at_a_time = threading.Lock()

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self._pools: dict[torch.device, Any] = {}
        self._graphs: list[torch.cuda.CUDAGraph] = []

    def __deepcopy__(self, memo: dict[int, object]) -> CudaCapture:
        return CudaCapture()

    def __call__(self, steps: Steps, inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> Captured:
        """As `Capture` says. Raises RuntimeError for what no graph can hold."""
        device = inputs[0].device
        with self._one_at_a_time, ExitStack() as stack:
            stack.enter_context(torch.cuda.device(device))
            # A capture that fails doesn't go back to the stream that it left.
            stack.enter_context(torch.cuda.stream(torch.cuda.current_stream()))
            stack.callback(torch.cuda.synchronize)
            return self._captured(steps, inputs, parameters, device)

    def _captured(
        self, steps: Steps, inputs: Sequence[Tensor], parameters: Sequence[Tensor], device: torch.device
    ) -> Captured:
        static = [tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs]
        every = [*static, *parameters]
        wanted = [tensor for tensor in every if tensor.requires_grad] if torch.is_grad_enabled() else []

        if device not in self._streams:
            self._streams[device], self._pools[device] = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        stream = self._streams[device]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                outputs = steps(static)
                _gradients(outputs, wanted, [torch.zeros_like(output) for output in outputs])
        torch.cuda.current_stream().wait_stream(stream)
        ahead, back = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self._graphs += [ahead, back]
        with torch.cuda.graph(ahead, None if wanted else self._pools[device], stream, "thread_local"):
            outputs = steps(static)
        incoming = [torch.zeros_like(output) for output in outputs if wanted]
        found: dict[int, Tensor | None] = {}
        if wanted:
            with torch.cuda.graph(back, ahead.pool(), stream, "thread_local"):
                gradients = _gradients(outputs, wanted, incoming)
            found = {id(tensor): gradient for tensor, gradient in zip(wanted, gradients, strict=True)}

        def forward(given: Sequence[Tensor]) -> Sequence[Tensor]:
            for own, tensor in zip(static, given, strict=True):
                own.detach().copy_(tensor)
            ahead.replay()
            return [output.detach() for output in outputs]

        def backward(given: Sequence[Tensor]) -> Sequence[Tensor | None]:
            for own, tensor in zip(incoming, given, strict=True):
                own.copy_(tensor)
            back.replay()
            return [found.get(id(tensor)) for tensor in every]

        return Captured(forward, backward)


def _gradients(outputs: Sequence[Tensor], wanted: list[Tensor], incoming: list[Tensor]) -> Sequence[Tensor | None]:
    pairs = [pair for pair in zip(outputs, incoming, strict=True) if pair[0].requires_grad]
    if not pairs or not wanted:
        return [None for _ in wanted]
    return torch.autograd.grad([one for one, _ in pairs], wanted, [one for _, one in pairs], allow_unused=True)


Kept = TypeVar("Kept")


class ByShape(Generic[Kept]):
    """What is made of shapes that come again, `MOST` of it, and how often each shape has come.

    None is ever let go for another: a mixture of more shapes would be captured again and again.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, Kept] = {}
        self._seen: OrderedDict[Hashable, int] = OrderedDict()

    def comes_again(self, shape: Hashable, after: int) -> bool:
        """Whether a shape, which has come just now, had come `after` times before."""
        count = self._seen.pop(shape, 0)
        self._seen[shape] = count + 1
        if len(self._seen) > 100 * MOST:
            self._seen.popitem(last=False)
        return count >= after

    def get(self, shape: Hashable) -> Kept | None:
        """What was made of it."""
        return self._kept.get(shape)

    def full(self) -> bool:
        """Whether nothing more may be kept."""
        return len(self._kept) >= MOST

    def keep(self, shape: Hashable, made: Kept) -> Kept:
        """Keep what was made of it."""
        self._kept[shape] = made
        return made
