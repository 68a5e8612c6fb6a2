"""A whole training run: from a recipe to a folder with a model, or on from where that folder stands."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch

from nmt import checkpoints
from nmt.cells.engines import in_words
from nmt.device import (
    LARGE,
    autocast_type,
    choose_device,
    deterministic,
    in_huge_pages,
    keep_few_kernels,
    keep_freed_memory,
    limits_in_words,
)
from nmt.model.pretrained import load_embeddings
from nmt.model.seq2seq import Seq2Seq, build_model
from nmt.model.weights import named_weights
from nmt.options import Choice
from nmt.recipe import Recipe, Train
from nmt.recipe_file import read_recipe
from nmt.registry import CORPUS
from nmt.text.batches import BatchPlan, ordered_batches
from nmt.text.corpus import Corpus
from nmt.text.store import TokenStore, build_store
from nmt.text.tokenizer import Tokenizers, make_tokenizers
from nmt.training.check import check_corpora
from nmt.training.checkpoint import resume
from nmt.training.course import Course
from nmt.training.environment import environment
from nmt.training.faults import Faults
from nmt.training.folder import begin, claimed
from nmt.training.loop import Loop
from nmt.training.progress import Progress
from nmt.training.schedules import LearningRate
from nmt.training.updater import Updater
from nmt.training.validation import Validation
from nmt.translator import Translator


def train(
    recipe: Recipe | str | Path,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    accept: Sequence[str] = (),
) -> Path:
    """Train what a recipe describes; the folder of the run, ``runs/NAME`` unless `out` names another.

    The same call again goes on from the newest checkpoint, or returns at once where training is over. Keys that have
    changed since must be harmless and named in `accept`: see `nmt.training.folder.HARMLESS`.
    Raises UserError for what the user can put right, StoppedError after SIGINT or SIGTERM with everything saved.
    """
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe, overrides)
    folder = Path(out) if out is not None else Path("runs") / recipe.name
    with limits_in_words(str(folder)), deterministic(recipe.train.deterministic):
        _train(recipe, folder, accept)
    return folder


def _train(recipe: Recipe, folder: Path, accept: Sequence[str]) -> None:
    device, dtype = prepared_device(recipe.train)
    with claimed(folder, recipe, accept, _say) as begun:
        check_corpora(recipe.data.train, recipe.data.valid)  # both before one is read, which can take long
        tokenizers = (
            Tokenizers.load(folder) if begun else make_tokenizers(corpus_of(recipe.data.train), recipe.tokenizer)
        )
        training, validation = stores(recipe, tokenizers)
        model = build(recipe, tokenizers).to(device)
        if not begun:
            tokenizers.save(folder)
        begin(folder, recipe)
        checkpoints.write_text(folder / "environment.json", json.dumps(environment(recipe, device), indent=1) + "\n")
        updater, course = Updater(model, recipe.train, device, dtype), Course()
        learning_rate = LearningRate(recipe.train.optimizer.learning_rate, recipe.train.schedule, recipe.train.updates)
        resumed = resume(folder, updater, course, learning_rate, recipe.train, _say)
        if course.over(recipe.train):
            _say(f"{folder}: nothing to do, training is over ({course.ended})")
            return
        _say(_summary(recipe, model, training, device, dtype, course.update if resumed else None))
        _say(f"{recipe.name}: {_engines(recipe, model, device)}")
        with Progress(folder, recipe.train.updates, course.update) as progress:
            faults = Faults(
                folder, recipe.train, updater, course, progress, lambda: named_weights(build(recipe, tokenizers))
            )
            Loop(
                folder=folder,
                settings=recipe.train,
                seed=recipe.seed,
                plan=batch_plan(recipe, training, tokenizers),
                validation=_validation(recipe, validation, tokenizers, device, dtype),
                translator=Translator(model, tokenizers, recipe.search, device),
                updater=updater,
                learning_rate=learning_rate,
                course=course,
                progress=progress,
                faults=faults,
            ).run()


def build(recipe: Recipe, tokenizers: Tokenizers) -> Seq2Seq:
    """The recipe's model at its start: initialised from the recipe's seed, pretrained embeddings in place."""
    torch.manual_seed(recipe.seed)
    source, target = tokenizers.source, tokenizers.target
    model = build_model(recipe.model, source.vocab_size, target.vocab_size, shared=recipe.tokenizer.shared)
    for path, tokenizer, embedding in (
        (recipe.model.source_embeddings, source, model.encoder.embedding),
        (recipe.model.target_embeddings, target, model.decoder.embedding),
    ):
        if path is not None:
            filled = load_embeddings(path, tokenizer.pieces(), embedding.weight[: embedding.vocab_size])
            _say(f"{path}: {filled:,} of {tokenizer.vocab_size:,} embeddings filled")
    return model


def prepared_device(settings: Train) -> tuple[torch.device, torch.dtype | None]:
    """Where to train and what to compute products in; the process is set up for it."""
    device = choose_device(settings.device)
    dtype = autocast_type(settings.precision, device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if device.type == "cpu":
        keep_few_kernels()
        if in_huge_pages():
            keep_freed_memory(below=LARGE[dtype or torch.float32])
        elif dtype is not None:  # in fp32 it would gain less than the memory is worth
            keep_freed_memory()
    return device, dtype


def trained_tokenizers(recipe: Recipe) -> Tokenizers:
    """The recipe's tokenizers, trained on its training pairs or read from where it says."""
    return make_tokenizers(corpus_of(recipe.data.train), recipe.tokenizer)


