"""The folder of a run: one training at a time, and always the same recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nmt import checkpoints
from nmt.errors import RunError, UserError
from nmt.recipe import Recipe
from nmt.recipe_file import as_data, read_recipe, write_recipe

RECIPE, LOCK = "recipe.yaml", ".lock"

CHANGEABLE = (
    "train.updates",
    "train.patience",
    "train.keep_best",
    "train.keep_last",
    "train.report_every",
    "train.threads",
    "train.device",
    "data.test",
    "search",
)
"""What a resumed run may have otherwise: how long it goes on and what is kept or shown, not what is computed."""


@contextmanager
def claimed(folder: Path, recipe: Recipe) -> Iterator[bool]:
    """The run folder, made if need be and held by this process alone; whether a run has begun in it.

    A run begins with `begin`, when all that can be wrong with its data has been found: until then a mended recipe may
    be tried again, and a folder that was made for nothing goes away. Raises UserError where another training holds the
    folder, or it was begun with another recipe.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a")
    except OSError as error:
        problem = f"can't be written to ({error.strerror})"
        raise RunError(problem, "choose another with --out", place=str(folder)) from error
    with lock:
        _hold(lock, folder)
        try:
            path = folder / RECIPE
            if path.exists():
                _compare(path, read_recipe(path), recipe)
            yield path.exists()
        finally:
            if [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                folder.rmdir()


def begin(folder: Path, recipe: Recipe) -> None:
    """Write the recipe into the folder: from now on it is the folder's recipe."""
    checkpoints.write_text(folder / RECIPE, write_recipe(recipe))


def _hold(lock: IO[str], folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # on Windows, where two trainings in one folder are not noticed
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        problem = "another training is running in this folder"
        raise UserError(problem, "wait for it, or choose --out", place=str(folder)) from error


def _compare(path: Path, old: Recipe, new: Recipe) -> None:
    """Raise UserError with a line for each key in which the recipes differ and must not."""
    before, now = _flat(as_data(old)), _flat(as_data(new))
    lines = [
        str(UserError(f"{key} was {before.get(key)!r} and is now {now.get(key)!r}", place=str(path)))
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not any(f"{key}.".startswith(f"{free}.") for free in CHANGEABLE)
    ]
    if lines:
        lines.append("this folder was begun with another recipe; train into another folder with --out")
        raise UserError("\n".join(lines))


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return flat
