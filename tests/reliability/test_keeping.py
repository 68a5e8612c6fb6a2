"""Which checkpoints stay: never is the best, the newest or the one being read deleted."""

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from contents import contents
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from nmt import checkpoints
from nmt.errors import UserError
from nmt.manifest import MANIFEST, damage
from nmt.recipe_file import read_recipe
from nmt.training.checkpoint import settle
from nmt.training.course import Course

Amount = Callable[[int, int], int]
Promise = Callable[[str, str], None]
COPY = Path(__file__).parents[2] / "recipes" / "copy.yaml"
KEEPING = read_recipe(COPY, ["train.validate_every=3", "train.keep_best=2", "train.keep_last=2"]).train
PICK = st.integers(0, 20)


def save(run: Path, course: Course) -> Path:
    files = {
        "state.json": lambda path: path.write_text(json.dumps(course.state())),
        "weights": lambda path: path.write_text(str(course.update) * 99),
    }
    return checkpoints.write(run, checkpoints.name_of(course.update), files)


class Keeping(RuleBasedStateMachine):
    """A training saves, validates, is stopped, killed and started again, while others read and things break."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.run = Path(tempfile.mkdtemp())
        self.course = Course()
        self.readers: list[tuple[ExitStack, Path, dict[str, object]]] = []
        self.broken: set[Path] = set()

    def teardown(self) -> None:
        for reader, _, _ in self.readers:
            reader.close()
        shutil.rmtree(self.run)

    def held(self) -> set[Path]:
        return {path for _, path, _ in self.readers}

    def settled(self) -> None:
        """`settle`, and that it deletes what it should and nothing else."""
        before = checkpoints.listed(self.run)
        settle(self.run, self.course, KEEPING)
        after = set(checkpoints.listed(self.run))
        behind = [path for path in before if checkpoints.update_of(path) <= self.course.update]
        validated = [path for path in behind if checkpoints.update_of(path) % 3 == 0]
        best = {self.run / checkpoints.name_of(update) for _, update in self.course.best}
        must_stay = {*behind[-1:], *validated[-2:], *best} & set(before) | self.held()
        assert must_stay <= after
        if self.course.best:
            allowed = must_stay | {path for path in before if checkpoints.update_of(path) > self.course.update}
            assert after <= allowed
            assert checkpoints.best(self.run) in after
        assert not list(self.run.glob(".update-*"))

    def pick(self, index: int) -> Path | None:
        found = checkpoints.listed(self.run)
        return found[index % len(found)] if found else None

    @rule(cost=st.integers(0, 9))
    def validate(self, cost: int) -> None:
        self.course.update += 3 - self.course.update % 3
        self.course.validated(float(cost), KEEPING.keep_best)
        self.broken.discard(save(self.run, self.course))
        self.settled()

    @precondition(lambda self: self.course.update % 3 != 2)
    @rule()
    def stop(self) -> None:
        self.course.update += 1
        self.broken.discard(save(self.run, self.course))

    @rule()
    def kill_a_save(self) -> None:
        self.course.update += 1
        partial = self.run / f".{checkpoints.name_of(self.course.update)}.partial"
        partial.mkdir(exist_ok=True)
        (partial / "weights").write_text("half")
        self.start()

    @rule()
    def start(self) -> None:
        told: list[str] = []
        newest = checkpoints.newest(self.run, told.append)
        sound = [path for path in checkpoints.listed(self.run) if path not in self.broken]
        assert newest == (sound[-1] if sound else None)
        self.course = Course()
        if newest is not None:
            self.course.load_state(json.loads((newest / "state.json").read_text()))
        self.settled()
        assert newest is None or newest.exists()

    @rule(index=PICK)
    def read(self, index: int) -> None:
        chosen, reader = self.pick(index), ExitStack()
        if chosen in self.broken:
            with pytest.raises(UserError):
                reader.enter_context(checkpoints.reading(chosen))
        elif chosen is not None:
            reader.enter_context(checkpoints.reading(chosen))
            self.readers.append((reader, chosen, contents(chosen)))

    @precondition(lambda self: (self.run / checkpoints.BEST).exists())
    @rule()
    def read_the_best(self) -> None:
        named, reader = checkpoints.best(self.run), ExitStack()
        if named not in self.broken:
            chosen = reader.enter_context(checkpoints.reading_best(self.run))
            assert chosen == named
            self.readers.append((reader, chosen, contents(chosen)))

    @precondition(lambda self: self.readers)
    @rule(index=PICK)
    def end_reading(self, index: int) -> None:
        self.readers.pop(index % len(self.readers))[0].close()

    @rule(index=PICK, harm=st.sampled_from(["flip", "cut", "lose", "manifest", "swap"]))
    def harm(self, index: int, harm: str) -> None:
        chosen = self.pick(index)
        if chosen is None or chosen in self.held() | self.broken:
            return
        weights = chosen / "weights"
        match harm:
            case "flip":
                weights.write_bytes(b"?" + weights.read_bytes()[1:])
            case "cut":
                weights.write_bytes(weights.read_bytes()[:-1])
            case "lose":
                weights.unlink()
            case "manifest":
                (chosen / MANIFEST).unlink()
            case _:
                weights.write_bytes((chosen / "state.json").read_bytes())
        self.broken.add(chosen)

    @invariant()
    def what_is_read_stays_as_it_is(self) -> None:
        Keeping.steps += 1
        for _, path, content in self.readers:
            assert contents(path) == content

    @invariant()
    def damage_is_known(self) -> None:
        for path in checkpoints.listed(self.run):
            assert (damage(path) is not None) == (path in self.broken)


def test_the_best_the_newest_and_those_being_read_are_never_deleted(
    amount: Amount, promise: Promise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # takes time, and changes nothing without a power cut
    Keeping.steps = 0
    examples = amount(25, 300)
    checks = settings(
        max_examples=examples,
        stateful_step_count=amount(25, 60),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Keeping, settings=checks)
    promise("keeping: random saves, stops, starts, readers and damage", f"{Keeping.steps} steps of {examples} runs")


def kept(run: Path) -> list[int]:
    return [checkpoints.update_of(path) for path in checkpoints.listed(run)]


@pytest.mark.parametrize(("ended", "expected"), [("7 updates done", [6, 7]), ("", [3, 6, 7])])
def test_the_last_validation_counts_among_the_newest_and_a_stop_does_not(
    tmp_path: Path, ended: str, expected: list[int]
) -> None:
    for update in (3, 6, 7):
        save(tmp_path, Course(update=update))
    settle(tmp_path, Course(update=7, best=[(0.0, 6), (0.5, 7 if ended else 6)], ended=ended), KEEPING)
    assert kept(tmp_path) == expected


def test_damaged_checkpoints_ahead_displace_none_behind(tmp_path: Path) -> None:
    for update in (3, 6, 9, 12):
        save(tmp_path, Course(update=update))
    settle(tmp_path, Course(update=6, best=[(0.0, 6)]), KEEPING)
    assert kept(tmp_path) == [3, 6, 9, 12]


def test_a_best_that_has_been_deleted_is_not_named(tmp_path: Path) -> None:
    for update in (6, 9):
        save(tmp_path, Course(update=update))
    settle(tmp_path, Course(update=9, best=[(0.0, 3), (1.0, 6)]), KEEPING)
    assert checkpoints.best(tmp_path).name == checkpoints.name_of(6)
    settle(tmp_path, Course(update=9, best=[(0.0, 3)]), KEEPING)
    assert checkpoints.best(tmp_path).name == checkpoints.name_of(9)


def test_a_checkpoint_is_deleted_only_once_nobody_reads_it(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, Course(update=3))
    with checkpoints.reading(checkpoint), checkpoints.reading(checkpoint):
        assert not checkpoints.remove(checkpoint)
        assert damage(checkpoint) is None
    assert checkpoints.remove(checkpoint)
    assert list(tmp_path.iterdir()) == []


def test_a_best_that_is_deleted_before_it_is_held_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = save(tmp_path, Course(update=3)), save(tmp_path, Course(update=6))
    named = [old, new]
    checkpoints.remove(old)
    monkeypatch.setattr(checkpoints, "best", lambda run: named.pop(0))
    with checkpoints.reading_best(tmp_path) as found:
        assert found == new
    named = [old, old]
    with pytest.raises(UserError, match=r"MANIFEST\.json can't be read"), checkpoints.reading_best(tmp_path):
        pass


def test_readers_beside_a_training_always_find_a_whole_best(tmp_path: Path, amount: Amount, promise: Promise) -> None:
    course, wrong, reads, over = Course(update=3), [], 0, threading.Event()

    def validate(cost: float) -> None:
        course.validated(cost, KEEPING.keep_best)
        save(tmp_path, course)
        settle(tmp_path, course, KEEPING)
        course.update += 3

    def read() -> None:
        nonlocal reads
        while not over.is_set():
            try:
                with checkpoints.reading_best(tmp_path) as found:
                    weights = (found / "weights").read_text()
                    if weights != str(checkpoints.update_of(found)) * 99:
                        wrong.append(weights)
            except UserError as error:
                wrong.append(str(error))
            reads += 1

    validate(0.0)
    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for update in range(amount(30, 1000)):
        validate(-float(update))
    over.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    promise("reads of the best beside a training that saves and deletes", f"{reads}, each whole")
