"""One update of the weights: gradients of a group of batches, clipping, the optimiser, the moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nmt import recipe
from nmt.device import autocast, free_memory, is_out_of_memory
from nmt.model.seq2seq import Seq2Seq
from nmt.model.weights import named_weights
from nmt.text.batches import Batch
from nmt.training.objectives import Loss, cross_entropy
from nmt.training.optimizers import build_optimizer
from nmt.training.schedules import gold_share


@dataclass(frozen=True)
class Part:
    """A batch as it was trained on: whole, or a piece of one that memory was not enough for."""

    batch: Batch
    loss: float
    """Negative log-likelihood of a target token, in nats."""


@dataclass(frozen=True)
class Applied:
    """What an update did: sums over the target tokens of its batches."""

    tokens: int
    negative_log_likelihood: float
    gradient_norm: float
    applied: bool
    """Whether the weights were moved."""
    fault: bool
    """Whether they weren't for a loss or a gradient that is no finite number, and loss scaling does not explain it."""
    parts: tuple[Part, ...]
    split: tuple[Batch, ...] = ()
    """Batches that memory was not enough for, and that were split."""
    dropped: tuple[int, ...] = ()
    """Lines of the pairs that it was not enough for alone; they were left out."""


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
        self._initial_scale = self.scaler.state_dict()

    def update(self, batches: Sequence[Batch], number: int, learning_rate: float, seed: int) -> Applied:
        """Apply the mean gradient over all target tokens of `batches`. `seed` decides dropout and sampling.

        A batch that memory is not enough for is split in two until it is: the same gradient, but for rounding and for
        other random numbers in dropout and sampling. A pair that doesn't fit alone is left out.
        """
        share = gold_share(self._settings.teacher_forcing, number)
        self.model.train()
        batches, split, dropped = list(batches), [], []
        likelihoods = self._differentiate(batches, share, seed)
        while len(likelihoods) < len(batches):
            fitting, large = batches[: len(likelihoods)], batches[len(likelihoods)]
            self.optimizer.zero_grad(set_to_none=True)
            free_memory(self._device)
            if len(large.lines) == 1:
                dropped.append(int(large.lines[0]))
                del batches[len(likelihoods)]
            else:
                # What comes behind and is no smaller would not fit either: so few tries are enough.
                behind = [(batch, _splits_with(batch, large)) for batch in batches[len(likelihoods) :]]
                split += [batch for batch, too_large in behind if too_large]
                parts = [part for batch, too_large in behind for part in (batch.split() if too_large else (batch,))]
                batches = [*fitting, *parts]
            likelihoods = self._differentiate(batches, share, seed)
        applied = self._apply(batches, likelihoods, learning_rate)
        return replace(applied, split=tuple(split), dropped=tuple(dropped))

    def begin_again(self, weights: Mapping[str, Tensor]) -> None:
        """Go back to the start of training, with the weights given by name."""
        with torch.no_grad():
            for name, tensor in self._weights.items():
                tensor.copy_(weights[name])
                if self.average is not None:
                    self.average[name].copy_(weights[name])
        self.optimizer.state.clear()
        self.scaler.load_state_dict(self._initial_scale)

    def final_weights(self) -> dict[str, Tensor]:
        """The weights to validate and translate with: the moving average where there is one."""
        return self._weights if self.average is None else self.average

    def _differentiate(self, batches: Sequence[Batch], share: float, seed: int) -> list[Tensor]:
        """Leave the gradients of all `batches` together; the negative log-likelihood of each.

        Of fewer, where memory was not enough for the next one: what its backward pass had already added can't be told
        from the rest, so the gradients are worth nothing then, and all is done anew from the same seed.
        """
        torch.manual_seed(seed)
        self.optimizer.zero_grad(set_to_none=True)
        tokens = sum(_tokens(batch) for batch in batches)
        likelihoods: list[Tensor] = []
        for batch in batches:
            try:
                loss = self._loss(batch, share)
                self.scaler.scale(loss.objective / tokens).backward()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                break  # the error, and the tensors that its frames hold, must be gone before the next try
            likelihoods.append(loss.negative_log_likelihood)
        return likelihoods

    def _loss(self, batch: Batch, share: float) -> Loss:
        batch = batch.to(self._device)
        tokens, following = batch.target[:, :-1], batch.target[:, 1:]  # [B, T]
        gold = None if share >= 1.0 else torch.rand(tokens.shape, device=self._device) < share
        with autocast(self._device, self._dtype):
            features = self.model(batch.source, batch.source_lengths, tokens, gold)
            return cross_entropy(
                self.model.decoder.output, features, following, batch.target_lengths - 1, self._settings.label_smoothing
            )

    def _apply(self, batches: Sequence[Batch], likelihoods: Sequence[Tensor], learning_rate: float) -> Applied:
        """Move the weights along the gradients, unless those or the loss are no finite numbers."""
        if not batches:
            return Applied(0, 0.0, 0.0, applied=False, fault=False, parts=())
        losses = torch.stack(list(likelihoods)).tolist()
        parts = tuple(Part(batch, loss / _tokens(batch)) for batch, loss in zip(batches, losses, strict=True))
        self.scaler.unscale_(self.optimizer)
        norm = self._clip()
        finite = math.isfinite(sum(losses)) and math.isfinite(norm)
        # With fp16 a gradient overflows now and then, and the scaler lowers its scale; at 1 that explains nothing.
        scale = self.scaler.get_scale() if self.scaler.is_enabled() else 1.0
        if finite:
            self._step(learning_rate)
        self.scaler.update()
        fault = not finite and (not math.isfinite(sum(losses)) or scale <= 1.0)
        return Applied(sum(map(_tokens, batches)), sum(losses), norm, applied=finite, fault=fault, parts=parts)

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
        if self.average is not None and self._settings.ema:
            with torch.no_grad():
                for name, average in self.average.items():
                    _toward(average, self._weights[name], 1.0 - self._settings.ema)


def _tokens(batch: Batch) -> int:
    """Target tokens that are predicted: all but the begin marks."""
    return int(batch.target_lengths.sum()) - len(batch.target_lengths)


def _splits_with(batch: Batch, large: Batch) -> bool:
    """Whether a batch can be split and is at least as large as one that memory was not enough for."""
    return len(batch.lines) > 1 and _size(batch) >= _size(large)


def _size(batch: Batch) -> int:
    return batch.source.numel() + batch.target.numel()


def _toward(average: Tensor, weight: Tensor, share: float) -> None:
    if average.is_floating_point():
        average.lerp_(weight.detach(), share)
    else:
        average.copy_(weight)
