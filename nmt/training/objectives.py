"""What training makes small: cross entropy over the vocabulary, without ever holding all logits."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nmt.cells.gathered import laid_out
from nmt.device import moved
from nmt.model.embeddings import OutputLayer

CHUNK_BYTES = {"cpu": 2**24, "cuda": 2**28}
"""Logits held at a time by the kind of device: on a CPU what stays near the cores, on a GPU what fills it."""

WORTH_LAYING_OUT = 512
"""Rows from which on multiplying by a weight in oneDNN's own layout saves more than making that costs."""


class Loss(NamedTuple):
    """Sums over tokens, in nats."""

    objective: Tensor
    """What is differentiated: with label smoothing."""
    negative_log_likelihood: Tensor
    """Of the gold tokens, not differentiated."""


def cross_entropy(output: OutputLayer, features: Tensor, targets: Tensor, lengths: Tensor, smoothing: float) -> Loss:
    """Features ``[B, T, H]`` against the tokens that follow ``[B, T]``; `lengths` ``[B]`` (on the CPU) say which count.

    Label smoothing (Szegedy et al. 2016) as torch has it: loss = (1 - ε) · -log p(gold) + ε · mean_v -log p(v).
    Padding is left out before the output layer, and the logits ``[N, V]`` are made and differentiated a chunk of rows
    at a time within the forward pass (the idea of Cut Cross-Entropy, Wijmans et al. 2024), so they are never whole.
    """
    columns = torch.arange(targets.shape[1])
    index = (columns < lengths[:, None]).flatten().nonzero().squeeze(1)  # [N], on the CPU, where nothing waits for it
    index = moved(index, targets.device)
    rows = output.narrow(features.flatten(0, 1).index_select(0, index))  # [N, E]
    gold = targets.flatten().index_select(0, index)  # [N]
    objective, likelihood = _LinearCrossEntropy.apply(rows, output.vectors, output.bias, gold, smoothing)
    return Loss(objective, likelihood)


class _LinearCrossEntropy(torch.autograd.Function):
    """Linear layer and smoothed cross entropy in one, its gradients made chunk by chunk with the loss."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, gold: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """``[N, E]``, ``[V, E]``, ``[V]`` and ``[N]`` -> the objective and the negative log-likelihood, summed."""
        kind = weight.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else rows.dtype
        x, w, b = rows.to(dtype), weight.to(dtype), bias.to(dtype)  # cast once, not once a chunk
        gradients = _Gradients.like(x, weight, bias) if any(ctx.needs_input_grad) else None
        # In fp32 at least, also under autocast and with fp16 features.
        wide = torch.promote_types(weight.dtype, torch.float32)
        likelihood, normalizers = weight.new_zeros(2, dtype=wide).unbind()
        worth = dtype is torch.bfloat16 and len(x) >= WORTH_LAYING_OUT  # in fp32 it is not worth the memory
        product = laid_out(w, b) if worth else functools.partial(F.linear, weight=w, bias=b)
        for part in _chunks(len(x), weight.shape[0] * x.element_size(), kind):
            logits = product(x[part])  # [n, V]
            p = torch.softmax(logits, -1)
            # The greatest logit and its probability give what all were divided by, exact where the gold's underflows.
            normalizer = logits.amax(-1, keepdim=True).to(wide) - p.amax(-1, keepdim=True).to(wide).log()  # [n, 1]
            log_p = logits.gather(1, gold[part, None]).to(wide) - normalizer
            likelihood -= log_p.sum()
            normalizers += normalizer.sum()
            if gradients is not None:
                # d loss / d logits = p - (1 - ε) · onehot(gold) - ε / V; the last term is taken off behind the loop.
                # By index: scatter_ converts all of bf16 to fp32 and back on a CPU.
                at_gold = torch.arange(len(p), device=p.device), gold[part]
                slope = p.index_put_(at_gold, (log_p.squeeze(1).exp() - (1 - smoothing)).to(dtype))
                gradients.add(part, slope, x[part], w)
        objective = likelihood
        if smoothing:
            total, mean = x.sum(0, dtype=wide), weight.mean(0, dtype=wide)  # [E], of the rows and of the words
            # The sum over rows of the mean over words of -log p, without another look at the logits.
            uniform = normalizers - (total * mean).sum() - len(x) * bias.mean(dtype=wide)
            objective = (1 - smoothing) * likelihood + smoothing * uniform
            if gradients is not None:
                gradients.smooth(smoothing, total, mean)
        ctx.gradients, ctx.dtype = gradients, rows.dtype
        objective, likelihood = objective.clone(), likelihood.clone()
        ctx.mark_non_differentiable(likelihood)
        return objective, likelihood

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients made in `forward`, times the objective's own. Only once: they are scaled in place."""
        gradients, ctx.gradients = ctx.gradients, None
        scale = upstream[0]
        rows = gradients.rows.mul_(scale.to(gradients.rows.dtype)).to(ctx.dtype)
        return rows, gradients.weight.mul_(scale), gradients.bias.mul_(scale), None, None


@dataclass(frozen=True)
class _Gradients:
    """Of the objective, for rows ``[N, E]``, weight ``[V, E]`` and bias ``[V]``; `add` is called from the first row on.

    Rows are in the type of the products, the others as their parameters are.
    """

    rows: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def like(cls, rows: Tensor, weight: Tensor, bias: Tensor) -> _Gradients:
        """Of these shapes and types, not filled."""
        return cls(torch.empty_like(rows), torch.empty_like(weight), torch.empty_like(bias))

    def add(self, part: slice, slope: Tensor, rows: Tensor, weight: Tensor) -> None:
        """What a chunk of rows adds, given the slope of its logits ``[n, V]``."""
        first = part.start == 0
        torch.mm(slope, weight, out=self.rows[part])
        if slope.dtype == self.weight.dtype:
            torch.addmm(self.weight, slope.mT, rows, beta=0 if first else 1, out=self.weight)
        else:
            _take(self.weight, slope.mT @ rows, first)
        _take(self.bias, slope.sum(0), first)  # added up in fp32 at least, whatever its type

    def smooth(self, smoothing: float, total: Tensor, mean: Tensor) -> None:
        """Take off ε / V from every logit's slope, given the rows' sum and the words' mean ``[E]``."""
        share = smoothing / len(self.weight)
        self.rows.sub_((smoothing * mean).to(self.rows.dtype))
        self.weight.sub_((share * total).to(self.weight.dtype))
        self.bias.sub_(share * len(self.rows))


def _take(into: Tensor, value: Tensor, first: bool) -> None:
    if first:
        into.copy_(value)
    else:
        into.add_(value)


def _chunks(rows: int, row_bytes: int, kind: str) -> list[slice]:
    """All rows in as few equal chunks as a device of this kind should hold at a time."""
    most = max(1, CHUNK_BYTES.get(kind, CHUNK_BYTES["cpu"]) // row_bytes)
    size = math.ceil(rows / max(1, math.ceil(rows / most)))
    return [slice(start, min(rows, start + size)) for start in range(0, rows, max(1, size))]
