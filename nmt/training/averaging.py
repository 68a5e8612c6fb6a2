"""The mean of several checkpoints' weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from nmt import checkpoints
from nmt.errors import UserError
from nmt.model.weights import save_weights

NAME = "average"


def average(run: Path, chosen: Sequence[Path]) -> Path:
    """Write the mean of the weights of `chosen` as a checkpoint folder ``average`` of the run.

    Integer buffers are taken from the first. Raises UserError where there is nothing to average, a checkpoint is
    damaged, or they are of different models.
    """
    if not chosen:
        raise UserError("no checkpoint here", "train with keep_last or keep_best above 1", place=str(run))
    total: dict[str, Tensor] = {}
    for checkpoint in chosen:
        with checkpoints.reading(checkpoint):
            weights = load_file(checkpoint / "model.safetensors")
        if total and {n: t.shape for n, t in weights.items()} != {n: t.shape for n, t in total.items()}:
            raise UserError("is of another model", "average checkpoints of one run", place=str(checkpoint))
        for name, tensor in weights.items():
            wide = tensor.double() if tensor.is_floating_point() else tensor
            total[name] = total[name] + wide if name in total and tensor.is_floating_point() else total.get(name, wide)
    mean = {n: (t / len(chosen)).float() if t.dtype is torch.float64 else t for n, t in total.items()}
    return checkpoints.write(run, NAME, {"model.safetensors": lambda path: save_weights(mean, path)})
