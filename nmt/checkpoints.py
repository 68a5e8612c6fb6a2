"""Checkpoints on disk: folders that are whole or not there at all.

A checkpoint is written to a hidden folder, each file synced, then a manifest of sizes and SHA-256, then the folder
synced, renamed, and its parent synced. What is read again is checked against the manifest first. A reader holds the
checkpoint (`reading`), and what is held is not deleted.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from nmt.bounded import read_bounded, require_file
from nmt.errors import RunError, UserError
from nmt.locks import locked
from nmt.manifest import MANIFEST, PREFIX, damage, manifest_of

BEST = "best"
"""The file of a run that names its best checkpoint."""
MAX_BEST = 1000
"""Bytes; no more are read of it."""
MODEL = "model.safetensors"
"""The file of a checkpoint that holds the weights alone."""


def write(run: Path, name: str, files: Mapping[str, Callable[[Path], object]]) -> Path:
    """Write the checkpoint `name`: each of `files` by its own function, given the path to write to.

    A checkpoint that had the name is deleted once the new one has taken its place and nobody reads the old one any
    more: whatever this is killed at, `reading` finds one of them. Raises RunError where the disk is full or can't be
    written; then nothing is left of the new one, and all others are as they were.
    """
    final = run / name
    partial = _hidden(final, "partial")
    try:
        _recover(final)
        _delete(partial)
        partial.mkdir(parents=True)
        for file, write_file in files.items():
            write_file(partial / file)
            _sync(partial / file)
        _write_synced(partial / MANIFEST, manifest_of(partial, name, files).encode())
        _sync(partial)
        _replace(final, partial)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            problem = f"the checkpoint can't be written ({(error.strerror or str(error)).lower()})"
            raise RunError(problem, "the ones before it are as they were", place=str(final)) from error
        raise
    return final


def name_of(update: int) -> str:
    """The folder's name for the checkpoint of an update."""
    return f"{PREFIX}{update:08d}"


def update_of(checkpoint: Path) -> int:
    """The update that a checkpoint was written at."""
    return int(checkpoint.name.removeprefix(PREFIX))


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all."""
    temporary = _hidden(path, "partial")
    try:
        temporary.unlink(missing_ok=True)  # never through a link that somebody has put there
        _write_synced(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def listed(run: Path) -> list[Path]:
    """The run's checkpoints, oldest first, damaged ones included."""
    return sorted((path for path in run.glob(f"{PREFIX}*") if _is_name(path.name) and path.is_dir()), key=update_of)


def newest(run: Path, passed_over: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is whole; each damaged one before it is named to `passed_over`.

    Raises UserError where it is of another format.
    """
    found = listed(run)
    for checkpoint in reversed(found):
        reason = damage(checkpoint)
        if reason is None:
            return checkpoint
        then = "beginning anew" if checkpoint == found[0] else "taking the checkpoint before it"
        passed_over(f"{checkpoint}: {reason}; {then}")
    return None


def best(run: Path) -> Path:
    """The checkpoint that the file `best` names. Raises UserError where there is none."""
    try:
        name = read_bounded(run / BEST, MAX_BEST).decode().strip()
    except (OSError, ValueError) as error:
        raise UserError("no finished checkpoint here", "train first, or name another folder", place=str(run)) from error
    if not _is_name(name):
        raise UserError(f"names {name!r}, which is no checkpoint", "restore it", place=str(run / BEST))
    return run / name


@contextmanager
def reading(checkpoint: Path, only: str | None = None) -> Iterator[Path]:
    """A checkpoint to read from: whole, and not deleted by training as long as it is read.

    Who reads but one of its files names it, `only`: of the others nothing but the size is checked then, for hashing
    them is a good part of the start of a command.
    Raises UserError where it is damaged or of another format.
    """
    with ExitStack() as held:
        try:
            found = _held(checkpoint, held)
        except OSError as error:
            reason: str | None = f"{MANIFEST} can't be read ({(error.strerror or str(error)).lower()})"
        else:
            reason = damage(found, only)
        if reason:
            raise UserError(reason, "name another checkpoint folder", place=str(checkpoint))
        yield found


def _held(checkpoint: Path, held: ExitStack) -> Path:
    """Where a checkpoint is to be read, once it is held."""
    try:
        return _held_now(checkpoint, held)
    except FileNotFoundError:  # it is gone, or a new one was just taking its place: not while the folder is held
        with locked(checkpoint.parent, shared=True, wait=True):
            return _held_now(checkpoint, held)


def _held_now(checkpoint: Path, held: ExitStack) -> Path:
    replaced = _hidden(checkpoint, "replaced")
    found = replaced if replaced.exists() and not checkpoint.exists() else checkpoint
    require_file(found / MANIFEST)
    held.enter_context(locked(found / MANIFEST, shared=True, wait=True))
    return found


@contextmanager
def reading_best(run: Path, only: str | None = None) -> Iterator[Path]:
    """The best checkpoint of a run, as `reading`."""
    chosen = best(run)
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(reading(chosen, only))
                break
            except UserError:
                before, chosen = chosen, best(run)
                if chosen == before:
                    raise
                # Between naming it and holding it, training has found a better one and deleted this.
        yield chosen


def remove(checkpoint: Path, *, wait: bool = False) -> bool:
    """Delete a checkpoint, at one stroke for who lists them; whether it was, and is not being read.

    With `wait` it is deleted once nobody reads it any more.
    """
    removed = _hidden(checkpoint, "removed")
    with ExitStack() as held:
        try:
            held.enter_context(locked(checkpoint / MANIFEST, shared=False, wait=wait))
        except BlockingIOError:
            return False
        except FileNotFoundError:
            pass  # without a manifest nobody reads it
        _delete(removed)
        checkpoint.rename(removed)
    _delete(removed)
    return True


def sweep(run: Path) -> None:
    """Delete what is left of checkpoints that a killed process was writing or deleting. For the one who writes here."""
    for kind in ("partial", "replaced", "removed"):
        for path in run.glob(f".{PREFIX}*.{kind}"):
            _delete(path)


def _is_name(name: str) -> bool:
    return re.fullmatch(f"{PREFIX}[0-9]+", name) is not None


def _hidden(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}")


def _replace(final: Path, partial: Path) -> None:
    """Give the new folder its name. One that had it gives way first, and stays readable until the new one is there."""
    replaced = _hidden(final, "replaced")
    with ExitStack() as held:
        held.enter_context(locked(final.parent, shared=False, wait=True))  # who finds neither waits, and looks again
        if final.exists():
            with suppress(FileNotFoundError):  # without a manifest nobody reads it
                held.enter_context(locked(final / MANIFEST, shared=False, wait=True))
            final.rename(replaced)
        partial.rename(final)
        _sync(final.parent)
        _delete(replaced)


def _recover(final: Path) -> None:
    """Undo what a killed `_replace` has begun, or end it."""
    replaced = _hidden(final, "replaced")
    if replaced.exists() and not final.exists():
        with locked(final.parent, shared=False, wait=True):
            replaced.rename(final)
    _delete(replaced)


def _delete(path: Path) -> None:
    """Delete a folder with all that is in it; of a link, which somebody else must have put there, the link alone."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
