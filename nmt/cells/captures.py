"""CUDA graphs of a function of tensors, and keeping few of them: by shape, the latest, of shapes that come again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

AFTER = 2
"""How often a shape comes before it is captured: what comes once isn't worth it."""
MOST = 32
"""Captures kept at most."""

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


def capture(steps: Steps, inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> Captured:
    """By torch.cuda: run three times on a stream of its own first, for libraries choose and allocate then."""
    static = [tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs]
    every = [*static, *parameters]
    wanted = [tensor for tensor in every if tensor.requires_grad] if torch.is_grad_enabled() else []

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            outputs = steps(static)
            _gradients(outputs, wanted, [torch.zeros_like(output) for output in outputs])
    torch.cuda.current_stream().wait_stream(stream)
    ahead, back = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(ahead):
        outputs = steps(static)
    incoming = [torch.zeros_like(output) for output in outputs]
    found: dict[int, Tensor | None] = {}
    if wanted:
        with torch.cuda.graph(back, pool=ahead.pool()):
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
    """What is made of shapes: `MOST` at most, the latest; and how often each shape has come."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()
        self._seen: OrderedDict[Hashable, int] = OrderedDict()

    def comes_again(self, shape: Hashable, after: int) -> bool:
        """Whether a shape, which has come just now, had come `after` times before."""
        count = self._seen.pop(shape, 0)
        self._seen[shape] = count + 1
        if len(self._seen) > 100 * MOST:
            self._seen.popitem(last=False)
        return count >= after

    def get(self, shape: Hashable) -> Kept | None:
        """What was made of it, if that is still kept."""
        if shape in self._kept:
            self._kept.move_to_end(shape)
        return self._kept.get(shape)

    def keep(self, shape: Hashable, made: Kept) -> Kept:
        """Keep what was made of it, and less of others."""
        self._kept[shape] = made
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return made
