"""Checkpoints on disk: folders that are whole or not there at all.

A checkpoint is written to a temporary folder, each file synced, then a manifest of sizes and SHA-256, then the folder
synced and renamed. What is read again is checked against the manifest first.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from nmt.errors import UserError

MANIFEST = "MANIFEST.json"
PREFIX = "update-"


def write(run: Path, name: str, files: Mapping[str, Callable[[Path], object]]) -> Path:
    """Write the checkpoint `name`: each of `files` by its own function, given the path to write to."""
    final = run / name
    temporary = run / f".{final.name}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    manifest = {}
    for file, write_file in files.items():
        path = temporary / file
        write_file(path)
        _sync(path)
        manifest[file] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    _write_synced(temporary / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    _sync(temporary)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _sync(run)
    return final


def name_of(update: int) -> str:
    """The folder's name for the checkpoint of an update."""
    return f"{PREFIX}{update:08d}"


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        _write_synced(temporary, text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text())
        for name, expected in manifest.items():
            path = checkpoint / name
            if path.stat().st_size != expected["bytes"] or _sha256(path) != expected["sha256"]:
                return f"{name} is damaged"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"can't be read ({error})"
    return None


def listed(run: Path) -> list[Path]:
    """The run's checkpoints, oldest first, damaged ones included."""
    return sorted(path for path in run.glob(f"{PREFIX}*") if path.is_dir())


def newest(run: Path, passed_over: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is whole; each damaged one before it is named to `passed_over`."""
    for checkpoint in reversed(listed(run)):
        reason = damage(checkpoint)
        if reason is None:
            return checkpoint
        passed_over(f"{checkpoint}: {reason}; taking the checkpoint before it")
    return None


def best(run: Path) -> Path:
    """The checkpoint that the file `best` names. Raises UserError where there is none or it is damaged."""
    try:
        name = (run / "best").read_text().strip()
    except OSError as error:
        raise UserError("no finished checkpoint here", "train first, or name another folder", place=str(run)) from error
    if Path(name).name != name or not name.startswith(PREFIX):
        raise UserError(f"names {name!r}, which is no checkpoint", "restore it", place=str(run / "best"))
    reason = damage(run / name)
    if reason:
        raise UserError(reason, "name another checkpoint folder", place=str(run / name))
    return run / name


def update_of(checkpoint: Path) -> int:
    """The update that a checkpoint was written at."""
    return int(checkpoint.name.removeprefix(PREFIX))


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint; its manifest first, so that a half-deleted one is seen as such."""
    (checkpoint / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
