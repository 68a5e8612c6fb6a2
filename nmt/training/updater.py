"""One update of the weights: gradients of a group of batches, clipping, the optimiser, the moving average."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from nmt import recipe
from nmt.device import autocast, free_memory, give_back_freed_memory, is_out_of_memory
from nmt.model.seq2seq import Seq2Seq
from nmt.model.weights import named_weights
from nmt.text.batches import Batch
from nmt.training.objectives import Loss, cross_entropy
from nmt.training.optimizers import build_optimizer, take_step
from nmt.training.schedules import gold_share

Phase = Callable[[str], AbstractContextManager[object]]
"""What is entered around each phase of an update, by its name: a clock's mark, say."""

KEPT = 10
"""Updates between two at which memory that the C library kept is given back: more often costs time, seldom memory."""


def unmarked(name: str) -> AbstractContextManager[object]:
    """No mark at all."""
    return nullcontext()


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


@dataclass(frozen=True)
class Submitted:
    """An update that the device has been told to make; its numbers are for `read`."""

    batches: tuple[Batch, ...]
    """What was trained on, split where memory was short."""
    numbers: Tensor
    """The batches' negative log-likelihoods and the gradient's norm ``[batches + 1]``; nothing without batches."""
    scale: float
    """What the loss was scaled by; 1 but for fp16."""
    split: tuple[Batch, ...]
    dropped: tuple[int, ...]


def read(submitted: Sequence[Submitted], phase: Phase = unmarked) -> list[Applied]:
    """What updates did. Waits for the device, once for all of them."""
    if not submitted:
        return []
    with phase("waiting"):
        numbers = torch.cat([each.numbers for each in submitted]).tolist()
    applied: list[Applied] = []
    for each in submitted:
        own, numbers = numbers[: len(each.numbers)], numbers[len(each.numbers) :]
        applied.append(_applied(each, own))
    return applied


def _applied(submitted: Submitted, numbers: Sequence[float]) -> Applied:
    batches, split, dropped = submitted.batches, submitted.split, submitted.dropped
    if not batches:
        return Applied(0, 0.0, 0.0, applied=False, fault=False, parts=(), split=split, dropped=dropped)
    *losses, norm = numbers
    likely, finite = all(map(math.isfinite, losses)), all(map(math.isfinite, numbers))
    # With fp16 a gradient overflows now and then, and the scaler lowers its scale; at 1 that explains nothing.
    fault = not finite and (not likely or submitted.scale <= 1.0)
    parts = tuple(Part(batch, loss / _tokens(batch)) for batch, loss in zip(batches, losses, strict=True))
    return Applied(sum(map(_tokens, batches)), sum(losses), norm, finite, fault, parts, split, dropped)


