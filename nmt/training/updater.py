"""One update of the weights: gradients of a group of batches, clipping, the optimiser, the moving average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nmt import recipe
from nmt.device import autocast
from nmt.model.seq2seq import Seq2Seq
from nmt.model.weights import named_weights
from nmt.text.batches import Batch
from nmt.training.objectives import Loss, cross_entropy
from nmt.training.optimizers import build_optimizer
from nmt.training.schedules import gold_share


@dataclass(frozen=True)
class Applied:
    """What an update did: sums over the target tokens of its batches."""

    tokens: int
    negative_log_likelihood: float
    gradient_norm: float
    applied: bool
    """False where the loss or a gradient was no finite number, and the weights were left as they were."""


class Updater:
    """Holds everything that an update changes: the model, the optimiser, the moving average, the loss scale."""

    def __init__(self, model: Seq2Seq, settings: recipe.Train, device: torch.device, dtype: torch.dtype | None) -> None:
        self.model = model
        self.optimizer = build_optimizer(settings.optimizer, model.parameters())
        # Loss scaling is for fp16 alone: bf16 has the range of fp32.
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
        weights = named_weights(model)
        self.average = {name: tensor.detach().clone() for name, tensor in weights.items()} if settings.ema else None
        self._weights = weights
        self._settings = settings
        self._device = device
        self._dtype = dtype

    def update(self, batches: Sequence[Batch], number: int, learning_rate: float, seed: int) -> Applied:
        """Apply the mean gradient over all target tokens of `batches`. `seed` decides dropout and sampling."""
        torch.manual_seed(seed)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        tokens = sum(int(batch.target_lengths.sum()) - len(batch.target_lengths) for batch in batches)
        likelihoods = []
        for batch in batches:
            loss = self._loss(batch, gold_share(self._settings.teacher_forcing, number))
            self.scaler.scale(loss.objective / tokens).backward()
            likelihoods.append(loss.negative_log_likelihood)
        likelihood = float(torch.stack(likelihoods).sum())
        self.scaler.unscale_(self.optimizer)
        norm = self._clip()
        # With fp16 a gradient may overflow now and then; the scaler passes over that update and lowers its scale.
        finite = likelihood < float("inf") and (self.scaler.is_enabled() or norm < float("inf"))
        if finite:
            self._step(learning_rate)
        return Applied(tokens, likelihood, norm, finite)

    def _loss(self, batch: Batch, share: float) -> Loss:
        batch = batch.to(self._device)
        tokens, following = batch.target[:, :-1], batch.target[:, 1:]  # [B, T]
        gold = None if share >= 1.0 else torch.rand(tokens.shape, device=self._device) < share
        with autocast(self._device, self._dtype):
            features = self.model(batch.source, batch.source_lengths, tokens, gold)
            return cross_entropy(
                self.model.decoder.output, features, following, batch.target_lengths - 1, self._settings.label_smoothing
            )

    def _clip(self) -> float:
        """Clip by value, then by norm; the norm before either."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = total = nn.utils.get_total_norm(gradients)
        if self._settings.clip_value is not None:
            nn.utils.clip_grad_value_(parameters, self._settings.clip_value)
            total = nn.utils.get_total_norm(gradients)
        if self._settings.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self._settings.clip_norm, total)
        return float(norm)

    def _step(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None and self._settings.ema:
            with torch.no_grad():
                for name, average in self.average.items():
                    _toward(average, self._weights[name], 1.0 - self._settings.ema)

    def final_weights(self) -> dict[str, Tensor]:
        """The weights to validate and translate with: the moving average where there is one."""
        return self._weights if self.average is None else self.average


def _toward(average: Tensor, weight: Tensor, share: float) -> None:
    if average.is_floating_point():
        average.lerp_(weight.detach(), share)
    else:
        average.copy_(weight)
