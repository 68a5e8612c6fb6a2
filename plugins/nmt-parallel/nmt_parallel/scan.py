"""The linear recurrence h_t = a_t ∘ h_{t-1} + b_t for all steps at once, forwards and backwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def linear_scan(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
    """Factors and terms ``[B, T, H]`` and the state before them ``[B, H]`` -> every state ``[B, T, H]``.

    Nothing is divided, so factors may be 0 and products of factors may underflow. On a GPU by doubling (Hillis and
    Steele 1986), log2 T launches; on a CPU step by step, which is less work there.
    """
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), first.dtype)  # autocast mixes types
    apply = cast(Callable[[Tensor, Tensor, Tensor], Tensor], _LinearScan.apply)  # autograd gives it no types
    return apply(a.to(dtype), b.to(dtype), first.to(dtype))


class _LinearScan(torch.autograd.Function):
    """Backwards it is the same recurrence from the end: dh_t = g_t + a_{t+1} ∘ dh_{t+1}."""

    @staticmethod
    def forward(context: Any, a: Tensor, b: Tensor, first: Tensor) -> Tensor:
        """The states."""
        hs = _scanned(a, b, first)
        context.save_for_backward(a, hs, first)
        return hs

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of factors, terms and first state."""
        a, hs, first = context.saved_tensors
        following = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], 1)  # a_{t+1}; nothing comes after the last
        backwards = _scanned(following.flip(1), gradient.flip(1), torch.zeros_like(first)).flip(1)  # dh
        previous = torch.cat([first[:, None], hs[:, :-1]], 1)
        return backwards * previous, backwards, a[:, 0] * backwards[:, 0]


def _scanned(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
    return _stepwise(a, b, first) if a.device.type == "cpu" else _doubling(a, b, first)


def _stepwise(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
    """One fused multiply-add a step, time-major so that each reads a stretch of memory."""
    factors, terms = a.transpose(0, 1).contiguous(), b.transpose(0, 1).contiguous()  # [T, B, H]
    hs = torch.empty_like(terms)
    h = first
    for factor, term, out in zip(factors.unbind(0), terms.unbind(0), hs.unbind(0), strict=True):
        h = torch.addcmul(term, factor, h, out=out)
    return hs.transpose(0, 1).contiguous()


def _doubling(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
    """After round k each position holds the composition of the 2^k steps up to it."""
    hs = torch.cat([torch.addcmul(b[:, :1], a[:, :1], first[:, None]), b[:, 1:]], 1)
    reach = 1
    while reach < a.shape[1]:
        hs = torch.cat([hs[:, :reach], torch.addcmul(hs[:, reach:], a[:, reach:], hs[:, :-reach])], 1)
        a = torch.cat([a[:, :reach], a[:, reach:] * a[:, :-reach]], 1)
        reach *= 2
    return hs
