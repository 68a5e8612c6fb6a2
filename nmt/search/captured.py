"""Runs of search's steps as CUDA graphs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from nmt.cells.captures import ByShape, Capture, Captured, Steps, capture
from nmt.cells.trial import in_a_line

AFTER = 16
"""How many runs of a shape there are before one is captured: what comes once isn't worth it."""
LOG = logging.getLogger("nmt.engines")


class CapturedRuns:
    """One model's runs, by shape. The capturing function is given, so that all this can be tested without a GPU.

    A capture is made of zeros, then held against the steps themselves on what is wanted: a component that reads numbers
    in Python, which a graph would go on using, is found out. What fails is said in a line, and nothing is captured from
    then on. Safe in threads, which wait for each other.
    """

    def __init__(self, capture: Capture = capture) -> None:
        self._capture = capture
        self._runs: ByShape[Captured] = ByShape()
        self._trusted = True
        self._lock = threading.Lock()

    def __call__(self, key: Hashable, run: Steps, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What a run makes of its inputs; `key` is all that it depends on besides them. The first input is on the
        processor, where no graph can read it: a run that is captured must not."""
        with self._lock:
            shape = (key, *((tuple(each.shape), each.dtype) for each in inputs))
            if not self._trusted or not self._runs.comes_again(shape, AFTER):
                return run(inputs)
            try:
                captured = self._runs.get(shape) or self._runs.keep(shape, self._tried(run, inputs))
                return tuple(each.clone() for each in captured.forward(inputs[1:]))
            except RuntimeError as error:
                LOG.warning("search runs without graphs: %s", in_a_line(error))
                self._trusted = False
                return run(inputs)

    def _tried(self, run: Steps, inputs: Sequence[Tensor]) -> Captured:
        """A capture, where it gives what the run gives; else RuntimeError."""
        unreadable = inputs[0].to("meta")

        def on_device(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            return run([unreadable, *tensors])

        captured = self._capture(on_device, [torch.zeros_like(each) for each in inputs[1:]], [])
        for found, expected in zip(captured.forward(inputs[1:]), run(inputs), strict=True):
            if not torch.allclose(found.double(), expected.double(), rtol=1e-3, atol=1e-3, equal_nan=True):
                raise RuntimeError("what is captured gives other numbers than its steps")
        return captured
