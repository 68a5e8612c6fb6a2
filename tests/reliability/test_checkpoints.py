"""Checkpoints: whole or not there, whatever happens while they are written, and never taken when damaged."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from contents import contents
from nursery import Nursery

from nmt import checkpoints, manifest
from nmt.errors import RunError, UserError
from nmt.manifest import MANIFEST, damage
from nmt.recipe import Recipe
from nmt.recipe_file import write_recipe
from nmt.training.run import train
from nmt.translator import Translator

Amount = Callable[[int, int], int]
Make = Callable[..., Recipe]
Promise = Callable[[str, str], None]
HERE = Path(__file__).parent
MINIATURE, CONTENTS = HERE / "miniature.py", HERE / "contents.py"


def files(text: str) -> dict[str, Callable[[Path], object]]:
    return {"a": lambda path: path.write_text(f"a {text}"), "b": lambda path: path.write_text(f"b {text}")}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run is that `trained` copies."""
    return tmp_path_factory.mktemp("once") / "run"


@pytest.fixture
def trained(tmp_path: Path, small_recipe: Make, once: Path) -> Path:
    """A run with three checkpoints."""
    if not once.exists():
        train(small_recipe("train.keep_last=3"), out=once)
    return shutil.copytree(once, tmp_path / "run")


def test_a_kill_before_any_file_event_of_saves_loses_no_save_and_tears_nothing(
    tmp_path: Path, amount: Amount, promise: Promise
) -> None:
    kills = 0
    for keep in (2, 1, 3)[: amount(1, 3)]:
        (tmp_path / str(keep)).mkdir()
        command = [sys.executable, MINIATURE, "kill", tmp_path / str(keep), str(keep)]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        report = json.loads(found.stdout)
        assert report["wrong"] == []
        assert report["kills"] >= 2 * 40
        kills += report["kills"]
    promise("kills before every file event of saves, half of them with unsynced data cut", f"{kills}, no save lost")


def test_a_kill_before_any_file_event_of_averaging_anew_leaves_an_average(tmp_path: Path, promise: Promise) -> None:
    command = [sys.executable, MINIATURE, "kill", tmp_path, "0"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(found.stdout)
    assert report["wrong"] == []
    assert report["kills"] >= 2 * 20
    promise("kills before every file event of writing an average over another", f"{report['kills']}, always one there")


def test_who_waits_for_a_checkpoint_that_is_replaced_reads_the_new_one(tmp_path: Path) -> None:
    wrong, over = [], threading.Event()

    def read() -> None:
        while not over.is_set():
            try:
                with checkpoints.reading(tmp_path / "average") as found:
                    if len({(found / name).read_text()[2:] for name in ("a", "b")}) > 1:
                        wrong.append("of two writes")
            except UserError as error:
                wrong.append(str(error))

    checkpoints.write(tmp_path, "average", files("0"))
    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 40):
        checkpoints.write(tmp_path, "average", files(str(number)))
    over.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert [path.name for path in tmp_path.iterdir()] == ["average"]


def chaos(work: Path, command: list[str], points: int, started: str, modes: str, left_out: str = "") -> int:
    """Have ckpt-chaos kill a training command at this many file events; how many there were.

    What it ends with must be what a run that was left alone ends with, but for the file that is `left_out`.
    """
    tool = [sys.executable, "-m", "ckpt_chaos", "run", "--work", work, "--max-points", str(points), "--modes", modes]
    tool += ["--step-regex", started, "--checkpoint-glob", "{out}/update-*", "--jobs", "2"]
    tool += ["--result-cmd", f"{sys.executable} {CONTENTS} {{out}} {left_out}"]
    tool += ["--fail-on", "HARD_FAIL,SILENT_DIVERGENCE,LOST_WORK,CONTROL_FAIL"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*tool, "--", *command], capture_output=True, text=True, env=environment, cwd=work.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    results = [json.loads(path.read_text()) for path in work.glob("pt_*/result.json")]
    assert sum(result["crashed"] for result in results) == len(results) - 1, "all but the control must have been killed"
    return len(results) - 1


