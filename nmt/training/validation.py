"""Measuring a model on the validation set while it is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from nmt.device import autocast
from nmt.evaluation.metrics import measure
from nmt.model.seq2seq import Seq2Seq
from nmt.model.weights import named_weights
from nmt.recipe import Metric
from nmt.text.batches import Batch
from nmt.text.corpus import Pair
from nmt.training.objectives import cross_entropy
from nmt.translator import Translator


@dataclass(frozen=True)
class Validation:
    """The validation set: as batches for the loss, and the pairs that are translated too."""

    batches: Sequence[Batch]
    decoded: Sequence[Pair]
    device: torch.device
    dtype: torch.dtype | None

    def run(self, model: Seq2Seq, translator: Translator) -> dict[Metric, float]:
        """Loss and perplexity a token and, where pairs are to be translated, BLEU and chrF of greedy search."""
        model.eval()
        loss = self._loss(model)
        values: dict[Metric, float] = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        if self.decoded:
            hypotheses = translator.translate([pair.source for pair in self.decoded], beam=1)
            measured = measure(hypotheses, [pair.target for pair in self.decoded])
            scores = {item.name: item.value for item in measured}
            values |= {"bleu": scores["BLEU"], "chrf": scores["chrF"]}
        return values

    @torch.no_grad()
    def _loss(self, model: Seq2Seq) -> float:
        """Mean negative log-likelihood of a target token, in nats, without label smoothing."""
        total, tokens = 0.0, 0
        for batch in self.batches:
            batch = batch.to(self.device)
            lengths = batch.target_lengths - 1
            with autocast(self.device, self.dtype):
                features = model(batch.source, batch.source_lengths, batch.target[:, :-1])
                loss = cross_entropy(model.decoder.output, features, batch.target[:, 1:], lengths, 0.0)
            total += float(loss.negative_log_likelihood)
            tokens += int(lengths.sum())
        return total / tokens


@contextmanager
def using(model: Seq2Seq, weights: dict[str, Tensor]) -> Iterator[None]:
    """The model with other weights for a while: those of the moving average."""
    own = named_weights(model)
    kept = {name: own[name].detach().clone() for name in own if weights[name] is not own[name]}
    with torch.no_grad():
        for name in kept:
            own[name].copy_(weights[name])
        yield
        for name, tensor in kept.items():
            own[name].copy_(tensor)
