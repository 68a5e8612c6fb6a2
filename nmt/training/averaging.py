"""The mean of several checkpoints' weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nmt import checkpoints
from nmt.bounded import refuse_link
from nmt.checkpoints import MODEL
from nmt.errors import UserError, reason_of
from nmt.locks import locked
from nmt.model.weights import save_weights, stored_shapes

NAME, LOCK = "average", ".average.lock"


def average(run: Path, chosen: Sequence[Path]) -> Path:
    """Write the mean of the weights of `chosen`, the newest last, as a checkpoint folder ``average`` of the run.

    It takes the memory of one model and of its largest tensor. Raises UserError where there is nothing to average, a
    checkpoint is damaged, they are of different models, or another process is averaging here.
    """
    if not chosen:
        raise UserError("no checkpoint here", "train with keep_last or keep_best above 1", place=str(run))
    with ExitStack() as held:
        _hold(run, held)
        paths = [held.enter_context(checkpoints.reading(checkpoint, MODEL)) / MODEL for checkpoint in chosen]
        shapes = [stored_shapes(path) for path in paths]
        for checkpoint, other in zip(chosen, shapes, strict=True):
            if other != shapes[0]:
                raise UserError("is of another model", "average checkpoints of one run", place=str(checkpoint))
        mean = {name: _mean(name, shape, paths) for name, shape in shapes[0].items()}
        return checkpoints.write(run, NAME, {MODEL: lambda path: save_weights(mean, path)})


def _hold(run: Path, held: ExitStack) -> None:
    refuse_link(run / LOCK)
    (run / LOCK).touch()
    try:
        held.enter_context(locked(run / LOCK, shared=False, wait=False))
    except BlockingIOError as error:
        raise UserError("another nmt-average is running in this folder", "wait for it", place=str(run)) from error


def _mean(name: str, shape: Sequence[int], paths: Sequence[Path]) -> Tensor:
    """The mean of a tensor, summed in float64; of integers, which can't be averaged, those of the last."""
    total = torch.zeros(tuple(shape), dtype=torch.float64)
    types: set[torch.dtype] = set()
    for path in paths:
        try:
            with safe_open(path, framework="pt") as stored:
                tensor: Tensor = stored.get_tensor(name)
        except (SafetensorError, OSError) as error:
            problem = f"damaged or unreadable ({reason_of(error)})"
            raise UserError(problem, "average other checkpoints", place=str(path)) from error
        if not tensor.isfinite().all():
            raise UserError(f"{name} holds numbers that are not finite", "average other checkpoints", place=str(path))
        types.add(tensor.dtype)
        if len(types) > 1:
            problem = f"{name} is {tensor.dtype} and in another checkpoint isn't"
            raise UserError(problem, "average checkpoints of one run", place=str(path))
        total.add_(tensor)
    if not tensor.is_floating_point():
        return tensor
    return total.div_(len(paths)).to(torch.float32)