class Updater:
    """Holds everything that an update changes: the model, the optimiser, the moving average, the loss scale.

    Whether an update's numbers are finite is decided on the device where that can be, so that nothing waits for it:
    on CUDA with Adam and AdamW, whose fused steps take the decision as a tensor. With fp16, whose loss scale is read,
    with optimisers that have no such step (or one whose first step may not be left out, as SGD's with momentum), and
    on a processor, where there is nothing to wait for, each update's numbers are read before the weights are moved.
    """

    def __init__(
        self,
        model: Seq2Seq,
        settings: recipe.Train,
        device: torch.device,
        dtype: torch.dtype | None,
        phase: Phase = unmarked,
    ) -> None:
        self.model = model
        self.device = device
        self.optimizer = build_optimizer(settings.optimizer, model.parameters())
        # Loss scaling is for fp16 alone: bf16 has the range of fp32.
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
        weights = named_weights(model)
        self.average = {name: tensor.detach().clone() for name, tensor in weights.items()} if settings.ema else None
        self._weights = weights
        self._settings = settings
        self._dtype = dtype
        self._phase = phase
        self._keeps = device.type == "cpu" and dtype is not None  # see run.prepared_device
        self._initial_scale = self.scaler.state_dict()
        self.ahead = device.type == "cuda" and not self.scaler.is_enabled() and decides_on_device(self.optimizer)
        """Whether the decision is the device's, so that many updates may be submitted before any is read."""

    def update(self, batches: Sequence[Batch], number: int, learning_rate: float, seed: int) -> Applied:
        """As `submit`, and read what it did."""
        return self.read([self.submit(batches, number, learning_rate, seed)])[0]

    def read(self, submitted: Sequence[Submitted]) -> list[Applied]:
        """What updates did. Waits for the device, once for all of them."""
        return read(submitted, self._phase)

    def submit(self, batches: Sequence[Batch], number: int, learning_rate: float, seed: int) -> Submitted:
        """Apply the mean gradient over all target tokens of `batches`. `seed` decides dropout and sampling.

        Nothing is applied where the loss or its gradient is no finite number.
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
            free_memory(self.device)
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
        scale = self.scaler.get_scale() if self.scaler.is_enabled() else 1.0
        with self._phase("optimizer"):
            numbers = self._apply(likelihoods, learning_rate)
        if self._keeps and number % KEPT == 0:
            give_back_freed_memory()
        return Submitted(tuple(batches), numbers, scale, tuple(split), tuple(dropped))

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
                with self._phase("backward"):
                    self.scaler.scale(loss.objective / tokens).backward()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                break  # the error, and the tensors that its frames hold, must be gone before the next try
            likelihoods.append(loss.negative_log_likelihood)
        return likelihoods

    def _loss(self, batch: Batch, share: float) -> Loss:
        batch = batch.to(self.device)
        tokens, following = batch.target[:, :-1], batch.target[:, 1:]  # [B, T]
        gold = None if share >= 1.0 else torch.rand(tokens.shape, device=self.device) < share
        with autocast(self.device, self._dtype):
            with self._phase("decoder"):  # a clock may mark the encoder within
                features = self.model(batch.source, batch.source_lengths, tokens, gold)
            with self._phase("output layer and loss"):
                return cross_entropy(
                    self.model.decoder.output,
                    features,
                    following,
                    batch.target_lengths - 1,
                    self._settings.label_smoothing,
                )

    def _apply(self, likelihoods: Sequence[Tensor], learning_rate: float) -> Tensor:
        """Move the weights along the gradients, unless those or the loss are no finite numbers. Those that say so."""
        if not likelihoods:
            return torch.zeros(0, device=self.device)
        self.scaler.unscale_(self.optimizer)
        numbers = torch.stack([*likelihoods, self._clip()])
        finite = numbers.isfinite().all()
        if self.ahead:
            cast(Any, self.optimizer).found_inf = (~finite).float()  # the fused step does nothing where it is 1
            self._step(learning_rate, finite)
        elif finite.item():
            self._step(learning_rate, None)
        self.scaler.update()
        return numbers

    def _clip(self) -> Tensor:
        """Clip by value, then by norm; the norm before either."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = total = nn.utils.get_total_norm(gradients)
        if self._settings.clip_value is not None:
            nn.utils.clip_grad_value_(parameters, self._settings.clip_value)
            total = nn.utils.get_total_norm(gradients)
        if self._settings.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self._settings.clip_norm, total)
        return norm

    def _step(self, learning_rate: float, finite: Tensor | None) -> None:
        """One step of the optimiser and the average; of the latter only where `finite` on the device, if given."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
        else:
            take_step(self.optimizer)
        if self.average is not None and self._settings.ema:
            with torch.no_grad():
                for name, average in self.average.items():
                    _toward(average, self._weights[name], 1.0 - self._settings.ema, finite)


def decides_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its step can be told by a tensor to do nothing, and is then as if it had not been."""
    fused = all(group.get("fused") for group in optimizer.param_groups)
    return fused and type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)


def _tokens(batch: Batch) -> int:
    """Target tokens that are predicted: all but the begin marks."""
    return int(batch.target_lengths.sum()) - len(batch.target_lengths)


def _splits_with(batch: Batch, large: Batch) -> bool:
    """Whether a batch can be split and is at least as large as one that memory was not enough for."""
    return len(batch.lines) > 1 and _size(batch) >= _size(large)


def _size(batch: Batch) -> int:
    return batch.source.numel() + batch.target.numel()


def _toward(average: Tensor, weight: Tensor, share: float, finite: Tensor | None) -> None:
    if not average.is_floating_point():
        average.copy_(weight)
    elif finite is None:
        average.lerp_(weight.detach(), share)
    else:
        average.lerp_(weight.detach(), (share * finite).to(average.dtype))
