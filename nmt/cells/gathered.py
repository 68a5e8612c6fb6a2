"""Products by the same weights, step after step: laid out once for the processor, their gradients gathered.

A loop of steps multiplies a few rows by the same weights at each step. On a CPU, oneDNN does that faster by weights in
its own layout, and all steps' weight gradients are one large product in place of a small one and an addition each.
Whatever else a step computes is left alone, so this runs any cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

ROWS = 64
"""How many rows oneDNN should expect; always the same, for the layout that it chooses may depend on it."""

Product = Callable[[Tensor], Tensor]
"""``[R, I] -> [R, O]``."""


class Gathering(TorchFunctionMode):
    """While it lasts, `F.linear` (and so every `nn.Linear`) is done so in this thread: equal but for rounding.

    `smallest`: weights of fewer elements are multiplied as ever. Gradients are of first order alone; for a second
    derivative run the plain loop.
    """

    def __init__(self, smallest: int) -> None:
        super().__init__()
        self._smallest = smallest
        self._weights: dict[tuple[int, int], tuple[_Weights, Tensor]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What torch calls in the place of each of its functions."""
        if func is F.linear:
            return self._linear(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """As `F.linear`, whose names these are."""
        if weight.dim() != 2 or weight.numel() < self._smallest:
            return F.linear(input, weight, bias)
        key = (id(weight), id(bias))
        if key not in self._weights:
            weights = _Weights(weight, bias, _type_of_products(input))
            self._weights[key] = (weights, _Gather.apply(weights, weight, bias))
        weights, token = self._weights[key]
        rows = input.reshape(-1, input.shape[-1]).to(weights.dtype)
        found: Tensor = _Product.apply(rows, token, weights)
        return found.view(*input.shape[:-1], -1)


def _type_of_products(rows: Tensor) -> torch.dtype:
    """What autocast would multiply in, where it is on."""
    device = rows.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else rows.dtype


class _Weights:
    """A weight ``[O, I]`` and a bias ``[O]`` or None, as products, and what their gradients will be made of."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.given = (weight, bias)  # kept, so that no other tensor can have their identity
        self.dtype = dtype
        self._matrix = weight.detach().to(dtype)
        self.forward = laid_out(self._matrix, None if bias is None else bias.detach().to(dtype))
        self._backward: Product | None = None
        self._seen: list[tuple[int, Tensor, Tensor]] = []

    def backward(self, gradient: Tensor) -> Tensor:
        """From a product's gradient ``[R, O]`` to that of its input ``[R, I]``."""
        if self._backward is None:
            self._backward = laid_out(self._matrix.t(), None)
        return self._backward(gradient)

    def see(self, gradient: Tensor, rows: Tensor) -> None:
        """Keep a product's gradient ``[R, O]`` and input ``[R, I]`` until all have been seen."""
        self._seen.append((torch._C._current_graph_task_id(), gradient, rows))

    def gather(self) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of weight and bias from what this backward pass has seen; what others left is forgotten."""
        task = torch._C._current_graph_task_id()
        seen = [(gradient, rows) for number, gradient, rows in self._seen if number == task]
        self._seen.clear()
        if not seen:
            return None, None
        weight, bias = self.given
        gradients = torch.cat([gradient for gradient, _ in seen])
        of_weight = gradients.t() @ torch.cat([rows for _, rows in seen]) if weight.requires_grad else None
        of_bias = gradients.sum(0) if bias is not None and bias.requires_grad else None
        return (
            None if of_weight is None else of_weight.to(weight.dtype),
            None if of_bias is None or bias is None else of_bias.to(bias.dtype),
        )


def laid_out(weight: Tensor, bias: Tensor | None) -> Product:
    """The product by a weight ``[O, I]``, in oneDNN's layout where that is there; for fp32 and bf16, no gradients."""
    if weight.device.type == "cpu" and _has_onednn(weight.dtype):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
        return lambda rows: torch.ops.mkldnn._linear_pointwise(rows, packed, bias, "none", [], "")
    return lambda rows: F.linear(rows, weight, bias)


def _has_onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there and this processor computes in the type, as for fp32 and perhaps bf16 it does."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype is torch.float32 or (dtype is torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _Gather(torch.autograd.Function):
    """Weight and bias to an empty token that each product takes: in the backward pass its turn comes after theirs."""

    @staticmethod
    def forward(ctx: Any, weights: _Weights, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The token."""
        ctx.weights = weights
        ctx.set_materialize_grads(False)
        return weight.new_empty(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor | None) -> tuple[None, Tensor | None, Tensor | None]:
        """All products' weight gradients at once."""
        return None, *ctx.weights.gather()


class _Product(torch.autograd.Function):
    """One product, which leaves its weight's gradient for later."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, token: Tensor, weights: _Weights) -> Tensor:
        """``[R, I] -> [R, O]``."""
        ctx.weights = weights
        ctx.save_for_backward(rows)
        return weights.forward(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        """``[R, O] -> [R, I]``."""
        ctx.weights.see(gradient, *ctx.saved_tensors)
        return (ctx.weights.backward(gradient) if ctx.needs_input_grad[0] else None), None, None
