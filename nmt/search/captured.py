"""Runs of search's steps as CUDA graphs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from nmt.cells.captures import ByShape, Capture, Captured, CudaCapture
from nmt.cells.trial import in_a_line
from nmt.device import free_memory

AFTER = 16
"""How many runs of a shape there are before one is captured: what comes once isn't worth it."""
LOG = logging.getLogger("nmt.engines")

Run = Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, ...]]
"""Sources' lengths ``[N]``, on the processor, and tensors on the device -> what a run makes of them."""


class CapturedRuns:
    """One model's runs, by shape. The capturing function is given, so that all this can be tested without a GPU.

    A graph repeats what was done on the device and nothing else, so a captured run can't read the lengths, and is held
    against the run itself before it is used. What fails is said in a line, and nothing is captured from then on.
    Threads on one stream may share it.
    """

    def __init__(self, capture: Capture | None = None) -> None:
        self._capture = CudaCapture() if capture is None else capture
        self._runs: ByShape[Captured] = ByShape()
        self._trusted = True
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
        if not self._trusted or not self._runs.comes_again(shape, AFTER):
            return None
        captured = self._runs.get(shape)
        if captured is None and self._runs.full():
            return None
        try:
            captured = captured or self._runs.keep(shape, self._tried(run, lengths, tensors))
            return tuple(each.clone() for each in captured.forward(tensors))
        except RuntimeError as error:
            LOG.warning("search runs without graphs: %s", in_a_line(error))
        self._trusted, self._runs = False, ByShape()
        free_memory(tensors[0].device)
        return None

    def _tried(self, run: Run, lengths: Tensor, tensors: Sequence[Tensor]) -> Captured:
        """A capture, where it gives what the run gives; else RuntimeError."""
        unreadable = lengths.to("meta")

        def on_device(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            return run(unreadable, tensors)

        captured = self._capture(on_device, tensors, [])
        for found, expected in zip(captured.forward(tensors), run(lengths, tensors), strict=True):
            if not _agree(found, expected):
                raise RuntimeError("what is captured gives other numbers than its steps")
        return captured


def _agree(found: Tensor, expected: Tensor) -> bool:
    if not expected.is_floating_point():
        return torch.equal(found, expected)
    near = 1e-3 if expected.dtype.itemsize >= 4 else 3e-2
    return torch.allclose(found, expected, rtol=near, atol=near, equal_nan=True)
