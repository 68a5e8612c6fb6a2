"""A run that is stopped anywhere and started again ends with the same files, byte for byte, as one never stopped."""

import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from contents import contents
from nursery import Nursery

from nmt import checkpoints
from nmt.manifest import damage
from nmt.recipe import Recipe
from nmt.recipe_file import read_recipe, write_recipe
from nmt.registry import CELL, available, distribution

Amount = Callable[[int, int], int]
Promise = Callable[[str, str], None]
CELLS = sorted(name for name, points in available(CELL).items() if distribution(points[0])[0] == "recurrent-nmt")
EVENTS_INSIDE_A_SAVE = 24
"""About as many, deleting an older checkpoint included."""
COPY = Path(__file__).parents[2] / "recipes" / "copy.yaml"
EVERYTHING = [
    "data.train.pairs=300",
    "data.valid.pairs=20",
    "model.embedding_size=8",
    "model.encoder.hidden_size=8",
    "model.decoder.hidden_size=8",
    "train.batch_tokens=300",
    "train.validate_every=4",
    "train.validate_decoded=5",
    "tokenizer={model_type: unigram, vocab_size: 40, byte_fallback: false, sampling: {alpha: 0.3}}",
    "model.encoder.dropout=0.2",
    "model.decoder.dropout=0.2",
    "model.decoder.embedding_dropout=0.2",
    "train.ema=0.9",
    "train.accumulate=2",
    "train.teacher_forcing={type: linear, start: 0.9, slope: 0.01}",
    "train.schedule={type: plateau, patience: 0}",
    "train.keep_best=2",
    "train.keep_last=2",
    "train.report_every=3",
    "train.optimizer.learning_rate=1.0",  # so high that the plateau is reached, and the best isn't the newest
    "train.updates=15",
    "train.threads=1",
]


@dataclass(frozen=True)
class Whole:
    """A run that is never stopped."""

    recipe: Recipe
    contents: dict[str, object]
    seconds: float


@pytest.fixture(scope="module")
def whole(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Whole]:
    """Of a cell, with everything that is random or remembers anything."""

    @cache
    def run(cell: str) -> Whole:
        recipe = read_recipe(COPY, [*EVERYTHING, f"model.encoder.cell={cell}", f"model.decoder.cell={cell}"])
        folder = tmp_path_factory.mktemp("whole") / cell
        place(folder, recipe)
        began = time.monotonic()
        ended = nursery.run(folder)
        assert ended.code == 0, ended.errors
        rates = {record.get("learning_rate", 1.0) for record in contents(folder / "run")["metrics.jsonl"]}
        assert min(rates) < 1.0, "the plateau was not in play"
        return Whole(recipe, contents(folder / "run"), time.monotonic() - began)

    return run


def place(folder: Path, recipe: Recipe) -> None:
    folder.mkdir()
    (folder / "recipe.yaml").write_text(write_recipe(recipe))


def assert_only_whole_checkpoints(run: Path) -> None:
    assert all(damage(checkpoint) is None for checkpoint in checkpoints.listed(run))


@pytest.mark.parametrize("cell", CELLS)
def test_a_killed_run_ends_with_the_bytes_of_one_never_killed(
    nursery: Nursery, tmp_path: Path, whole: Callable[[str], Whole], amount: Amount, promise: Promise, cell: str
) -> None:
    never_killed = whole(cell)
    draw, wanted, kills, inside, runs = random.Random(cell), amount(2, 17), 0, 0, 0
    while kills < wanted:
        folder = tmp_path / f"killed-{runs}"
        place(folder, never_killed.recipe)
        code = -1
        while code != 0:
            at = draw.randint(1, 3 * EVENTS_INSIDE_A_SAVE) if kills % 2 == 0 and kills < wanted else 0
            child = nursery.start(folder, kill_inside_save=at)
            if kills < wanted and not at:
                child.send(signal.SIGKILL, after=draw.uniform(0.0, 0.8 * never_killed.seconds))
            ended = child.wait()
            code = ended.code
            assert code in (0, -signal.SIGKILL), ended.errors
            kills += code != 0
            inside += code != 0 and at > 0
            assert_only_whole_checkpoints(folder / "run")
        assert contents(folder / "run") == never_killed.contents
        shutil.rmtree(folder)
        runs += 1
    promise(f"kills ({cell})", f"{kills} ({inside} inside a save) in {runs} runs, each ended byte-identical")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_stopped_by_signals_ends_with_the_bytes_of_one_never_stopped(
    nursery: Nursery,
    tmp_path: Path,
    whole: Callable[[str], Whole],
    amount: Amount,
    promise: Promise,
    number: signal.Signals,
    code: int,
) -> None:
    never_stopped = whole("lstm")
    draw, wanted, stops, runs = random.Random(code), amount(1, 25), 0, 0
    while stops < wanted:
        folder = tmp_path / f"stopped-{runs}"
        place(folder, never_stopped.recipe)
        ended_code = -1
        while ended_code != 0:
            child = nursery.start(folder)
            if stops < wanted:
                child.send(number, after=draw.uniform(0.2, 0.9) * never_stopped.seconds)
            ended = child.wait()
            ended_code = ended.code
            assert ended_code in (0, code, -number), ended.errors  # before training begins, a signal ends it at once
            assert "Traceback" not in ended.errors
            stops += "saved; the same command goes on from here" in ended.errors
        assert contents(folder / "run") == never_stopped.contents
        shutil.rmtree(folder)
        runs += 1
    promise(f"{number.name}", f"{stops} in {runs} runs, each ended byte-identical")
