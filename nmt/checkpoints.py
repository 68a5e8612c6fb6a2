"""Checkpoints on disk: folders that are whole or not there at all.

A checkpoint is written to a hidden folder, each file synced, then a manifest of sizes and SHA-256, then the folder
synced, renamed, and its parent synced. What is read again is checked against the manifest first. A reader holds the
checkpoint (`reading`), and what is held is not deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from nmt import __version__
from nmt.bounded import read_bounded, require_file
from nmt.errors import RunError, UserError, visible
from nmt.locks import locked

MANIFEST = "MANIFEST.json"
MAX_MANIFEST = 1_000_000
"""Bytes; no more are read of a manifest, nor of the file that names the best."""
PREFIX = "update-"
BEST = "best"

FORMAT = 2
"""Of a checkpoint; goes up when this version could not go on from an older one's files. The first had no number."""


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
        _write_synced(partial / MANIFEST, _manifest(name, {file: _entry(partial / file) for file in files}).encode())
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


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None. Raises UserError where it is whole but of another format."""
    try:
        text = read_bounded(checkpoint / MANIFEST, MAX_MANIFEST).decode()
        manifest = json.loads(text)
        _refuse_first_format(checkpoint, manifest)
        if text != _sealed({key: value for key, value in manifest.items() if key != "sha256"}):
            return f"{MANIFEST} is damaged"
        _refuse_other_formats(checkpoint, manifest)
        if checkpoint.name.startswith(PREFIX) and checkpoint.name != manifest["name"]:
            return f"is {manifest['name']} under another name"
        for name, expected in manifest["files"].items():
            if Path(name).name != name:
                return f"{MANIFEST} names {name!r}, which is no file of the checkpoint"
            # The size first: a hostile file may be too large to be read.
            if (checkpoint / name).stat().st_size != expected["bytes"] or _entry(checkpoint / name) != expected:
                return f"{name} is damaged"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        return f"can't be read ({error})"
    return None


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
        name = read_bounded(run / BEST, MAX_MANIFEST).decode().strip()
    except (OSError, ValueError) as error:
        raise UserError("no finished checkpoint here", "train first, or name another folder", place=str(run)) from error
    if not _is_name(name):
        raise UserError(f"names {name!r}, which is no checkpoint", "restore it", place=str(run / BEST))
    return run / name


@contextmanager
def reading(checkpoint: Path) -> Iterator[Path]:
    """A checkpoint to read from: whole, and not deleted by training as long as it is read.

    Raises UserError where it is damaged or of another format.
    """
    with ExitStack() as held:
        try:
            found = _held(checkpoint, held)
        except OSError as error:
            reason: str | None = f"{MANIFEST} can't be read ({(error.strerror or str(error)).lower()})"
        else:
            reason = damage(found)
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
def reading_best(run: Path) -> Iterator[Path]:
    """The best checkpoint of a run, as `reading`."""
    chosen = best(run)
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(reading(chosen))
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


def _manifest(name: str, files: Mapping[str, Mapping[str, int | str]]) -> str:
    return _sealed({"format": FORMAT, "written_by": f"nmt {__version__}", "name": name, "files": files})


def _sealed(manifest: Mapping[str, Any]) -> str:
    """A manifest as text, with the SHA-256 of all the rest: of it, too, no byte can change unseen."""
    seal = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    return json.dumps({**manifest, "sha256": seal}, indent=1, sort_keys=True) + "\n"


def _refuse_first_format(checkpoint: Path, manifest: Mapping[str, Any]) -> None:
    """The first format was the files alone."""
    if manifest and all(isinstance(entry, dict) and entry.keys() == {"bytes", "sha256"} for entry in manifest.values()):
        _refuse_other_formats(checkpoint, {"format": 1, "written_by": "an older nmt"})


def _refuse_other_formats(checkpoint: Path, manifest: Mapping[str, Any]) -> None:
    form, writer = manifest["format"], visible(str(manifest["written_by"]))
    if form == FORMAT:
        return
    remedy = f"go on with {writer}, or train anew into another folder" if form < FORMAT else f"install {writer}"
    problem = f"written by {writer} in checkpoint format {form}, nmt {__version__} reads format {FORMAT}"
    raise UserError(problem, remedy, place=str(checkpoint))


def _entry(path: Path) -> dict[str, int | str]:
    """Size and hash of a file, as the manifest has them."""
    require_file(path)
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


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
