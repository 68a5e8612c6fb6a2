"""Matrix products of nmt's own, in C (native.c), by weights that are laid out once: for x86-64 with AVX2 or AVX-512.

They are built when nmt is installed, where a C compiler is at hand; ``python -m nmt.native`` says which are used. They
take a few rows half the time of oneDNN's, for they read weights from beyond the cache as fast as memory gives them. A
row's result is the same to the last bit whatever other rows there are and however many threads share the work.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import torch
from torch import Tensor

from nmt import native_build

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_FUNCTIONS = {
    "panel_columns": (),
    "panel_words": (_SIZE,),
    "row_words": (_SIZE,),
    "lay_out_weight": (_POINTER, _SIZE, _SIZE, _POINTER),
    "lay_out_rows": (_POINTER, _SIZE, _SIZE, _POINTER),
    "multiply": (_POINTER, _SIZE, _SIZE, _POINTER, _POINTER, _SIZE, _SIZE, _SIZE, _POINTER),
}
"""Of a library, with their arguments; the first three give a size."""


class Panels:
    """A weight ``[O, I]`` as native.c reads it, and a bias ``[O]`` or None, for products in a precision.

    Raises OSError where they are `missing`, ValueError for other tensors: what reads memory by itself must not be given
    them.
    """

    def __init__(self, precision: str, weight: Tensor, bias: Tensor | None) -> None:
        self._library = _library(precision)
        self._outputs, self._inputs = weight.shape
        if not (weight.is_cpu and (bias is None or (bias.is_cpu and bias.shape == weight.shape[:1]))):
            raise ValueError("a weight is [O, I] and a bias [O], both of the processor")
        self._columns: int = self._library.panel_columns()
        self._row_words: int = self._library.row_words(self._inputs)
        shape = (-(-self._outputs // self._columns), self._library.panel_words(self._inputs))
        self._panels = torch.zeros(shape, dtype=torch.int32, device="cpu")
        weight = _plain(weight)
        self._library.lay_out_weight(weight.data_ptr(), self._outputs, self._inputs, self._panels.data_ptr())
        self._bias = None if bias is None else _plain(bias)

    def product(self, rows: Tensor, threads: int = 1) -> Tensor:
        """Rows ``[R, I] -> [R, O]``, both fp32; the work is shared by so many threads.

        Raises ValueError for other rows.
        """
        if rows.shape[1:] != (self._inputs,) or rows.dtype is not torch.float32 or not rows.is_cpu:
            found = f"{list(rows.shape)} {rows.dtype} {rows.device}"
            raise ValueError(f"rows are {found}, not [R, {self._inputs}] torch.float32 cpu")
        rows = _plain(rows)
        laid_out = rows.new_empty(len(rows), self._row_words, dtype=torch.int32)
        self._library.lay_out_rows(rows.data_ptr(), len(rows), self._inputs, laid_out.data_ptr())
        results = rows.new_empty(len(rows), self._outputs)
        if threads == 1:
            self._fill(results, laid_out, 0, self._outputs)
            return results
        share = -(-len(self._panels) // threads) * self._columns
        parts = [(first, min(first + share, self._outputs)) for first in range(0, self._outputs, share)]
        _workers(threads - 1, os.getpid()).run([partial(self._fill, results, laid_out, *part) for part in parts])
        return results

    def _fill(self, results: Tensor, rows: Tensor, first: int, last: int) -> None:
        """The outputs from `first` to `last`."""
        bias = None if self._bias is None else self._bias.data_ptr()
        weights = (self._panels.data_ptr(), bias, self._outputs, first, last)
        self._library.multiply(rows.data_ptr(), len(rows), self._inputs, *weights, results.data_ptr())


def missing(precision: str) -> str:
    """Why there are no such products here, in words; nothing where there are."""
    if os.environ.get("NMT_NATIVE") == "0":
        return "NMT_NATIVE is 0"
    try:
        _library(precision)
    except OSError as error:
        return str(error)
    return ""


def _library(precision: str) -> ctypes.CDLL:
    capability = torch.backends.cpu.get_cpu_capability()
    fitting = {
        "fp32_avx512": capability == "AVX512",
        "fp32_avx2": capability == "AVX2",
        "bf16_avx512": capability == "AVX512" and torch.cpu._is_avx512_bf16_supported(),
        "int8_avx512": capability == "AVX512" and torch.cpu._is_vnni_supported(),
    }
    names = [name for name, fits in fitting.items() if fits and name.startswith(precision)]
    if not names or not native_build.for_this_machine():
        raise OSError(f"there are none for this processor ({capability})")
    if precision != "fp32" and torch.cpu._is_amx_tile_supported():
        raise OSError("oneDNN's are faster for many rows by AMX, which this processor has")
    return _opened(_path(names[0], native_build.SOURCE))


@functools.cache
def _path(name: str, source: Path) -> Path:
    """Looked up once: a model is still being prepared when another version is installed."""
    return native_build.library(name)


@functools.cache
def _opened(path: Path) -> ctypes.CDLL:
    if not path.is_file():
        raise OSError(f"{path.name} was not built; install nmt where there is a C compiler")
    library = ctypes.CDLL(str(path))
    for name, arguments in _FUNCTIONS.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise OSError(f"{path.name} has no function {name}; was it compiled with options of your own?") from error
        function.argtypes, function.restype = arguments, None if _POINTER in arguments else _SIZE
    return library


def _plain(tensor: Tensor) -> Tensor:
    """As memory has it: fp32, no gaps, no sign that is still to be turned."""
    return tensor.float().contiguous().resolve_neg()


class _Workers:
    """Threads that share work with the one that has it. A program never waits for them at its end, as it would for
    those of concurrent.futures, one of which an interrupt may have left behind."""

    def __init__(self, threads: int) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], None], list[BaseException | None], SimpleQueue[None]]]
        self._calls = SimpleQueue()
        for _ in range(threads):
            Thread(target=self._work, name="nmt-products", daemon=True).start()

    def run(self, calls: Sequence[Callable[[], None]]) -> None:
        """All of them; the first here. An interrupt waits for the others, too: were the program to end while one is in
        torch's functions, they would abort it."""
        first, *others = calls
        outcomes: list[BaseException | None] = []
        ended: SimpleQueue[None] = SimpleQueue()
        for call in others:
            self._calls.put((call, outcomes, ended))
        raised = _error_of(first)
        while len(outcomes) < len(others):
            raised = _error_of(ended.get) or raised  # an interrupt; what it took from the queue is among the outcomes
        for error in (raised, *outcomes):
            if error is not None:
                raise error

    def _work(self) -> None:
        while True:
            call, outcomes, ended = self._calls.get()
            outcomes.append(_error_of(call))
            ended.put(None)
            del call, outcomes, ended  # and with them what they hold, for the next may be long in coming


def _error_of(call: Callable[[], None]) -> BaseException | None:
    try:
        call()
    except BaseException as error:
        return error
    return None


@functools.cache
def _workers(threads: int, process: int) -> _Workers:
    """Of a process: one that was forked has none of its parent's threads."""
    return _Workers(threads)


if __name__ == "__main__":
    for precision in ("fp32", "bf16", "int8"):
        print(
            f"{precision}: {f'products of torch ({missing(precision)})' if missing(precision) else 'products of nmt'}"
        )
