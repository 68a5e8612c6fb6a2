"""Where the time of an update goes."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nmt.commands.train import main
from nmt.errors import UserError
from nmt.recipe import Recipe
from nmt.recipe_file import write_recipe
from nmt.training.profiling import PHASES, Clock, profile

Make = Callable[..., Recipe]


def test_a_phase_is_told_without_what_others_take_within_it() -> None:
    clock = Clock(torch.device("cpu"))
    clock.restart()
    began = time.perf_counter()
    with clock.phase("outer"):
        time.sleep(0.02)
        with clock.phase("inner"):
            time.sleep(0.06)
        time.sleep(0.02)
    time.sleep(0.02)
    spent = clock.spent()
    assert set(spent) == {"outer", "inner", "other"}
    took = time.perf_counter() - began
    assert spent["inner"].seconds >= 0.06
    assert spent["outer"].seconds >= 0.04
    assert spent["other"].seconds >= 0.02
    assert sum(phase.seconds for phase in spent.values()) < took + 0.01
    assert spent["inner"].cpu_seconds < 0.02
    assert spent["inner"].device_seconds is None


@pytest.mark.parametrize(
    "overrides",
    [(), ("model.decoder.input_feeding=true", "train.accumulate=2"), ("train.ema=0.9", "train.precision=fp32")],
    ids=["plain", "feeding", "average"],
)
def test_the_phases_make_up_the_time_and_only_the_profile_is_left(
    tmp_path: Path, small_recipe: Make, overrides: tuple[str, ...]
) -> None:
    # Large enough that what is in no phase, which has one size in all models, is a small part.
    sizes = "model.encoder.hidden_size=64", "model.decoder.hidden_size=128", "train.batch_tokens=1200"
    began = time.perf_counter()
    made = profile(small_recipe(*sizes, *overrides), 6, tmp_path / "profile")
    took = time.perf_counter() - began
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["profile.json", "trace.json"]
    written = json.loads((tmp_path / "profile" / "profile.json").read_text())
    phases = {name: spent["seconds"] for name, spent in written["phases"].items()}
    assert set(phases) == {*PHASES, "other"}
    assert all(seconds > 0.0 for seconds in phases.values())
    assert sum(phases.values()) == pytest.approx(written["seconds"])
    assert written["seconds"] < took
    assert written["updates"] == 6
    assert 50 < written["peak_mebibytes"] < 100_000
    assert written["target_tokens"] == made.target_tokens > 0
    spent = {name: phase["cpu_seconds"] for name, phase in written["phases"].items()}
    assert spent["other"] < 0.3 * sum(spent.values())  # by the clock a busy machine may take any share
    events = json.loads((tmp_path / "profile" / "trace.json").read_text())["traceEvents"]
    assert {"decoder", "backward", "optimizer"} <= {event.get("name") for event in events}


def test_the_folder_of_a_run_takes_no_profile(tmp_path: Path, small_recipe: Make) -> None:
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(UserError, match="is the folder of a run; name another folder"):
        profile(small_recipe(), 3, tmp_path)


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path, small_recipe: Make) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(UserError, match=f"^{tmp_path / 'taken'}: can't be made .*; choose another folder$"):
        profile(small_recipe(), 3, tmp_path / "taken")


def test_the_command_prints_a_row_for_each_phase(
    tmp_path: Path, small_recipe: Make, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe.yml").write_text(write_recipe(small_recipe()), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["nmt-train", "recipe.yml", "train.accumulate=2", "--profile", "2"])
    assert main() == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row[:22].strip() for row in rows] == ["phase", *PHASES, "other", "an update"]
    assert not (tmp_path / "runs").exists()
    assert len(list((tmp_path / "profiles" / "copy").iterdir())) == 2
