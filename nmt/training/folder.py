"""The folder of a run: one training at a time, and always the same recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nmt import checkpoints
from nmt.bounded import refuse_link
from nmt.errors import RunError, UserError
from nmt.recipe import Recipe
from nmt.recipe_file import as_data, read_recipe, write_recipe

RECIPE, LOCK = "recipe.yaml", ".lock"

HARMLESS = (
    "train.updates",
    "train.patience",
    "train.keep_best",
    "train.keep_last",
    "train.report_every",
    "train.spike",
    "train.threads",
    "train.device",
    "data.test",
    "search",
)
"""What a run that goes on may have otherwise, if the user says so: how long it goes on (a cosine schedule then ends
elsewhere), what is kept or shown, and where it is computed (sums are then rounded otherwise); not what is learnt."""


@contextmanager
def claimed(folder: Path, recipe: Recipe, accept: Sequence[str], say: Callable[[str], None]) -> Iterator[bool]:
    """The run folder, made if need be and held by this process alone; whether a run has begun in it.

    A run begins with `begin`, when all that can be wrong with its data has been found: until then a mended recipe may
    be tried again, and a folder that was made for nothing goes away. Raises UserError where another training holds the
    folder, or it was begun with another recipe; changes of the keys in `accept` are told to `say` instead.
    """
    _check_accepted(accept)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        refuse_link(folder / LOCK)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        problem = f"can't be written to ({error.strerror})"
        raise RunError(problem, "choose another with --out", place=str(folder)) from error
    with lock:
        _hold(lock, folder)
        try:
            path = folder / RECIPE
            if path.exists() and not path.is_file():  # a pipe would never answer
                raise UserError("is no file", "restore it, or choose --out", place=str(path))
            if path.exists():
                for change in _changes(path, read_recipe(path), recipe, accept):
                    say(f"{change}: accepted")
            elif checkpoints.listed(folder):  # of whatever recipe, and with whatever tokenizers
                raise UserError("has checkpoints but no recipe.yaml", "restore it, or choose --out", place=str(folder))
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


def _check_accepted(accept: Sequence[str]) -> None:
    for key in accept:
        if not _below(key, HARMLESS):
            problem = f"--accept {key}: a change of this key is not harmless"
            raise UserError(problem, f"harmless are {', '.join(HARMLESS)}; for others train into another folder")


def _changes(path: Path, old: Recipe, new: Recipe, accept: Sequence[str]) -> list[str]:
    """A line for each key in which the recipes differ. Raises UserError with them where not all are accepted."""
    before, now = _flat(as_data(old)), _flat(as_data(new))
    differing = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    lines = [f"{path}: {key} was {before.get(key)!r} and is now {now.get(key)!r}" for key in differing]
    if all(_below(key, accept) for key in differing):
        return lines
    if all(_below(key, HARMLESS) for key in differing):
        remedy = f"these changes are harmless: add --accept {','.join(differing)}"
        raise UserError("\n".join([*lines, f"{remedy}; or train into another folder with --out"]))
    raise UserError("\n".join([*lines, "this folder was begun with another recipe; train into another with --out"]))


def _below(key: str, names: Iterable[str]) -> bool:
    """Whether a key is one of `names` or below one."""
    return any(f"{key}.".startswith(f"{name}.") for name in names)


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return flat
