"""Matrix products by weights that don't change any more, laid out once for the processor: for translating.

A few rows are multiplied several times as fast by weights in a layout of their own as by plain ones, and a row's result
is then the same to the last bit whatever other rows there are and however many threads share the work. In fp32 that is
nmt's own layout where its products are built (nmt.native), otherwise and in other precisions oneDNN's. Between products
search runs in one thread: what MKL computes in several differs in the last bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt import native
from nmt.errors import UserError

WeightPrecision = Literal["fp32", "bf16", "int8"]
"""What weights are multiplied in. States, softmax and scores are fp32 throughout; what an encoder's LSTM gives out is
bf16 in both of the lower ones, where the processor has it."""

Product = Callable[[Tensor], Tensor]
"""``[R, I] -> [R, O]``, both fp32."""

Prepare = Callable[[Tensor, Tensor | None], Product]
"""A weight ``[O, I]`` and a bias ``[O]`` or None -> the product by them."""

ROWS = 64
"""How many rows oneDNN should expect. Always the same, for the layout that it chooses may depend on it."""

SHARED = 1 << 24
"""Multiplications in a product from which on threads share it: fewer are done before a second thread has begun."""

LONE = 1024
"""Inputs above which oneDNN adds up the products of a single row in another order than those of two or more."""


def plain(weight: Tensor, bias: Tensor | None) -> Product:
    """A product of torch's own."""
    return lambda xs: F.linear(xs, weight, bias)


def frozen(weight: Tensor, bias: Tensor | None) -> Product:
    """A product of torch's own whose weights are given no gradients."""
    return plain(weight.detach(), None if bias is None else bias.detach())


@dataclass(frozen=True)
class Recurrences:
    """How oneDNN's own recurrences multiply."""

    dtype: torch.dtype
    threads: int

    def shared(self, multiplications: int) -> AbstractContextManager[None]:
        """For steps of so many multiplications: the threads, where they are worth it."""
        return nullcontext() if self.threads == 1 or multiplications < SHARED else in_threads(self.threads)


@dataclass(frozen=True)
class Preparation:
    """How a model is made ready for translating."""

    product: Prepare
    exact: bool = False
    """Whether a row's result is the same to the last bit whatever other rows there are, so that it may be kept."""
    recurrences: Recurrences | None = None
    """None where all recurrences go step by step."""


def prepare_for(precision: WeightPrecision, device: torch.device, threads: int) -> Preparation:
    """How a model is prepared for a precision on a device; `threads` share a product that is large enough. Weights are
    given no gradients any more.

    Without oneDNN, and on other devices than a processor, fp32 products are torch's own: right, but not equal to the
    last bit in batches of other sizes. Raises UserError where the precision can't be had.
    """
    onednn = torch.backends.mkldnn.is_available()
    if precision == "fp32" and not (onednn and device.type == "cpu"):
        return Preparation(frozen)
    if device.type != "cpu":
        raise UserError(f"precision {precision} is for processors, not for {device.type}", "use fp32")
    has_bf16 = onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if precision == "bf16" and not has_bf16:
        raise UserError("precision bf16: this processor has no bf16 instructions", "use fp32")
    # Without VNNI, pairs of products are added up in 16 bits, where they overflow.
    if precision == "int8" and not (onednn and torch.cpu._is_vnni_supported()):
        raise UserError("precision int8: this processor has no VNNI instructions", "use fp32")
    layout = _by_onednn({"fp32": _fp32, "bf16": _bf16, "int8": _int8}[precision])
    if not native.missing(precision):
        layout = functools.partial(_native, precision)
    # There is none in int8; bf16 is as good, and faster than steps.
    recurrences = torch.float32 if precision == "fp32" else torch.bfloat16 if has_bf16 else None
    if not torch.cpu._is_avx2_supported():  # where rows may depend on each other
        recurrences = None

    def prepare(weight: Tensor, bias: Tensor | None) -> Product:
        product = layout(weight.detach(), None if bias is None else bias.detach())
        outputs, size = len(weight), weight.numel()  # the weight itself may be let go

        def run(xs: Tensor) -> Tensor:
            if xs.dim() != 2:
                return run(xs.reshape(-1, xs.shape[-1])).view(*xs.shape[:-1], outputs)
            return product(xs, 1 if len(xs) * size < SHARED else threads)

        return run

    return Preparation(prepare, True, Recurrences(recurrences, threads) if recurrences else None)


