"""Products in fp32 of nmt's own, in C (native.c): by weights that are laid out once, for x86-64 with AVX2 or AVX-512.

They are built when nmt is installed, where a C compiler is at hand; ``python -m nmt.native`` says if they are used.
Few rows take them half the time of oneDNN's, for they read weights from beyond the cache as fast as memory gives them.
A row's result is the same to the last bit whatever other rows there are and however many threads share the work.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from nmt import native_build

LIBRARIES = {"AVX512": "avx512", "AVX2": "avx2"}
"""What torch calls the processor's instructions -> what the library for them is called."""

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_LAY_OUT = (_POINTER, _SIZE, _SIZE, _POINTER)
_MULTIPLY = (_POINTER, _SIZE, _SIZE, _POINTER, _POINTER, _SIZE, _SIZE, _SIZE, _POINTER)


class Panels:
    """A weight ``[O, I]`` as native.c reads it, and a bias ``[O]`` or None.

    Raises OSError where something is `missing`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._library = _library()
        self._outputs, self._inputs = weight.shape
        self._columns: int = self._library.columns()
        self._panels = torch.empty(-(-self._outputs // self._columns), self._inputs, self._columns)
        weight = weight.float().contiguous()
        self._library.lay_out(weight.data_ptr(), self._outputs, self._inputs, self._panels.data_ptr())
        self._bias = None if bias is None else bias.float().contiguous()

    def product(self, rows: Tensor, threads: int = 1) -> Tensor:
        """Rows ``[R, I] -> [R, O]``, both fp32; the work is shared by so many threads.

        Raises ValueError for other rows: what reads memory by itself must not be given them.
        """
        if rows.shape[1] != self._inputs or rows.dtype is not torch.float32 or not rows.is_cpu:
            found = f"{list(rows.shape)} {rows.dtype} {rows.device}"
            raise ValueError(f"rows are {found}, not [R, {self._inputs}] torch.float32 cpu")
        rows, results = rows.contiguous(), torch.empty(len(rows), self._outputs)
        if threads == 1:
            self._fill(results, rows, 0, self._outputs)
            return results
        share = -(-len(self._panels) // threads) * self._columns
        parts = [(first, min(first + share, self._outputs)) for first in range(0, self._outputs, share)]
        list(_pool(threads).map(lambda part: self._fill(results, rows, *part), parts))
        return results

    def _fill(self, results: Tensor, rows: Tensor, first: int, last: int) -> None:
        """The outputs from `first` to `last`."""
        bias = None if self._bias is None else self._bias.data_ptr()
        weights = (self._panels.data_ptr(), bias, self._outputs, first, last)
        self._library.multiply(rows.data_ptr(), len(rows), self._inputs, *weights, results.data_ptr())


def missing() -> str:
    """Why there are no such products here, in words; nothing where there are."""
    if os.environ.get("NMT_NATIVE") == "0":
        return "NMT_NATIVE is 0"
    try:
        _library()
    except OSError as error:
        return str(error)
    return ""


def _library() -> ctypes.CDLL:
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in LIBRARIES or not native_build.for_this_machine():
        raise OSError(f"they are for x86-64 with AVX2 or AVX-512, and torch uses {capability} here")
    return _opened(native_build.library(LIBRARIES[capability]))


@functools.cache
def _opened(path: Path) -> ctypes.CDLL:
    if not path.is_file():
        raise OSError(f"{path.name} was not built; install nmt where there is a C compiler")
    library = ctypes.CDLL(str(path))
    library.columns.argtypes, library.columns.restype = (), _SIZE
    library.lay_out.argtypes, library.lay_out.restype = _LAY_OUT, None
    library.multiply.argtypes, library.multiply.restype = _MULTIPLY, None
    return library


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "nmt-products")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


if __name__ == "__main__":
    print(f"products in fp32: {f'of torch ({missing()})' if missing() else 'of nmt'}")
    sys.exit(bool(missing()))
