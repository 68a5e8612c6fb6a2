"""Weights as a safetensors file: nothing that is loaded can run code."""

from __future__ import annotations

import errno
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

from nmt.bounded import require_file
from nmt.errors import UserError, reason_of

MAX_HEADER = 1 << 22
"""Bytes of a file's header: 40,000 tensors."""

FLOATS = ("F32", "F64", "F16", "BF16")
"""What parameters may be stored as."""

TYPES = (*FLOATS, "I64", "I32", "I16", "I8", "U8", "BOOL")
"""What weights may be stored as: a component's buffer may be a mask, a count or a table of places."""

SPARE_NUMBERS, SPARE_TENSORS = 1 << 20, 100
"""What a model may need to begin with beyond twice what its weights need."""

_DRAWING = (
    nn.init.kaiming_uniform_,
    nn.init.normal_,
    nn.init.uniform_,
    torch.Tensor.normal_,
    torch.Tensor.uniform_,
)

REMEDY = "use the recipe and the plugins that the model was trained with"
ANOTHER = "use another checkpoint"


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


def stored_shapes(path: Path, types: Sequence[str] = TYPES, remedy: str = ANOTHER) -> dict[str, list[int]]:
    """The shape of each tensor in the file at `path`, from its header; no tensor is read.

    Raises UserError, with `remedy`, where it is no safetensors file, or holds numbers of other types than `types`.
    """
    try:
        _check_header(path)
        with safe_open(path, framework="pt") as stored:
            slices = {name: stored.get_slice(name) for name in stored.offset_keys()}
            for name, part in slices.items():
                if part.get_dtype() not in types:
                    problem = f"{name!r} is of type {part.get_dtype()}, not one of {', '.join(types)}"
                    raise UserError(problem, remedy, place=str(path))
            return {name: part.get_shape() for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise _damaged(error, path, remedy) from error


@contextmanager
def no_larger_than(shapes: Mapping[str, Sequence[int]], path: Path) -> Iterator[None]:
    """While it lasts, a model that is put together in this thread may not ask for much more than weights of `shapes`.

    A recipe's sizes may be absurd, so it must be known before memory is filled: each parameter and buffer is counted
    when a module registers it, which torch's own modules do before they write to it, and once if several do. Twice the
    weights and a little are allowed, for modules that take only a part of another. Raises UserError, naming `path`,
    which holds the weights.
    """
    numbers = SPARE_NUMBERS + 2 * sum(math.prod(shape) for shape in shapes.values())
    tensors = SPARE_TENSORS + 2 * len(shapes)
    thread = threading.get_ident()
    counted: dict[int, Tensor] = {}  # kept, so that no other tensor can have their identity

    def count(_module: nn.Module, _name: str, tensor: Tensor | None) -> None:
        nonlocal numbers, tensors
        if tensor is not None and threading.get_ident() == thread and id(tensor) not in counted:
            counted[id(tensor)] = tensor
            numbers, tensors = numbers - tensor.numel(), tensors - 1
            if numbers < 0 or tensors < 0:
                raise UserError("holds a far smaller model than the recipe describes", REMEDY, place=str(path))

    hooks = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        yield
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        # A tensor beyond all memory, or all integers: torch says so before there is anything to count.
        problem = f"the recipe's model can't be put together ({reason_of(error)})"
        raise UserError(problem, REMEDY, place=str(path)) from error
    finally:
        for hook in hooks:
            hook.remove()


class Unfilled(TorchFunctionMode):
    """While it lasts, random numbers are not drawn into parameters: for a model whose weights are to be loaded."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call what torch was asked for, unless it is a drawing of random numbers into a parameter."""
        kwargs = kwargs or {}
        tensor = next(iter((*args, *kwargs.values())), None)
        return tensor if func in _DRAWING and isinstance(tensor, nn.Parameter) else func(*args, **kwargs)


def load_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Fill the tensors of `weights` in place from the file at `path`.

    Raises UserError where the file is damaged, or its names, shapes or types are others; of fractions, of whatever
    size, any will do.
    """
    with torch.no_grad():
        for name, stored in _stored(weights, path):
            weights[name].copy_(stored)


def map_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Let the tensors of `weights` be those in the file at `path`, memory-mapped: no copy is made, and what is never
    read takes no memory. They must not be changed any more. Raises UserError as `load_weights`.
    """
    for name, stored in _stored(weights, path):
        weights[name].data = stored.to(weights[name].dtype)


def _stored(weights: Mapping[str, Tensor], path: Path) -> Iterator[tuple[str, Tensor]]:
    """What the file holds for each of `weights`, which it must fit."""
    shapes = stored_shapes(path)
    for name in sorted(shapes.keys() ^ weights.keys()):
        problem = f"has the unknown weight {name!r}" if name in shapes else f"lacks the weight {name}"
        raise UserError(problem, REMEDY, place=str(path))
    for name, tensor in weights.items():
        if shapes[name] != list(tensor.shape):
            raise UserError(f"{name} is {shapes[name]}, not {list(tensor.shape)}", REMEDY, place=str(path))
    try:
        with safe_open(path, framework="pt") as stored:
            for name, tensor in weights.items():
                found: Tensor = stored.get_tensor(name)
                fractions = found.is_floating_point() and tensor.is_floating_point()
                if not fractions and found.dtype != tensor.dtype:
                    raise UserError(f"{name} is {found.dtype}, not {tensor.dtype}", REMEDY, place=str(path))
                yield name, found
    except (SafetensorError, OSError) as error:
        raise _damaged(error, path) from error


def _check_header(path: Path) -> None:
    """Raise OSError where the file is none, or the header that it announces is absurd."""
    require_file(path)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > MAX_HEADER:
        raise OSError(errno.EFBIG, f"announces a header of {size:,} bytes", str(path))


def _damaged(error: Exception, path: Path, remedy: str = ANOTHER) -> UserError:
    return UserError(f"damaged or unreadable ({reason_of(error)})", remedy, place=str(path))
