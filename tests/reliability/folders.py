"""Model folders made without training: random weights, and biases that make a model write what a test wants."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import torch

from nmt import checkpoints, recipe
from nmt.model.seq2seq import Seq2Seq, build_model
from nmt.model.weights import named_weights, save_weights
from nmt.recipe import Recipe
from nmt.recipe_file import read_recipe, write_recipe
from nmt.text.tokenizer import Tokenizer, Tokenizers

RECIPE = Path(__file__).parents[2] / "recipes" / "copy.yaml"
CHECKPOINT = "update-00000001"
SMALL = ("model.embedding_size=8", "model.encoder.hidden_size=8", "model.decoder.hidden_size=8")
TEXTS = ("the cat sat on the mat", "a dog ran, and a bird flew away", "0 1 2 3 4 5 6 7 8 9", "¿qué? ça va; être où?")


@cache
def tokenizers() -> Tokenizers:
    """A few words, and every byte."""
    settings = recipe.Tokenizer(vocab_size=360, model_type="unigram", byte_fallback=True)
    shared = Tokenizer.train(TEXTS * 4, settings)
    return Tokenizers(shared, shared)


def small_recipe(*overrides: str) -> Recipe:
    return read_recipe(RECIPE, [*SMALL, *overrides])


def small_model(settings: Recipe, seed: int = 1) -> Seq2Seq:
    torch.manual_seed(seed)
    size = tokenizers().source.vocab_size
    return build_model(settings.model, size, size, shared=True).eval()


def write_folder(
    folder: Path, settings: Recipe, model: Seq2Seq, files: Mapping[str, Callable[[Path], object]] | None = None
) -> Path:
    """A run's folder with that model, as training leaves it; `files` are written to its checkpoint instead."""
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(write_recipe(settings))
    tokenizers().save(folder)
    weights = {"model.safetensors": lambda path: save_weights(named_weights(model), path)}
    checkpoints.write(folder, CHECKPOINT, files or weights)
    (folder / "best").write_text(f"{CHECKPOINT}\n")
    return folder


def fond_of(model: Seq2Seq, pieces: Sequence[str], *, over_the_end: float = 0.0) -> Seq2Seq:
    """The same model with a bias for these pieces of the vocabulary."""
    every = tokenizers().target.pieces()
    bias = named_weights(model)["decoder.output.bias"]
    with torch.no_grad():
        bias[[every.index(piece) for piece in pieces]] += 30.0
        bias[tokenizers().target.eos_id] += 30.0 - over_the_end
    return model
