"""Runs of search's steps as CUDA graphs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nmt.cells.captures import ByShape, Capture, Captured, CudaCapture
from nmt.cells.trial import in_a_line

AFTER = 16
"""How many runs of a shape there are before one is captured: what comes once isn't worth it."""
LOG = logging.getLogger("nmt.engines")

Run = Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, ...]]
"""Sources' lengths ``[N]``, on the processor, and tensors on the device -> what a run makes of them."""


class CapturedRuns:
    """One model's runs, by shape. The capturing function is given, so that all this can be tested without a GPU.

    A graph repeats what was done on the device and nothing else, so a captured run can't read the lengths, and is held
    against the run itself the first time that it is used, the second, the fourth, the eighth and so on. What fails is
    said in a line, and nothing is captured from then on. Threads on one stream may share it.
    """

    def __init__(self, capture: Capture | None = None) -> None:
        self._capture: Capture | None = CudaCapture() if capture is None else capture
        self._runs: ByShape[_Slot] = ByShape()
        self._lock = threading.Lock()

    def __call__(self, key: Hashable, run: Run, lengths: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What a run makes of them; `key` is all that it depends on besides."""
        with self._lock:
            found = self._replayed(key, run, lengths, tensors)
        return run(lengths, tensors) if found is None else found

    def _replayed(
        self, key: Hashable, run: Run, lengths: Tensor, tensors: Sequence[Tensor]
    ) -> tuple[Tensor, ...] | None:
        """By a graph; None where there is none."""
        shape = (key, *((tuple(each.shape), each.dtype) for each in tensors))
        if self._capture is None or not self._runs.comes_again(shape, AFTER):
            return None
        slot = self._runs.get(shape)
        if slot is None and self._runs.full():
            return None
        try:
            slot = slot or self._runs.keep(shape, _Slot(self._capture(_blind(run, lengths), tensors, [])))
            return slot.replayed(run, lengths, tensors)
        except (RuntimeError, TypeError) as error:  # TypeError: what numpy says to lengths that can't be read
            LOG.warning("search runs without graphs: %s", in_a_line(error))
        self._capture, self._runs = None, ByShape()
        return None


@dataclass
class _Slot:
    captured: Captured
    uses: int = 0

    def replayed(self, run: Run, lengths: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What the graph makes of the tensors; RuntimeError where it isn't what the run makes of them."""
        found = tuple(each.clone() for each in self.captured.forward(tensors))
        self.uses += 1
        if self.uses.bit_count() == 1 and not all(map(_agree, found, run(lengths, tensors))):
            raise RuntimeError("what is captured gives other numbers than its steps")
        return found


def _blind(run: Run, lengths: Tensor) -> Callable[[Sequence[Tensor]], tuple[Tensor, ...]]:
    unreadable = lengths.to("meta")
    return lambda tensors: run(unreadable, tensors)


def _agree(found: Tensor, expected: Tensor) -> bool:
    if not expected.is_floating_point():
        return torch.equal(found, expected)
    near = 1e-3 if expected.dtype.itemsize >= 4 else 3e-2
    return torch.allclose(found, expected, rtol=near, atol=near, equal_nan=True)
