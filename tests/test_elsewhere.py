"""Another device than the processor: nothing is left behind, and nothing waits for it that needn't."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.utils.backend_registration

from nmt.recipe import Recipe
from nmt.recipe_file import write_recipe

Make = Callable[..., Recipe]
LENGTH = "train.updates=8", "train.report_every=4", "train.validate_every=8", "train.validate_decoded=1"
TRIAL = Path(__file__).parent / "elsewhere" / "trial.py"

pytestmark = pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch knows no devices written in Python",
)


def tried(*words: object) -> tuple[dict, dict[str, int]]:
    """What a trial found, and how often which function waited."""
    done = subprocess.run([sys.executable, TRIAL, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    return told["found"], told["waits"]


@pytest.mark.parametrize(
    "words",
    [
        ["model.decoder.dropout=0.2", "train.clip_value=1.0", "train.label_smoothing=0.1"],
        ["model.decoder.input_feeding=true", "train.accumulate=2", "train.ema=0.9", "train.teacher_forcing=0.5"],
        ["model.decoder.layers=2", "model.decoder.attention_layer=first", "model.decoder.attention=additive"],
    ],
    ids=["dropout", "feeding", "first layer"],
)
def test_training_waits_for_reports_alone_and_gives_the_same_weights(
    tmp_path: Path, small_recipe: Make, words: list[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(write_recipe(small_recipe("model.engine=loop", *LENGTH, *words)))
    found, waits = tried("train", tmp_path, recipe)
    assert found["other"] == []
    assert waits.pop("updater.read") == 8 / 4
    assert waits.pop("validation._loss") <= 5  # a batch
    assert waits.pop("on_device._read") == found["runs"] > 0
    # Once a saved tensor; whether the device gives numbers back at all is tried first.
    assert waits.keys() == {"weights.save_weights", "device.choose_device"}


def test_translations_are_the_same_with_all_that_search_can_give(copier: Path, tmp_path: Path) -> None:
    run = shutil.copytree(copier, tmp_path / "run")  # a shortlist is put there
    found, waits = tried("translate", run)
    runs = found.pop("runs")
    for (text, score, weights), (other, other_score, other_weights) in zip(*found.values(), strict=True):
        assert other == pytest.approx(text, abs=1e-4) if isinstance(text, list) else other == text
        assert other_score == pytest.approx(score, abs=1e-4)
        for row, other_row in zip(weights, other_weights, strict=True):
            assert other_row == pytest.approx(row, abs=1e-4)
    assert waits.pop("on_device._read") == runs > 0
    assert waits.pop("scoring.score") == 1  # a batch
    assert waits.keys() - {"a test"} == {"device.choose_device"}


def test_components_compute_where_their_inputs_are() -> None:
    found, _ = tried("components")
    assert {"cell lstm", "attention general"} <= found.keys()
    assert {name: far for name, far in found.items() if far > 1e-6} == {}
