"""A device that is none: what a GPU would refuse, or make the program wait for, is seen on any machine.

Its tensors hold a processor's, so their numbers are the processor's to the last bit. But they meet none that wasn't
moved there, and each line of nmt that reads a number of theirs, or makes something as long as they say, for which a GPU
would have to catch up, is counted. It rests on torch's experimental backends in Python and changes torch for the whole
process: import it in one of its own, before nmt.
"""

import importlib.util
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
DEVICE = torch.device("privateuseone", 0)
WAITS: Counter[str] = Counter()
"""How often a function of nmt waited for the device, as ``module.function``."""

_PACKAGE = Path(importlib.util.find_spec("nmt").origin).parent

_aten = torch.ops.aten
_MOVE = (_aten._to_copy.default, _aten.copy_.default)
_INDEX = (_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default)
_READ = (
    _aten._local_scalar_dense.default,
    _aten._unique2.default,
    _aten.bincount.default,
    _aten.equal.default,
    _aten.is_nonzero.default,
    _aten.masked_select.default,
    _aten.nonzero.default,
    _aten.repeat_interleave.Tensor,
    _aten.unique_consecutive.default,
    _aten.unique_dim.default,
)


class Elsewhere(Tensor):
    """A tensor on the device; `held` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Elsewhere":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(func, args, kwargs or {})

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(_moved(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_moved(index), value)

    def tolist(self) -> Any:
        _wait()
        return self.held.tolist()


def _moved(index: Any) -> Any:
    """Lists of numbers become tensors there, as torch would have them."""
    if isinstance(index, tuple):
        return tuple(map(_moved, index))
    return Elsewhere(torch.as_tensor(index)) if isinstance(index, list) else index


def _wait() -> None:
    stack = traceback.extract_stack()
    frames = [each for each in stack if _PACKAGE in Path(each.filename).parents and not each.name.startswith("<")]
    WAITS[f"{Path(frames[-1].filename).stem}.{frames[-1].name}" if frames else "a test"] += 1


def _run(func: Any, args: tuple, kwargs: dict) -> Any:
    """One of torch's functions, on what the tensors hold."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    here = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    target = kwargs.get("device")
    goes_there = target is not None and torch.device(target).type == DEVICE.type
    if func not in (*_MOVE, *_INDEX):
        strangers = [tuple(each.shape) for each in tensors if not isinstance(each, Elsewhere) and each.dim()]
        if here and strangers:  # single numbers may come from the processor, to a GPU too
            raise RuntimeError(f"{func}: tensors of {strangers} are on cpu, others on {NAME}")
    leaves = target is not None and not goes_there
    if func is _aten.copy_.default:
        leaves = not isinstance(args[0], Elsewhere)
    masks = func in _INDEX and any(each.dtype == torch.bool for each in here)
    if func in _READ or masks or (leaves and here):
        _wait()
    held_args, held_kwargs = tree_map_only(Elsewhere, lambda tensor: tensor.held, (args, kwargs))
    changed = {"device": torch.device("cpu")} if "device" in kwargs else {}
    found = func(*held_args, **{**held_kwargs, **changed, **({"pin_memory": False} if "pin_memory" in kwargs else {})})
    if func is _aten.copy_.default and leaves:
        return args[0]
    if leaves or not (here or goes_there):
        return found
    wrapped = tree_map_only(Tensor, lambda each: each if isinstance(each, Elsewhere) else Elsewhere(each), found)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def _made_there(func: Any) -> Callable[..., Tensor]:
    def make(*args: Any, **kwargs: Any) -> Tensor:
        return Elsewhere(func(*args, **{**kwargs, "device": torch.device("cpu"), "pin_memory": False}))

    return make


def _install() -> torch.library.Library:
    """Tell torch of the device; the library must be kept."""
    _setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("aten", "IMPL", "PrivateUse1")
    for func in (_aten.empty.memory_format, _aten.empty_strided.default):
        library.impl(func, _made_there(func), "PrivateUse1")
    # Moved modules keep the parameters that they share; a wrapper can't be an inference tensor, nor be made of a list.
    torch.__future__.set_swap_module_params_on_conversion(True)
    torch.inference_mode = torch.no_grad
    tensor = torch.tensor

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        found = tensor(*args, **kwargs)
        return found if device is None else found.to(device)

    torch.tensor = made
    return library


_LIBRARY = _install()