def test_ckpt_chaos_finds_nothing_in_saves(tmp_path: Path, amount: Amount, promise: Promise) -> None:
    command = [sys.executable, str(MINIATURE), "train", "{out}", "9"]
    started = r"going on from update (\d+)"
    points = chaos(tmp_path / "work", command, amount(9, 1000), started, "before,torn,unsynced")
    promise("ckpt-chaos on saves alone (before, torn, unsynced)", f"{points} points, all PASS")


def test_ckpt_chaos_finds_nothing_in_nmt_train(
    tmp_path: Path, small_recipe: Make, amount: Amount, promise: Promise
) -> None:
    if amount(0, 1) == 0:
        pytest.skip("takes minutes: make soak runs it")
    options = ("train.updates=6", "train.validate_every=3", "train.report_every=3", "train.keep_last=9")
    (tmp_path / "recipe.yaml").write_text(write_recipe(small_recipe(*options, "train.threads=1")))
    code = "import sys; from nmt.commands.train import main; sys.exit(main())"
    command = [sys.executable, "-c", code, str(tmp_path / "recipe.yaml"), "--out", "{out}"]
    started = r"(?:going on from update |training is over \()(\d+)"
    points = chaos(tmp_path / "before", command, 1000, started, "before")
    promise("ckpt-chaos on nmt-train (before)", f"{points} points, all PASS")
    # It cuts what is appended to in half, lines that were synced long ago included, as no kill and no lost cache can.
    points = chaos(tmp_path / "torn", command, 1000, started, "torn", left_out="metrics.jsonl")
    promise("ckpt-chaos on nmt-train (torn), metrics.jsonl left out", f"{points} points, all PASS")


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def overwrite(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    start = draw.randrange(len(content))
    content[start : start + 64] = draw.randbytes(len(content[start : start + 64]))
    path.write_bytes(content)


def cut(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def lengthen(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.randint(1, 100)))


def lose(path: Path, draw: random.Random) -> None:
    path.unlink()


def swap(path: Path, draw: random.Random) -> None:
    """With a file of this or of an older checkpoint."""
    others = [other for folder in (path.parent, path.parents[1] / checkpoints.name_of(4)) for other in folder.iterdir()]
    content = path.read_bytes()
    other = draw.choice(others)
    path.write_bytes(other.read_bytes())
    if other.parent == path.parent:
        other.write_bytes(content)


def replace_all(path: Path, draw: random.Random) -> None:
    """The whole checkpoint by an older one."""
    shutil.rmtree(path.parent)
    shutil.copytree(path.parents[1] / checkpoints.name_of(4), path.parent)


def test_any_damage_is_noticed_told_in_a_line_and_the_newest_whole_checkpoint_taken(
    trained: Path, tmp_path: Path, amount: Amount, promise: Promise
) -> None:
    sound = tmp_path / "sound"
    shutil.copytree(trained, sound)
    draw, harms = random.Random(amount(1, 2)), [flip, flip, flip, overwrite, cut, lengthen, lose, swap, replace_all]
    tried = 0
    while tried < amount(100, 1000):
        harmed = draw.choice(([12], [8], [12, 8]))
        for update in harmed:
            folder = trained / checkpoints.name_of(update)
            draw.choice(harms)(draw.choice(sorted(folder.iterdir())), draw)
        if all(contents(trained / folder.name) != contents(folder) for folder in harmed_in(sound, harmed)):
            told: list[str] = []
            newest = checkpoints.newest(trained, told.append)
            assert checkpoints.update_of(newest) == {(12,): 8, (8,): 12, (12, 8): 4}[tuple(harmed)]
            assert len(told) == (len(harmed) if 12 in harmed else 0)
            assert all("\n" not in line for line in told)
            for folder in harmed_in(trained, harmed):
                with pytest.raises(UserError) as caught, checkpoints.reading(folder):
                    pass
                assert "\n" not in str(caught.value)
            tried += 1
        for folder in harmed_in(trained, harmed):
            shutil.rmtree(folder)
            shutil.copytree(sound / folder.name, folder)
    promise("checkpoints flipped, overwritten, cut, lengthened, without a file, swapped", f"{tried}, all noticed")


def test_who_reads_the_model_alone_hears_of_its_damage_and_of_files_that_are_gone(trained: Path) -> None:
    newest = checkpoints.listed(trained)[-1]
    other, draw = newest / "training.safetensors", random.Random(1)
    flip(other, draw)
    with checkpoints.reading(newest, checkpoints.MODEL) as found:
        assert found == newest
    with pytest.raises(UserError, match=r"training\.safetensors is damaged"), checkpoints.reading(newest):
        pass
    lengthen(other, draw)
    with pytest.raises(UserError, match=r"training\.safetensors is damaged"):
        Translator.load(newest)
    other.unlink()
    with pytest.raises(UserError, match=r"training\.safetensors is missing"):
        Translator.load(newest)
    flip(newest / checkpoints.MODEL, draw)
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        Translator.load(newest)


def harmed_in(run: Path, updates: list[int]) -> list[Path]:
    return [run / checkpoints.name_of(update) for update in updates]


def test_where_every_checkpoint_is_damaged_training_begins_anew_and_says_so(
    trained: Path, tmp_path: Path, small_recipe: Make, capsys: pytest.CaptureFixture
) -> None:
    expected = contents(trained)
    for checkpoint in checkpoints.listed(trained):
        (checkpoint / "model.safetensors").write_bytes(b"")
    train(small_recipe("train.keep_last=3"), out=trained)
    errors = capsys.readouterr().err
    assert errors.count("taking the checkpoint before it") == 2
    assert "update-00000004: model.safetensors is damaged; beginning anew" in errors
    assert contents(trained) == expected


def test_what_a_kill_behind_the_last_save_left_undone_is_done_by_the_next_start(
    trained: Path, small_recipe: Make
) -> None:
    expected = contents(trained)
    shutil.copytree(trained / checkpoints.name_of(12), trained / f".{checkpoints.name_of(8)}.removed")
    (trained / f".{checkpoints.name_of(12)}.partial").mkdir()
    checkpoints.write(trained, checkpoints.name_of(2), files("of a stop"))
    (trained / checkpoints.BEST).write_text(f"{checkpoints.name_of(4)}\n")
    train(small_recipe("train.keep_last=3"), out=trained)
    assert contents(trained) == expected


def test_checkpoints_without_their_recipe_are_not_gone_on_from(trained: Path, small_recipe: Make) -> None:
    (trained / "recipe.yaml").unlink()
    before = contents(trained)
    with pytest.raises(UserError, match=r"has checkpoints but no recipe\.yaml; restore it, or choose --out"):
        train(small_recipe("train.keep_last=3"), out=trained)
    assert contents(trained) == before


def first_format(checkpoint: Path) -> None:
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    (checkpoint / MANIFEST).write_text(json.dumps(manifest["files"], indent=1))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1, "by an older nmt in checkpoint format 1, nmt {} reads format 2; go on with an older nmt, or train anew"),
        (3, "by nmt 9.9.9 in checkpoint format 3, nmt {} reads format 2; install nmt 9.9.9"),
    ],
)
def test_a_checkpoint_of_another_format_says_so_and_how_to_go_on_and_is_left_alone(
    trained: Path, small_recipe: Make, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    newest = checkpoints.listed(trained)[-1]
    if number == 1:
        first_format(newest)
    else:
        with monkeypatch.context() as future:
            future.setattr(manifest, "FORMAT", number)
            future.setattr(manifest, "__version__", "9.9.9")
            sources = {path.name: path.read_bytes() for path in newest.iterdir() if path.name != MANIFEST}
            writers = {name: lambda path, c=content: path.write_bytes(c) for name, content in sources.items()}
            checkpoints.write(trained, newest.name, writers)
    before = contents(trained)
    for use in (lambda: train(small_recipe("train.keep_last=3"), out=trained), lambda: Translator.load(newest)):
        with pytest.raises(UserError) as caught:
            use()
        assert words.format(manifest.__version__) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert contents(trained) == before


def test_a_folder_that_is_only_named_like_a_checkpoint_is_none(trained: Path) -> None:
    newest = checkpoints.listed(trained)[-1]
    shutil.copytree(newest, trained / f"{newest.name}.backup")
    shutil.copytree(newest, trained / "update-old")
    assert [checkpoints.update_of(path) for path in checkpoints.listed(trained)] == [4, 8, 12]


def test_a_save_that_fails_leaves_nothing_and_the_checkpoints_before_it(tmp_path: Path) -> None:
    checkpoints.write(tmp_path, checkpoints.name_of(1), files("1"))
    before = contents(tmp_path)

    def fill(path: Path) -> None:
        path.symlink_to("/dev/full")
        path.write_text("too much")

    with pytest.raises(RunError, match=r"update-00000002: the checkpoint can't be written \(no space left") as caught:
        checkpoints.write(tmp_path, checkpoints.name_of(2), {**files("2"), "c": fill})
    assert caught.value.exit_code == 1
    assert contents(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [checkpoints.name_of(1)]
    checkpoints.write(tmp_path, checkpoints.name_of(2), files("2"))
    assert checkpoints.update_of(checkpoints.newest(tmp_path, print)) == 2


def place(folder: Path, recipe: Recipe) -> None:
    folder.mkdir()
    (folder / "recipe.yaml").write_text(write_recipe(recipe))


def test_a_full_disk_is_one_line_the_last_checkpoint_loads_and_with_room_the_run_goes_on(
    nursery: Nursery, tmp_path: Path, small_recipe: Make, amount: Amount, promise: Promise
) -> None:
    recipe = small_recipe("train.keep_last=9", "train.threads=1")
    place(tmp_path / "whole", recipe)
    assert nursery.run(tmp_path / "whole").code == 0
    expected = contents(tmp_path / "whole" / "run")
    needed = sum(path.stat().st_blocks // 2 for path in (tmp_path / "whole" / "run").rglob("*"))
    draw, disks = random.Random(3), amount(1, 20)
    for disk in range(disks):
        folder = tmp_path / str(disk)
        place(folder, recipe)
        (folder / "run").mkdir()
        reason = nursery.disk(folder / "run", int(needed * draw.uniform(0.2, 0.8)))
        if reason:
            pytest.skip(f"no small disk can be made here ({reason})")
        ended = nursery.run(folder)
        assert ended.code == 1
        lines = ended.errors.splitlines()
        assert [line for line in lines if "no space left" in line.lower()] == lines[-1:], ended.errors
        assert "Traceback" not in ended.errors
        nursery.copy(folder / "run", folder / "full")
        assert not list((folder / "full").glob(".update*"))
        assert all(damage(path) is None for path in checkpoints.listed(folder / "full"))
        if (folder / "full" / checkpoints.BEST).exists():
            assert Translator.load(folder / "full").translate(["1 2"])
        assert nursery.disk(folder / "run", 10_000) == ""
        assert nursery.run(folder).code == 0
        nursery.copy(folder / "run", folder / "room")
        assert contents(folder / "room") == expected
    promise("full disks (tmpfs of 20 to 80 % of a run)", f"{disks}, each one line; with room, byte-identical")


def test_a_read_only_folder_is_one_line_and_the_last_checkpoint_loads(
    nursery: Nursery, tmp_path: Path, small_recipe: Make
) -> None:
    folder = tmp_path / "bound"
    place(folder, small_recipe("train.updates=100000", "train.threads=1"))
    child = nursery.start(folder, bound=True)
    while not (folder / "run" / "best").exists():
        time.sleep(0.01)
    (folder / "run").chmod(0o555)
    ended = child.wait()
    again = nursery.run(folder, bound=True)
    (folder / "run").chmod(0o755)
    assert ended.code == again.code == 1
    assert "can't be written (permission denied); the ones before it are as they were" in ended.errors.splitlines()[-1]
    assert "permission denied" in again.errors.splitlines()[-1].lower()
    assert "Traceback" not in ended.errors + again.errors
    assert Translator.load(folder / "run").translate(["1 2"])


def test_the_second_of_two_trainings_in_one_folder_refuses(
    nursery: Nursery, tmp_path: Path, small_recipe: Make
) -> None:
    folder = tmp_path / "shared"
    place(folder, small_recipe("train.updates=100000", "train.threads=1"))
    first = nursery.start(folder)
    while not (folder / "run" / "best").exists():
        time.sleep(0.01)
    second = tmp_path / "second"
    shutil.copytree(folder, second, ignore=shutil.ignore_patterns("run"))
    (second / "run").symlink_to(folder / "run")
    refused = nursery.run(second)
    first.send(signal.SIGTERM, after=0.0)
    assert first.wait().code == 143
    assert refused.code == 2
    assert "another training is running in this folder; wait for it, or choose --out" in refused.errors
    assert len(refused.errors.splitlines()) == 1
