"""A training without torch, so that it starts at once: it saves checkpoints, names the best, deletes the oldest.

miniature.py train FOLDER KEEP    trains, or goes on
miniature.py kill FOLDER KEEP     kills it before every file event, and prints what it found
miniature.py kill FOLDER 0        the same for a folder `average` that is written again and again
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from contents import contents

from nmt import checkpoints
from nmt.errors import UserError
from nmt.manifest import damage

UPDATES = 3
AVERAGE = "average"
KILLED = 9
WRITES = os.O_WRONLY | os.O_RDWR


def train(run: Path, keep: int, saved: Callable[[int], object], say: Callable[[str], object]) -> None:
    """Save at each update; tell `saved` of each save that is done."""
    run.mkdir(exist_ok=True)
    newest = checkpoints.newest(run, say)
    update = checkpoints.update_of(newest) if newest else 0
    weights = (newest / "weights").read_bytes() if newest else b"start"
    say(f"going on from update {update}")
    settle(run, update, keep)
    while update < UPDATES:
        update += 1
        weights = hashlib.sha256(weights).digest() * 100
        state = json.dumps({"update": update})
        files = {
            "weights": lambda path, w=weights: path.write_bytes(w),
            "state.json": lambda path, s=state: path.write_text(s),
        }
        checkpoints.write(run, checkpoints.name_of(update), files)
        saved(update)
        settle(run, update, keep)


def renew(run: Path, keep: int, saved: Callable[[int], object], say: Callable[[str], object]) -> None:
    """Write one folder at each update, in the place of the one before."""
    run.mkdir(exist_ok=True)
    for update in range(1, UPDATES + 1):
        files = {"weights": lambda path, u=update: path.write_text(str(u) * 100)}
        checkpoints.write(run, AVERAGE, files)
        saved(update)


def ignore(news: object) -> None:
    """Nobody needs to know."""


def settle(run: Path, update: int, keep: int) -> None:
    if update:
        checkpoints.write_text(run / checkpoints.BEST, f"{checkpoints.name_of(update)}\n")
        for old in checkpoints.listed(run)[:-keep]:
            checkpoints.remove(old)
    checkpoints.sweep(run)


class Fate:
    """Ends this process before its `number`-th file event, and all that was written and not synced is cut in half.

    File events are making, opening to write, syncing, renaming and deleting. Nothing is truly synced, which would take
    time; a machine that loses power loses what this loses.
    """

    def __init__(self, number: int, cut: bool) -> None:
        self._left = number
        self._cut = cut
        self._unsynced: set[int] = set()
        self._run = Path()

    def await_it(self, run: Path) -> None:
        self._run = run
        os.fsync = self._synced
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & WRITES and isinstance(path, str | os.PathLike) and self._run in Path(path).parents:
                self._count()
                self._unsynced.add(_made(path))
        elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            self._count()

    def _synced(self, descriptor: int) -> None:
        self._count()
        self._unsynced.discard(os.fstat(descriptor).st_ino)

    def _count(self) -> None:
        self._left -= 1
        if self._left:
            return
        if self._cut:
            for path in self._run.rglob("*"):
                if path.is_file() and path.stat().st_ino in self._unsynced:
                    os.truncate(path, path.stat().st_size // 2)
        os._exit(KILLED)


def _made(path: str | os.PathLike) -> int:
    """The file's number, making it first: it is told of before it is opened."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def kill_everywhere(folder: Path, keep: int) -> dict[str, object]:
    """Kill a training before every file event, with and without cutting; see what is there, and go on."""
    os.fsync = ignore
    work, found = (train, _found) if keep else (renew, _average_found)
    work(folder / "whole", keep, ignore, ignore)
    expected, kills, wrong = contents(folder / "whole"), 0, []
    number, ended = 0, 0
    while ended < 2 and len(wrong) < 20:
        number, ended = number + 1, 0
        for cut in (False, True):
            run = folder / "killed"
            done, code = _killed(work, run, keep, Fate(number, cut))
            if code == 0:
                ended += 1
            elif code != KILLED:
                wrong.append(f"{number}: exit code {code}")
            else:
                kills += 1
                wrong += [f"{number}, cut {cut}: {problem}" for problem in found(run, done)]
                work(run, keep, ignore, ignore)
                if contents(run) != expected:
                    wrong.append(f"{number}, cut {cut}: {sorted(contents(run))} in the end")
            shutil.rmtree(run)
    return {"kills": kills, "wrong": wrong}


def _found(run: Path, done: int) -> list[str]:
    """What is wrong with a folder in which a training was killed after `done` saves."""
    problems = [f"{path.name}: {damage(path)}" for path in checkpoints.listed(run) if damage(path)]
    newest = checkpoints.newest(run, ignore)
    if (checkpoints.update_of(newest) if newest else 0) < done:
        problems.append(f"{newest} is the newest after {done} saves")
    if (run / checkpoints.BEST).exists():
        try:
            with checkpoints.reading_best(run):
                pass
        except UserError as error:
            problems.append(str(error))
    return problems


def _average_found(run: Path, done: int) -> list[str]:
    """What is wrong with a folder in which `renew` was killed after it had written so many."""
    if not done:
        return []
    try:
        with checkpoints.reading(run / AVERAGE) as average:
            weights = (average / "weights").read_text()
    except UserError as error:
        return [str(error)]
    return [] if weights in (str(done) * 100, str(done + 1) * 100) else [f"{weights} after {done}"]


def _killed(work: Callable[..., None], run: Path, keep: int, fate: Fate) -> tuple[int, int]:
    """The update of the last save that was done, and the exit code."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            fate.await_it(run)
            work(run, keep, lambda update: os.write(writer, bytes([update])), ignore)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    done = max(os.read(reader, 100), default=0)
    while more := os.read(reader, 100):
        done = max(more)
    os.close(reader)
    return done, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    task, folder, keep = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if task == "train":
        train(folder, keep, ignore, print)
    else:
        report = kill_everywhere(folder, keep)
        print(json.dumps(report))
