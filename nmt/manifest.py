"""What a checkpoint's manifest says of its files: sizes and SHA-256, of itself too, and the format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nmt import __version__
from nmt.bounded import read_bounded, require_file
from nmt.errors import UserError, visible

MANIFEST = "MANIFEST.json"
MAX_MANIFEST = 1_000_000
"""Bytes; no more are read of a manifest."""
PREFIX = "update-"
"""Of the names of checkpoints that training writes; others may be given any name."""

FORMAT = 2
"""Of a checkpoint; goes up when this version could not go on from an older one's files. The first had no number."""


def manifest_of(folder: Path, name: str, files: Iterable[str]) -> str:
    """The manifest of the checkpoint `name`, whose `files` are in `folder` now."""
    entries = {file: _entry(folder / file) for file in files}
    return sealed({"format": FORMAT, "written_by": f"nmt {__version__}", "name": name, "files": entries})


def damage(checkpoint: Path, only: str | None = None) -> str | None:
    """What is wrong with a checkpoint, or None; with `only`, of what is in the other files no more than their size is
    looked at. Raises UserError where it is whole but of another format.
    """
    try:
        text = read_bounded(checkpoint / MANIFEST, MAX_MANIFEST).decode()
        manifest = json.loads(text)
        _refuse_first_format(checkpoint, manifest)
        if text != sealed({key: value for key, value in manifest.items() if key != "sha256"}):
            return f"{MANIFEST} is damaged"
        _refuse_other_formats(checkpoint, manifest)
        if checkpoint.name.startswith(PREFIX) and checkpoint.name != manifest["name"]:
            return f"is {manifest['name']} under another name"
        if only is not None and only not in manifest["files"]:
            return f"{MANIFEST} lacks {only}"
        for name, expected in manifest["files"].items():
            if Path(name).name != name:
                return f"{MANIFEST} names {name!r}, which is no file of the checkpoint"
            require_file(checkpoint / name)
            # The size first: a hostile file may be too large to be read.
            if (checkpoint / name).stat().st_size != expected["bytes"]:
                return f"{name} is damaged"
            if only in (None, name) and _entry(checkpoint / name) != expected:
                return f"{name} is damaged"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        return f"can't be read ({error})"
    return None


def sealed(manifest: Mapping[str, Any]) -> str:
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
