"""Promise: a sentence is translated the same alone, in any batch, and in any order, with every cell and attention.

What is the same: the translation, token by token; its score up to rounding, for a product of matrices rounds otherwise
with another number of rows. In float64 the rounding is 1e-16, so that scores agree to ten more digits shows that
nothing else depends on the batch.
"""

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from folders import TEXTS, small_model, small_recipe, tokenizers

from nmt.registry import ATTENTION, CELL, available
from nmt.translator import Translator

COMPONENTS = [f"cell {name}" for name in available(CELL)] + [f"attention {name}" for name in available(ATTENTION)]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}

Found = dict[int, tuple[tuple[str, ...], float]]


def sentences(count: int) -> list[str]:
    draw = random.Random(3)
    words = " ".join(TEXTS).split()
    return [" ".join(draw.choices(words, k=draw.randint(1, 5))) for _ in range(count)]


def translator_with(component: str, dtype: torch.dtype) -> Translator:
    kind, _, name = component.partition(" ")
    sides = ("encoder", "decoder") if kind == "cell" else ("decoder",)
    recipe = small_recipe(
        *(f"model.{side}.{kind}={name}" for side in sides),
        "model.decoder.hidden_size=16",  # as wide as the encoder's two directions, which some attentions need
        "search.beam=2",
        "search.max_length_ratio=0.3",
        "search.max_length_extra=3",
    )
    model = small_model(recipe).to(dtype)
    return Translator(model, tokenizers(), recipe.search, torch.device("cpu"))


def translated(translator: Translator, given: Sequence[str], order: Sequence[int], size: int) -> Found:
    """What is found for each sentence, given in that order, in batches of that size."""
    found = {}
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        for index, (best, *_) in zip(
            batch, translator.translations([given[index] for index in batch], batch_tokens=10**9), strict=True
        ):
            found[index] = (best.target_pieces, best.score)
    return found


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
@pytest.mark.parametrize("component", COMPONENTS)
def test_translations_and_scores_are_the_same_in_any_batch(
    component: str, dtype: torch.dtype, amount: Callable[[int, int], int], promise: Callable[[str, str], None]
) -> None:
    given = sentences(amount(150 if dtype is torch.float32 else 50, 5000))
    translator = translator_with(component, dtype)
    in_order = range(len(given))
    shuffled = random.Random(1).sample(in_order, len(given))
    expected = translated(translator, given, in_order, 64)
    assert len({pieces for pieces, _ in expected.values()}) > 1
    drift = 0.0
    for order, size in ((in_order, 1), (in_order, 7), (shuffled, 64)):
        found = translated(translator, given, order, size)
        assert {index: pieces for index, (pieces, _) in found.items()} == {
            index: pieces for index, (pieces, _) in expected.items()
        }
        drift = max(drift, *(abs(found[index][1] - expected[index][1]) for index in in_order))
    assert drift <= TOLERANCE[dtype]
    kind = str(dtype).removeprefix("torch.")
    promise(f"the same in batches of 1, 7, 64, shuffled: {component}, {kind}", f"{len(given):,}, scores to {drift:.1e}")


def test_an_encoder_that_reads_padding_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    translator = translator_with("cell lstm", torch.float64)
    encoder = translator._model.encoder
    plain = encoder.forward

    def careless(source: torch.Tensor, lengths: torch.Tensor) -> object:
        return plain(source, torch.full_like(lengths, source.shape[1]))

    monkeypatch.setattr(encoder, "forward", careless)
    given = sentences(64)
    alone = translated(translator, given, range(64), 1)
    assert (
        max(abs(score - alone[index][1]) for index, (_, score) in translated(translator, given, range(64), 64).items())
        > 1e-5
    )
