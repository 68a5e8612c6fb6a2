"""Weights as a safetensors file: nothing that is loaded can run code."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nmt.errors import UserError


def named_weights(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and persistent buffer by its name, each tensor once however often it is shared."""
    names: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            names[name] = tensor
    return names


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to `path`. Raises OSError where that fails, on a full disk say."""
    try:
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in weights.items()}, path)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from error


def load_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Fill the tensors of `weights` in place from the file at `path`, memory-mapped.

    Raises UserError where the file is damaged, or its names or shapes are others.
    """
    remedy = "use the recipe and the plugins that the model was trained with"
    try:
        with safe_open(path, framework="pt") as stored, torch.no_grad():
            stored_names = set(stored.keys())
            for name in sorted(stored_names ^ weights.keys()):
                problem = f"has the unknown weight {name}" if name in stored_names else f"lacks the weight {name}"
                raise UserError(problem, remedy, place=str(path))
            for name, tensor in weights.items():
                shape = stored.get_slice(name).get_shape()
                if shape != list(tensor.shape):
                    raise UserError(f"{name} is {shape}, not {list(tensor.shape)}", remedy, place=str(path))
                tensor.copy_(stored.get_tensor(name))
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"damaged or unreadable ({reason})", "use another checkpoint", place=str(path)) from error
