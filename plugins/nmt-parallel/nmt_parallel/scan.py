"""Recurrences without matrix products, for all steps at once: their value, and their gradient by the reverse scan.

Nothing is divided by a product of factors and no logarithm is taken of one, so that factors may be 0 and their products
may underflow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nmt.cells.engines import at_last, cleared
from nmt.cells.state import State


def scan(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """h_t = a_t ∘ h_{t-1} + b_t: a and b ``[B, T, H]`` and h_0 ``[B, H]`` -> h_1 to h_T ``[B, T, H]``.

    Half precision is added up in single precision. Memory is O(T). Gradients are of the first order only.
    """
    kind = reduce(torch.promote_types, (a.dtype, b.dtype, start.dtype))
    working = torch.promote_types(kind, torch.float32)
    return _linear(a.to(working), b.to(working), start.to(working)).to(kind)


def peephole_scan(p: Tensor, u: Tensor, v: Tensor, start: Tensor) -> Tensor:
    """f_t = σ(p_t + v ∘ c_{t-1}) and c_t = f_t ∘ c_{t-1} + (1 - f_t) ∘ u_t: p and u ``[B, T, H]``, v ``[H]`` and c_0
    ``[B, H]`` -> c_1 to c_T ``[B, T, H]``.

    Not linear in c, so the steps follow each other, on a GPU too; the gradient is a linear scan again.
    """
    kind = reduce(torch.promote_types, (p.dtype, u.dtype, v.dtype, start.dtype))
    working = torch.promote_types(kind, torch.float32)
    return _peephole(p.to(working), u.to(working), v.to(working), start.to(working)).to(kind)


def before(hs: Tensor, start: Tensor) -> Tensor:
    """h_1 to h_T and h_0 -> h_0 to h_{T-1}."""
    return torch.cat([start[:, None].to(hs.dtype), hs[:, :-1]], 1)


def unrolled(a: Tensor, b: Tensor, lengths: Tensor, start: Tensor) -> tuple[Tensor, State]:
    """What `Cell.unroll` gives for a cell whose output and only state is h_t = a_t ∘ h_{t-1} + b_t."""
    hs = scan(a, b, start)
    return cleared(hs, lengths), (at_last(hs, lengths),)


class _LinearScan(torch.autograd.Function):
    """g_t, the gradient of h_t, is itself a scan, from the last step to the first: g_t = dh_t + a_{t+1} ∘ g_{t+1}."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, start: Tensor) -> Tensor:
        """The states."""
        hs = _forwards(a, b, start)
        ctx.save_for_backward(a, hs, start)
        return hs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of a, b and h_0."""
        a, hs, start = ctx.saved_tensors
        g = _backwards(a, upstream)
        return g * before(hs, start), g, g[:, 0] * a[:, 0]


class _PeepholeScan(torch.autograd.Function):
    """∂c_t/∂c_{t-1} = f_t + s_t ∘ v with s_t = ∂c_t/∂p_t = (c_{t-1} - u_t) ∘ f_t ∘ (1 - f_t), all known once c is."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, u: Tensor, v: Tensor, start: Tensor) -> Tensor:
        """The states."""
        fs, cs, c = p.new_empty(p.shape), u.new_empty(u.shape), start
        for p_t, u_t, f, following in zip(p.unbind(1), u.unbind(1), fs.unbind(1), cs.unbind(1), strict=True):
            torch.addcmul(p_t, v, c, out=f)
            f.sigmoid_()
            c = torch.lerp(u_t, c, f, out=following)
        ctx.save_for_backward(u, v, start, fs, cs)
        return cs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The gradients of p, u, v and c_0."""
        u, v, start, fs, cs = ctx.saved_tensors
        previous = before(cs, start)
        slopes = (previous - u) * fs * (1 - fs)
        a = fs + slopes * v
        g = _backwards(a, upstream)
        dp = g * slopes
        return dp, g * (1 - fs), (dp * previous).sum((0, 1)), g[:, 0] * a[:, 0]


# `apply` has no types of its own.
_linear: Callable[[Tensor, Tensor, Tensor], Tensor] = _LinearScan.apply
_peephole: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = _PeepholeScan.apply


def _steps_are_faster(device: torch.device) -> bool:
    """On a CPU one step after another is fastest at every length; where launches cost most, pairs need few."""
    return device.type == "cpu"


def _forwards(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """As `scan`, without gradients."""
    if not _steps_are_faster(a.device):
        return by_pairs(a, b, start)
    hs = b.new_empty(b.shape)
    _fill(hs.unbind(1), a.unbind(1), b.unbind(1), start)
    return hs


def _backwards(a: Tensor, b: Tensor) -> Tensor:
    """g_T = b_T and g_t = b_t + a_{t+1} ∘ g_{t+1}."""
    if not _steps_are_faster(a.device):
        following = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], 1)
        return by_pairs(following.flip(1), b.flip(1), torch.zeros_like(b[:, 0])).flip(1)
    gs = b.new_empty(b.shape)
    gs[:, -1] = b[:, -1]
    _fill(gs.unbind(1)[-2::-1], a.unbind(1)[:0:-1], b.unbind(1)[-2::-1], b[:, -1])
    return gs


def _fill(hs: Sequence[Tensor], a: Sequence[Tensor], b: Sequence[Tensor], h: Tensor) -> None:
    """Write each h_t = a_t ∘ h_{t-1} + b_t into its place."""
    for following, a_t, b_t in zip(hs, a, b, strict=True):
        h = torch.addcmul(b_t, a_t, h, out=following)


def by_pairs(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """As `scan`, without gradients, in O(log T) operations on whole tensors (Blelloch 1990): two steps make one step
    of a recurrence half as long. What h_t is made of depends on t alone, not on T.
    """
    return _pairs(a, torch.cat([torch.addcmul(b[:, :1], a[:, :1], start[:, None]), b[:, 1:]], 1))


def _pairs(a: Tensor, b: Tensor) -> Tensor:
    size = a.shape[1]
    if size == 1:
        return b
    even, odd = slice(0, size - size % 2, 2), slice(1, size, 2)
    halves = _pairs(a[:, odd] * a[:, even], torch.addcmul(b[:, odd], a[:, odd], b[:, even]))  # h_2, h_4, …
    hs = torch.empty_like(b)
    hs[:, 0] = b[:, 0]
    hs[:, odd] = halves
    hs[:, 2::2] = torch.addcmul(b[:, 2::2], a[:, 2::2], halves[:, : (size - 1) // 2])
    return hs
