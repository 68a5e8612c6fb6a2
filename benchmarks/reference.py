"""The reference models of docs/performance.md, with random weights and random sentences, and what they multiply."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch

from nmt import recipe
from nmt.model.prepared import prepare
from nmt.model.seq2seq import Seq2Seq, build_model
from nmt.options import Choice
from nmt.products import prepare_for
from nmt.recipe import Search
from nmt.search.beam import beam_search
from nmt.search.captured import CapturedRuns
from nmt.search.hypothesis import Marks
from nmt.text.batches import Batch
from nmt.training.seeds import seed_of
from nmt.training.updater import Updater

SIZES = {  # the encoder's is that of one direction
    "tiny": {"layers": 1, "embedding": 16, "encoder": 16, "decoder": 32, "vocabulary": 100},
    "small": {"layers": 1, "embedding": 256, "encoder": 256, "decoder": 512, "vocabulary": 8000},
    "big": {"layers": 2, "embedding": 512, "encoder": 512, "decoder": 1024, "vocabulary": 16000},
}
MARKS = 4


def reference_model(
    size: str, *, input_feeding: bool = True, vocabulary: int | None = None, engine: str = "auto"
) -> Seq2Seq:
    """Small: 13.2 million parameters with input feeding; big: 69.5 million."""
    sizes, dropout = SIZES[size], {"dropout": 0.2, "embedding_dropout": 0.2}
    encoder = {"hidden_size": sizes["encoder"], "layers": sizes["layers"], "bidirectional": True, **dropout}
    decoder = {"hidden_size": sizes["decoder"], "layers": sizes["layers"], "input_feeding": input_feeding, **dropout}
    settings = recipe.Model.model_validate(
        {
            "embedding_size": sizes["embedding"],
            "encoder": Choice("recurrent", encoder),
            "decoder": Choice("recurrent", decoder),
            "engine": engine,
        }
    )
    torch.manual_seed(1)
    words = vocabulary or sizes["vocabulary"]
    return build_model(settings, words, words, shared=True)


def prepared_model(size: str, *, vocabulary: int | None = None, device: str = "cpu") -> Seq2Seq:
    """The same, made ready for translating in fp32 on one thread, as `Translator.load` does."""
    model = reference_model(size, vocabulary=vocabulary, engine="loop").to(device).eval()
    prepare(model, prepare_for("fp32", torch.device(device), 1))
    return model


def random_batch(sentences: int, length: int, vocabulary: int) -> Batch:
    """Sentences of `length` source tokens and as many target tokens to be predicted."""
    generator = torch.Generator().manual_seed(1)
    source, target = torch.randint(MARKS, vocabulary, (2, sentences, length), generator=generator)
    target = torch.cat([torch.ones(sentences, 1, dtype=torch.int64), target], 1)
    lengths = torch.full((sentences,), length)
    return Batch(source, lengths, target, lengths + 1, numpy.arange(sentences))


class Training:
    """Updates of a model on one batch, as nmt-train does them."""

    def __init__(self, model: Seq2Seq, batch: Batch, precision: torch.dtype | None = None, device: str = "cpu") -> None:
        settings = recipe.Train(optimizer=recipe.Optimizer(learning_rate=1e-3), label_smoothing=0.0)
        self.model = model.to(device)
        self._updater = Updater(model, settings, torch.device(device), precision)
        self._batch, self._number = batch, 0

    def __call__(self) -> None:
        self._number += 1
        self._updater.update([self._batch], self._number, 1e-3, seed_of(1, self._number))


def searched(
    model: Seq2Seq, batch: Batch, beam: int, captured: CapturedRuns | None = None
) -> Sequence[Sequence[object]]:
    """Translations of a batch as long as its sentences: hypotheses that end are as rare as any word."""
    length, device = batch.source.shape[1], next(model.parameters()).device
    settings = Search(beam=beam, max_length_ratio=0.0, max_length_extra=length, min_length_ratio=1.0)
    with torch.inference_mode():
        encoded = model.encoder(batch.source.to(device), batch.source_lengths)
        return beam_search(model.decoder, encoded, settings, Marks(1, 3, (0, 2)), captured=captured)


def multiplied(model: Seq2Seq) -> tuple[int, int]:
    """Floating-point operations forward: of a source token and of a target token.

    A matrix of n weights takes 2n for each token that it is multiplied by. Embeddings are looked up, not multiplied,
    unless they are the output layer as well; attention's own products of [T, S] are left out: 2 % for 15 tokens.
    """
    encoder = sum(p.numel() for name, p in model.encoder.named_parameters() if counts(name, p))
    decoder = sum(p.numel() for name, p in model.decoder.named_parameters() if counts(name, p))
    return 2 * encoder, 2 * (decoder + (model.decoder.output.vectors.numel() if tied(model) else 0))


def counts(name: str, parameter: torch.Tensor) -> bool:
    return parameter.dim() == 2 and not name.startswith(("embedding.", "start."))


def tied(model: Seq2Seq) -> bool:
    return not any(name.startswith("output.weight") for name, _ in model.decoder.named_parameters())