_Shared = Callable[[Tensor, int], Tensor]
"""A product that so many threads share."""


def _native(precision: WeightPrecision, weight: Tensor, bias: Tensor | None) -> _Shared:
    return native.Panels(precision, weight, bias).product


def _by_onednn(layout: Prepare) -> Callable[[Tensor, Tensor | None], _Shared]:
    def prepare(weight: Tensor, bias: Tensor | None) -> _Shared:
        product = layout(weight, bias)

        def shared(rows: Tensor, threads: int) -> Tensor:
            if threads == 1:
                return product(rows)
            with in_threads(threads):
                return product(rows)

        return shared

    return prepare


def _fp32(weight: Tensor, bias: Tensor | None) -> Product:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
    return functools.partial(_multiply, packed, bias)


def _multiply(packed: Tensor, bias: Tensor | None, rows: Tensor) -> Tensor:
    if len(rows) == 1 and rows.shape[1] > LONE:
        return _multiply(packed, bias, rows.repeat(2, 1))[:1]
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, packed, bias, "none", [], "")
    return product


def _bf16(weight: Tensor, bias: Tensor | None) -> Product:
    """Products of 8-bit mantissas, summed in fp32."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16().contiguous(), ROWS)
    return lambda rows: _multiply(packed, bias, rows.bfloat16()).float()


_MOST = torch.tensor(127.0)
"""The greatest integer of 8 bits, as a tensor: a number divided by a tensor takes torch three times as long."""

_ZERO = torch.tensor(128, dtype=torch.uint8)
"""What stands for 0 in rows without a sign; a tensor for the same reason."""


def _int8(weight: Tensor, bias: Tensor | None) -> Product:
    """Integers with a scale for each output and for each row, so that no row changes another's; sums are exact.

    An output's weights and a row are w = s · integer / 127 each, with s the greatest magnitude among them.
    """
    greatest = _greatest(weight)  # [O, 1]
    packed = torch.ops.onednn.qlinear_prepack((weight / greatest * 127).round_().to(torch.int8), None)
    scales = greatest.squeeze(1) / 127**2
    zeros = torch.zeros(len(scales), dtype=torch.int64)

    def product(rows: Tensor) -> Tensor:
        greatest = _greatest(rows)  # [R, 1]
        integers = (rows * torch.div(_MOST, greatest)).round_().char()
        # oneDNN is fast for unsigned rows alone, with 128 as their zero, and turning a sign bit adds 128.
        unsigned = integers.view(torch.uint8).bitwise_xor_(_ZERO)
        found: Tensor = torch.ops.onednn.qlinear_pointwise(
            unsigned, 1.0, 128, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        # Not with a bias of 0: with a number for a row torch takes nine times as long.
        return found.mul_(greatest) if bias is None else torch.addcmul(bias, found, greatest, out=found)

    return product


def _greatest(rows: Tensor) -> Tensor:
    """``[R, I] -> [R, 1]``: the greatest magnitude in each row, above 0."""
    return rows.abs().amax(-1, keepdim=True).clamp_min_(1e-30)


class PreparedLinear(nn.Module):
    """What takes an nn.Linear's place: the same product, by weights that are prepared when they are first needed.

    What else code may read of an nn.Linear stays at hand: `weight`, `bias` and the sizes.
    """

    def __init__(self, linear: nn.Linear, prepare: Prepare) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._prepare = prepare
        self._product: Product | None = None

    def forward(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., O]``."""
        if self._product is None:
            self._product = self._prepare(self.weight, self.bias)
        return self._product(xs)


@contextmanager
def in_threads(threads: int) -> Iterator[None]:
    """So many threads for what torch computes in here."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
