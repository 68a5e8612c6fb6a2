"""Finding what is wrong with a recipe before any time is spent on it."""

from __future__ import annotations

from nmt.device import autocast_type, choose_device
from nmt.model.seq2seq import assemble
from nmt.options import Choice
from nmt.recipe import Recipe
from nmt.registry import CORPUS
from nmt.text.tokenizer import Tokenizer, check_paths
from nmt.training.optimizers import check_options

VOCABULARY = 300
"""Tokens of the stand-in vocabulary: enough to put a model together, quick to do."""


def check(recipe: Recipe) -> None:
    """Raise UserError where the recipe's components don't fit each other or a file is missing. Reads no data."""
    check_corpora(recipe.data.train, recipe.data.valid, recipe.data.test)
    check_paths(recipe.tokenizer)
    for path in (recipe.tokenizer.path, recipe.tokenizer.target_path):
        if path is not None:
            Tokenizer.load(path)
    autocast_type(recipe.train.precision, choose_device(recipe.train.device))
    assemble(recipe.model, VOCABULARY, VOCABULARY, shared=recipe.tokenizer.shared)
    check_options(recipe.train.optimizer)


def check_corpora(*choices: Choice | None) -> None:
    """Raise UserError where one of the corpora is seen to be missing without reading it."""
    for choice in choices:
        if choice is not None:
            choice.build(CORPUS).check()
