"""Promise: a sentence is translated the same alone, in any batch, and in any order, with every cell and attention.

In float32, with weights laid out as for every model that is loaded, scores too are the same to the last bit for the
components of this package; for those of plugins, which may multiply by other means, to 1e-5. In float64 nothing is laid
out, and that scores agree to twelve digits shows that nothing but rounding depends on the batch.
"""

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from folders import TEXTS, small_model, small_recipe, tokenizers

from nmt.model.prepared import prepare
from nmt.products import prepare_for
from nmt.registry import ATTENTION, CELL, available, distribution
from nmt.translator import Translator

COMPONENTS = [f"cell {name}" for name in available(CELL)] + [f"attention {name}" for name in available(ATTENTION)]
OURS = {f"cell {name}" for name, points in available(CELL).items() if distribution(points[0])[0] == "recurrent-nmt"} | {
    f"attention {name}"
    for name, points in available(ATTENTION).items()
    if distribution(points[0])[0] == "recurrent-nmt"
}
CPU = torch.device("cpu")


def tolerance(component: str, dtype: torch.dtype) -> float:
    if dtype is torch.float64:
        return 1e-12
    return 0.0 if component in OURS and torch.backends.mkldnn.is_available() else 1e-5


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
        # Whole vectors of numbers; the decoder as wide as the encoder's two directions, which some attentions need.
        "model.encoder.hidden_size=32",
        "model.decoder.hidden_size=64",
        "model.embedding_size=32",
        "model.engine=loop",
        "search.beam=2",
        "search.max_length_ratio=0.3",
        "search.max_length_extra=3",
    )
    model = small_model(recipe).to(dtype)
    if dtype is torch.float32:
        prepare(model, prepare_for("fp32", CPU, threads=1))
    return Translator(model, tokenizers(), recipe.search, CPU, prepared=dtype is torch.float32)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("component", COMPONENTS)
def test_translations_and_scores_are_the_same_in_any_batch(
    component: str, dtype: torch.dtype, amount: Callable[[int, int], int], promise: Callable[[str, str], None]
) -> None:
    small = 30 if dtype is torch.float64 else 250 if component in OURS else 100
    given = sentences(amount(small, 5000))
    in_order = range(len(given))
    shuffled = random.Random(1).sample(in_order, len(given))
    # A new translator each time: what one keeps of earlier sentences would hide what a batch changes.
    expected = translated(translator_with(component, dtype), given, in_order, 64)
    assert len({pieces for pieces, _ in expected.values()}) > 1
    drift = 0.0
    for order, size in ((in_order, 1), (in_order, 7), (shuffled, 64)):
        found = translated(translator_with(component, dtype), given, order, size)
        assert {index: pieces for index, (pieces, _) in found.items()} == {
            index: pieces for index, (pieces, _) in expected.items()
        }
        drift = max(drift, *(abs(found[index][1] - expected[index][1]) for index in in_order))
    assert drift <= tolerance(component, dtype)
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
