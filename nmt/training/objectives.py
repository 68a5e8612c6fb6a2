"""What training makes small: cross entropy over the vocabulary, without ever holding all logits."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nmt.model.embeddings import OutputLayer

CHUNK_ELEMENTS = 2**22
"""Logits held at a time: 16 MiB in fp32, which stays near the cores."""


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
    index = (columns < lengths[:, None]).flatten().nonzero().squeeze(1).to(targets.device)  # [N], made on the CPU
    rows = output.narrow(features.flatten(0, 1)[index])  # [N, E]
    objective, likelihood = _LinearCrossEntropy.apply(
        rows, output.weight, output.bias, targets.flatten()[index], smoothing
    )
    return Loss(objective, likelihood)


class _LinearCrossEntropy(torch.autograd.Function):
    """Linear layer and smoothed cross entropy in one, its gradients made chunk by chunk with the loss."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """``[N, E]``, ``[V, E]``, ``[V]`` and ``[N]`` -> the objective and the negative log-likelihood, summed."""
        wanted = any(ctx.needs_input_grad)
        vocab_size = weight.shape[0]
        # In fp32 at least, also under autocast and with fp16 features.
        total = weight.new_zeros(2, dtype=torch.promote_types(weight.dtype, torch.float32))
        gradients = [torch.zeros_like(tensor) for tensor in (rows, weight, bias)] if wanted else []
        for start in range(0, len(rows), max(1, CHUNK_ELEMENTS // vocab_size)):
            part = slice(start, start + max(1, CHUNK_ELEMENTS // vocab_size))
            x, gold = rows[part], targets[part, None]  # [n, E], [n, 1]
            log_p = F.log_softmax(F.linear(x, weight, bias).to(total.dtype), -1)  # [n, V]
            likelihood = -log_p.gather(1, gold).sum()
            uniform = -log_p.mean(-1).sum() if smoothing else likelihood
            total += torch.stack([(1 - smoothing) * likelihood + smoothing * uniform, likelihood])
            if wanted:
                # d loss / d logits = p - (1 - ε) · onehot(gold) - ε / V
                slope = log_p.exp_().sub_(smoothing / vocab_size)
                slope.scatter_add_(1, gold, slope.new_full(gold.shape, smoothing - 1))
                slope = slope.to(x.dtype)
                gradients[0][part] = slope @ weight.to(x.dtype)
                gradients[1] += slope.mT @ x
                gradients[2] += slope.sum(0)
        ctx.save_for_backward(*gradients)
        objective, negative_log_likelihood = total[0].clone(), total[1].clone()
        ctx.mark_non_differentiable(negative_log_likelihood)
        return objective, negative_log_likelihood

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients made in `forward`, times the objective's own."""
        rows, weight, bias = ctx.saved_tensors
        scale = upstream[0]
        return rows * scale.to(rows.dtype), weight * scale, bias * scale, None, None