def corpus_of(choice: Choice) -> Corpus:
    """The corpus that a recipe names."""
    corpus: Corpus = choice.build(CORPUS)
    return corpus


def stores(recipe: Recipe, tokenizers: Tokenizers) -> tuple[TokenStore, TokenStore]:
    """Training and validation pairs as tokens. Only training leaves out pairs that are too long."""
    sampling = recipe.tokenizer.sampling is not None
    training = build_store(
        corpus_of(recipe.data.train), tokenizers, max_length=recipe.data.max_length, keep_text=sampling, say=_say
    )
    validation = build_store(corpus_of(recipe.data.valid), tokenizers, max_length=None, keep_text=False, say=_say)
    return training, validation


def batch_plan(recipe: Recipe, store: TokenStore, tokenizers: Tokenizers) -> BatchPlan:
    """Which training pairs make which batch, as a recipe says."""
    return BatchPlan(
        store,
        tokenizers,
        tokens=None if recipe.train.batch_sentences else recipe.train.batch_tokens,
        sentences=recipe.train.batch_sentences,
        seed=recipe.seed,
        sampling=recipe.tokenizer.sampling,
    )


def _validation(
    recipe: Recipe, store: TokenStore, tokenizers: Tokenizers, device: torch.device, dtype: torch.dtype | None
) -> Validation:
    pairs = (pair for pair in corpus_of(recipe.data.valid).pairs() if pair.source.strip() and pair.target.strip())
    batches = list(ordered_batches(store, tokenizers, tokens=recipe.train.batch_tokens or 4096))
    return Validation(batches, list(islice(pairs, recipe.train.validate_decoded)), device, dtype)


def _summary(
    recipe: Recipe,
    model: Seq2Seq,
    store: TokenStore,
    device: torch.device,
    dtype: torch.dtype | None,
    resumed: int | None,
) -> str:
    """A line that says what is about to be trained, and from where."""
    size = sum(parameter.numel() for parameter in model.parameters())
    where = f"{device.type} in {str(dtype or torch.float32).removeprefix('torch.')}, {torch.get_num_threads()} threads"
    begin = "from the start" if resumed is None else f"going on from update {resumed:,}"
    languages = f"{recipe.data.source_language} to {recipe.data.target_language}"
    what = f"{languages}, {len(store):,} pairs, {size:,} parameters"
    return f"{recipe.name}: {what}, {where}; {begin}"


def _engines(recipe: Recipe, model: Seq2Seq, device: torch.device) -> str:
    """What runs which cell."""
    ways = [
        f"{side} {name}: {in_words(recipe.model.engine, kind, device)}"
        for side, part in (("encoder", model.encoder), ("decoder", model.decoder))
        for name, kind in part.recurrences().items()
    ]
    return "; ".join([f"engine {recipe.model.engine}", *ways])


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
