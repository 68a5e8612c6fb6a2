"""Where and how precisely numbers are computed."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from nmt.errors import RunError, UserError
from nmt.recipe import Precision


def choose_device(name: str) -> torch.device:
    """`auto` is cuda where there is one, else mps, else cpu. Raises UserError where the device isn't there."""
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # a device that can't give a number back is none
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the device {name!r} can't be used ({reason})", "use auto or cpu") from error
    return device


def autocast_type(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The type that products are computed in, or None for fp32 throughout. Raises UserError for what can't be had."""
    if precision == "auto":
        supported = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if supported else None
    if precision == "fp16" and device.type != "cuda":
        raise UserError("train.precision: fp16 needs a CUDA GPU", "use auto, fp32 or bf16")
    if precision == "bf16" and device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise UserError("train.precision: this processor has no bf16 instructions", "use auto or fp32")
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A processor's tensor on `device`; on its way to a GPU through pinned memory, so that nothing waits."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Computing products in `dtype`, or nothing special for None."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Where wanted, torch uses only algorithms that give the same bits each time, and refuses to run any other.

    On CUDA this includes cuDNN's choice of algorithms and cuBLAS's workspace. The workspace is chosen with the first
    product that a process computes there, so a program that has used the GPU before must have set
    CUBLAS_WORKSPACE_CONFIG=:4096:8 itself.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    before = cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])
        cudnn.deterministic, cudnn.benchmark = before


_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""Options of glibc's mallopt, of malloc.h."""

LARGE = {torch.float32: 1 << 21, torch.bfloat16: 1 << 22}
"""Bytes, by what products are computed in; in huge pages, which are few, so many are had anew at little cost."""


def keep_freed_memory(*, below: int = 1 << 28) -> None:
    """Have the C library keep freed memory for later, but for pieces of `below` bytes and more.

    Each step of search, and each update, asks for the same large pieces again. Giving them back and forth is 15 % of
    the time of translating in fp32 and a quarter in int8, 5 to 9 % of training in bf16 and under 2 % in fp32, less in
    huge pages; but what is kept grows ragged. It is a hint, for the whole process, that only glibc takes.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        if not library.mallopt(_MMAP_THRESHOLD, below):
            library.mallopt(_MMAP_THRESHOLD, min(below, 1 << 25))  # the most that older ones take
        library.mallopt(_TRIM_THRESHOLD, 1 << 29)


def in_huge_pages() -> bool:
    """Whether torch was told to ask Linux for huge pages, as the commands tell it."""
    return os.environ.get("THP_MEM_ALLOC_ENABLE") == "1"


def give_back_freed_memory() -> None:
    """Have the C library give back what it kept, once: over many updates of all shapes what it keeps grows ragged."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


_KERNELS = 64
"""What oneDNN and torch's layer above it keep at most; by themselves 1,024. An update of a layer or two takes 35."""


def keep_few_kernels() -> None:
    """Have oneDNN forget the kernels it made for shapes that have not been met for long.

    Nearly each batch is of new shapes, and hundreds of MiB of kernels for old ones would gather. It is read from the
    environment at the first product, for the whole process; what the user has set there is left alone.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, str(_KERNELS))


_NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|_STATUS_ALLOC_FAILED|could not create a primitive$"
)
"""As the CPU's allocator, MPS, cuBLAS and cuDNN, and oneDNN say it, each in a RuntimeError of no class of its own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the processor or of a device, was not enough."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None


def free_memory(device: torch.device) -> None:
    """Give back what a device's allocator holds for later, after memory was not enough; a CPU's holds nothing."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


@contextmanager
def limits_in_words(place: str) -> Iterator[None]:
    """Turn what the machine can't do, met in here, into a RunError at `place`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = (str(error).splitlines() or ["out of memory"])[0]
        if is_out_of_memory(error):
            remedy = "use a smaller model or smaller batches, or a machine with more memory"
            raise RunError(f"memory was not enough ({reason})", remedy, place=place) from error
        if "deterministic" in reason:
            remedy = "leave out train.deterministic, or choose another component"
            raise RunError(
                f"not everything can be computed deterministically ({reason})", remedy, place=place
            ) from error
        raise
