"""Recipes: what is read, what is refused and where the error points."""

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmt.errors import UserError
from nmt.options import Choice
from nmt.recipe import Recipe
from nmt.recipe_file import read_recipe, write_recipe
from nmt.recipe_schedules import ConstantSchedule, PlateauSchedule, TeacherForcing

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))
MINIMAL = """name: small
data:
  source_language: en
  target_language: no
  train: {corpus: phrasebook}
  valid: {corpus: phrasebook, split: valid}
"""


@pytest.fixture
def write(tmp_path: Path):
    def write_(text: str | bytes) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write_


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        read_recipe(path, overrides)
    return str(caught.value).replace(str(path), "FILE")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_valid_and_survives_being_written_out(path: Path, write) -> None:
    recipe = read_recipe(path)
    assert read_recipe(write(write_recipe(recipe))) == recipe
    assert recipe.name == path.stem


def test_yaml_is_read_as_1_2(write) -> None:
    recipe = read_recipe(write(MINIMAL + "train: {optimizer: {learning_rate: 1e-3}, clip_norm: null}\n"))
    assert recipe.data.target_language == "no"
    assert recipe.train.optimizer.learning_rate == 0.001
    assert recipe.train.clip_norm is None


def test_every_default_is_written_out(write) -> None:
    text = write_recipe(read_recipe(write(MINIMAL)))
    for words in ("forget_bias: 1.0", "max_length: 128", "engine: auto", "warmup: 200", "input_feeding: false"):
        assert words in text


def test_errors_name_file_line_column_key_and_remedy(write) -> None:
    path = write(MINIMAL + "model:\n  encoder: {type: recurrent, cell: {type: lstm, forget_bais: 1}}\n")
    assert refused(path) == "FILE:8:49: model.encoder.cell.forget_bais: unknown option; did you mean forget_bias?"


def test_all_mistakes_of_the_sections_are_told_at_once(write) -> None:
    path = write(
        MINIMAL + "train:\n  updatess: 5\n  schedule: {type: plateau, factr: 2}\n  clip_norm: fast\nmodle: {}\n"
    )
    assert refused(path).splitlines() == [
        "FILE:9:29: train.schedule.factr: unknown option; did you mean factor?",
        "FILE:10:3: train.clip_norm: input should be a valid number, unable to parse string as a number, found 'fast'",
        "FILE:8:3: train.updatess: unknown option; did you mean updates?",
        "FILE:11:1: modle: unknown option; did you mean model?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "FILE: a recipe is a mapping of keys to values; see recipes/ for examples"),
        ("name: [1, 2", "FILE:1:12: "),
        ("name: a\nname: b\n", "FILE:2:1: "),
        ("name: !!python/object/apply:os.system [ls]\n", "FILE:1:7: "),
        (b"name: \xff\n", "FILE:1:7: no valid UTF-8; save the file as UTF-8"),
        ("name: a\x00b\n", "FILE"),
        ("[" * 60, "FILE:1:51: a recipe is at most 50 levels deep"),
        ("a: [" + "1, " * 10_001 + "]\n", "FILE:1:"),
        ("# " + "x" * 1_000_000, "FILE: a recipe has at most 1 MB"),
        ("a: &a [*a]\n", "FILE"),
        (MINIMAL.replace("small", "../up"), "FILE:1:1: name: string should match pattern"),
        (MINIMAL.replace("{corpus: phrasebook}", "phrasebok"), "FILE:5:3: data.train: no corpus named"),
        (MINIMAL.replace("{corpus: phrasebook}", "{split: train}"), "FILE:5:3: data.train: "),
    ],
)
def test_what_is_no_recipe_is_refused_in_a_line(write, text: str | bytes, message: str) -> None:
    line = refused(write(text))
    assert line.startswith(message)
    assert "\n" not in line.rstrip()


def test_aliases_that_grow_are_refused_before_they_do(write) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    began = time.monotonic()
    assert "at most 10,000 nodes" in refused(write(bomb)) or "10,000" in refused(write(bomb))
    assert time.monotonic() - began < 5.0


def test_a_missing_file_or_a_folder_is_told_in_a_line(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.yaml") == "FILE: can't be read (no such file or directory); check the path"
    assert "can't be read" in refused(tmp_path)


def test_overrides_are_read_as_yaml_and_win(write) -> None:
    recipe = read_recipe(
        write(MINIMAL + "model:\n  encoder: {type: recurrent, cell: {type: lstm, forget_bias: 2.0}}\n"),
        ["train.updates=7", "model.encoder.cell=gru", "train.schedule={type: plateau}", "train.patience=null"],
    )
    assert recipe.train.updates == 7
    assert recipe.model.encoder.options["cell"] == Choice("gru")
    assert isinstance(recipe.train.schedule, PlateauSchedule)


def test_an_override_gives_a_component_named_by_a_word_its_options(write) -> None:
    path = write(MINIMAL + "model: {encoder: {type: recurrent, cell: lstm}}\n")
    recipe = read_recipe(path, ["model.encoder.cell.forget_bias=3"])
    assert recipe.model.encoder.options["cell"] == Choice("lstm", {"forget_bias": 3.0})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.updates", "'train.updates' sets nothing; write it as key=value, such as train.updates=100"),
        ("train.updats=5", "override train.updats=5: train.updats: unknown option; did you mean updates?"),
        ("train.updates=many", "override train.updates=many: train.updates: input should be a valid integer"),
        ("name.first=x", "override name.first=x: "),
        ("train.updates=[", "train.updates=[: the value is no valid YAML"),
    ],
)
def test_a_bad_override_is_named_as_such(write, override: str, message: str) -> None:
    assert refused(write(MINIMAL), override).startswith(message)


def test_a_number_is_a_constant_share_of_gold_tokens(write) -> None:
    recipe = read_recipe(write(MINIMAL), ["train.teacher_forcing=0.5"])
    assert recipe.train.teacher_forcing == TeacherForcing(start=0.5)
    assert recipe.train.schedule == ConstantSchedule()


def test_settings_that_contradict_each_other_are_refused(write) -> None:
    assert "needs validate_decoded above 0" in refused(write(MINIMAL), "train={best_metric: bleu, validate_decoded: 0}")
    assert "nothing to sample" in refused(write(MINIMAL), "tokenizer={model_type: char, sampling: {}}")
    assert "k must be below 1" in refused(write(MINIMAL), "train.teacher_forcing={type: exponential, k: 2}")


def test_a_recipe_can_not_be_changed(write) -> None:
    with pytest.raises(Exception, match="frozen"):
        read_recipe(write(MINIMAL)).name = "other"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=60), st.integers(0, len(MINIMAL)))
def test_no_bytes_end_in_anything_but_a_recipe_or_a_line(write, noise: bytes, place: int) -> None:
    path = write(MINIMAL.encode()[:place] + noise + MINIMAL.encode()[place:])
    try:
        assert isinstance(read_recipe(path), Recipe)
    except UserError as error:
        assert str(error).startswith(str(path))
