"""Updates whose numbers are read only after many of them: as if each had been read before the next.

Meant for a GPU, which then never waits; tried here by telling a processor to do the same.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from test_faults import FAULTY, Make, Trouble, infinite_gradient, nan, one_update, stop_and, trouble
from test_training import files_of, records

from nmt.recipe import Optimizer
from nmt.text.batches import Batch
from nmt.training import loop, run, updater
from nmt.training.optimizers import build_optimizer
from nmt.training.run import train
from nmt.training.stopping import StoppedError
from nmt.training.updater import Submitted, Updater

__all__ = ["trouble"]
Ahead = Callable[[bool], None]
FAULTS = {3: nan, 10: infinite_gradient, 11: nan, 12: infinite_gradient, 14: nan}
SETTINGS = (
    "model.encoder.dropout=0.2",
    "model.decoder.dropout=0.2",
    "train.ema=0.9",
    "train.spike=1.05",
    "train.schedule={type: plateau, patience: 0}",
    "train.updates=24",
    "train.validate_every=8",
    "train.report_every=12",
)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch, trouble: Trouble) -> Ahead:
    """Whether updates are read late. Trouble then goes by the update, which may be made twice, not by the batch."""

    def choose(late: bool) -> None:
        def make(*arguments: object) -> Updater:
            made = Updater(*arguments)
            made.ahead = late
            submit = made.submit

            def numbered(batches: Sequence[Batch], number: int, rate: float, seed: int) -> Submitted:
                trouble.batches = number - 1
                return submit(batches, number, rate, seed)

            monkeypatch.setattr(made, "submit", numbered)
            return made

        monkeypatch.setattr(run, "Updater", make)

    return choose


@pytest.mark.parametrize("most", [1, 3, 50])
def test_reading_late_changes_no_byte_and_no_record(
    tmp_path: Path, small_recipe: Make, trouble: Trouble, ahead: Ahead, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    recipe, trouble.at = small_recipe(FAULTY, *SETTINGS), FAULTS
    monkeypatch.setattr(loop, "AHEAD", most)
    for late in (False, True):
        ahead(late)
        train(recipe, out=tmp_path / str(late))
    assert [record["update"] for record in records(tmp_path / "False", "rollback")] == [12]
    assert files_of(tmp_path / "True") == files_of(tmp_path / "False")
    for event in ("fault", "rollback", "spike"):
        assert records(tmp_path / "True", event) == records(tmp_path / "False", event)


@pytest.mark.parametrize("stop", [10, 13, 15])
def test_a_run_that_reads_late_ends_with_the_same_bytes_when_it_was_stopped_in_between(
    tmp_path: Path, small_recipe: Make, trouble: Trouble, ahead: Ahead, stop: int
) -> None:
    recipe, trouble.at = small_recipe(FAULTY, *SETTINGS), FAULTS
    ahead(True)
    train(recipe, out=tmp_path / "whole")
    trouble.at = {**FAULTS, stop: stop_and(FAULTS.get(stop, lambda contexts: contexts))}
    with pytest.raises(StoppedError):
        train(recipe, out=tmp_path / "stopped")
    trouble.at = FAULTS
    train(recipe, out=tmp_path / "stopped")
    assert files_of(tmp_path / "stopped") == files_of(tmp_path / "whole")


def test_nothing_is_read_between_reports(
    tmp_path: Path, small_recipe: Make, ahead: Ahead, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = updater.read
    monkeypatch.setattr(
        updater, "read", lambda submitted, phase: reads.append(len(submitted)) or read(submitted, phase)
    )
    ahead(True)
    train(small_recipe("train.updates=20", "train.report_every=5", "train.validate_every=8"), out=tmp_path)
    assert reads == [5, 3, 2, 5, 1, 4]


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("change", [nan, infinite_gradient])
def test_a_fault_that_the_device_finds_moves_nothing(
    small_recipe: Make, trouble: Trouble, change: Callable[[torch.Tensor], torch.Tensor], optimizer: str
) -> None:
    settings = ("train.ema=0.9", f"train.optimizer={{type: {optimizer}, learning_rate: 0.01}}")
    made, batches = one_update(small_recipe(FAULTY, *settings), trouble)
    made.ahead = True

    def learnt() -> list[torch.Tensor]:
        moments = [value for state in made.optimizer.state.values() for value in state.values()]
        return [tensor.detach().clone() for tensor in (*made.model.parameters(), *made.average.values(), *moments)]

    made.submit(batches[:1], 1, 0.01, 1)
    before = learnt()
    trouble.at = {3: change}
    faulty = made.submit(batches[1:3], 2, 0.01, 2)
    assert all(map(torch.equal, learnt(), before))
    sound = made.submit(batches[1:3], 3, 0.01, 3)
    assert not all(map(torch.equal, learnt(), before))
    assert [(done.applied, done.fault) for done in made.read([faulty, sound])] == [(False, True), (True, False)]


def test_the_device_decides_only_where_a_step_left_out_is_as_if_it_had_not_been() -> None:
    weight = [torch.ones(2, requires_grad=True)]
    able = {
        name: updater.decides_on_device(build_optimizer(Optimizer(type=name), weight))
        for name in ("adam", "adamw", "sgd", "rmsprop", "adagrad", "adadelta")
    }
    assert able == {"adam": True, "adamw": True, "sgd": False, "rmsprop": False, "adagrad": False, "adadelta": False}
    unfused = Optimizer(type="adam", options={"fused": False})
    assert not updater.decides_on_device(build_optimizer(unfused, weight))
