"""What a training checkpoint holds, and going on from one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydantic
from torch import Tensor

from nmt import checkpoints, recipe
from nmt.bounded import read_bounded
from nmt.errors import UserError, reason_of
from nmt.model.weights import load_weights, named_weights, save_weights, stored_shapes
from nmt.training.course import Course
from nmt.training.optimizers import fresh_moments
from nmt.training.schedules import LearningRate
from nmt.training.updater import Updater

MAX_STATE = 1_000_000
"""Bytes of state.json; no more are read."""


def save(run: Path, updater: Updater, course: Course, learning_rate: LearningRate) -> Path:
    """Write a checkpoint of this moment: weights to translate with, and all that training needs to go on."""
    state = {
        "course": course.state(),
        "learning_rate": learning_rate.state(),
        "scaler": updater.scaler.state_dict(),
    }
    return checkpoints.write(
        run,
        checkpoints.name_of(course.update),
        {
            checkpoints.MODEL: lambda path: save_weights(updater.final_weights(), path),
            "training.safetensors": lambda path: save_weights(_training_tensors(updater), path),
            "state.json": lambda path: path.write_text(json.dumps(state, indent=1) + "\n"),
        },
    )


def load(
    checkpoint: Path, updater: Updater, course: Course, learning_rate: LearningRate, settings: recipe.Train
) -> None:
    """Go on from a checkpoint. Raises UserError where it was written for another model, or can't have been written."""
    with _state(checkpoint) as state:
        course.load_state(state["course"])
        if checkpoints.name_of(course.update) != checkpoint.name:
            raise ValueError(f"is of update {course.update}")
        learning_rate.load_state(state["learning_rate"])
    load_learnt(checkpoint, updater, settings)


def load_learnt(checkpoint: Path, updater: Updater, settings: recipe.Train) -> None:
    """Take weights, average, the optimiser's moments and the loss scale from a checkpoint; not where the run stands."""
    with _state(checkpoint) as state:
        scale = _loss_scale(updater.scaler.state_dict(), state["scaler"])
    load_weights(updater.final_weights(), checkpoint / checkpoints.MODEL)
    _load_training_tensors(updater, settings, checkpoint / "training.safetensors")
    updater.scaler.load_state_dict(scale)


@contextmanager
def _state(checkpoint: Path) -> Iterator[Any]:
    """A checkpoint's state.json; what is found to be wrong with it, while it lasts, becomes a UserError."""
    path = checkpoint / "state.json"
    try:
        yield json.loads(read_bounded(path, MAX_STATE))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise _damaged(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", path) from error
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(reason_of(error), path) from error
    except (KeyError, TypeError) as error:
        raise _damaged(f"something is missing: {reason_of(error)}", path) from error


def _damaged(reason: str, path: Path) -> UserError:
    return UserError(
        f"damaged or unreadable ({reason})", "delete this checkpoint to go on from an older one", place=str(path)
    )


def _loss_scale(own: dict[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a loss scaler: its own, with the scale and the age of that as they were stored."""
    if not own:  # loss is scaled for fp16 alone
        return own
    scale, age = float(stored["scale"]), int(stored["_growth_tracker"])
    if not (0.0 < scale < math.inf and 0 <= age <= own["growth_interval"]):
        raise ValueError(f"the loss scale is {scale}, for {age} updates")
    return own | {"scale": scale, "_growth_tracker": age}


def _training_tensors(updater: Updater) -> dict[str, Tensor]:
    """The optimiser's moments by parameter name and, with a moving average, the weights it is the average of."""
    names = {id(parameter): name for name, parameter in named_weights(updater.model).items()}
    tensors: dict[str, Tensor] = {}
    for parameter, moments in updater.optimizer.state.items():
        for key, value in moments.items():
            if isinstance(value, Tensor):  # SGD without momentum keeps None
                tensors[f"optimizer.{key}.{names[id(parameter)]}"] = value
    if updater.average is not None:
        tensors |= {f"weights.{name}": tensor for name, tensor in named_weights(updater.model).items()}
    return tensors


def _load_training_tensors(updater: Updater, settings: recipe.Train, path: Path) -> None:
    """Fill moments as the optimiser itself would make them, so that what is stored must be of the same shapes."""
    there = stored_shapes(path)
    names = {name.split(".", 2)[2] for name in there if name.startswith("optimizer.") and name.count(".") > 1}
    weights = named_weights(updater.model)
    filled = {} if updater.average is None else {f"weights.{name}": tensor for name, tensor in weights.items()}
    moments: dict[Tensor, dict[str, Any]] = {}
    for name in [name for name in weights if name in names]:  # those that have not been updated yet have none
        moments[weights[name]] = fresh_moments(settings.optimizer, weights[name])
        for key, value in moments[weights[name]].items():
            if isinstance(value, Tensor):
                filled[f"optimizer.{key}.{name}"] = value
    load_weights(filled, path)
    updater.optimizer.state.clear()
    updater.optimizer.state.update(moments)


def settle(run: Path, course: Course, settings: recipe.Train) -> None:
    """Name the best checkpoint, and delete those that are neither among the best nor among the newest.

    What follows every save of a validation. A start does it once more, for it may have been killed in between.
    """
    if course.best:
        _name_best(run, course)
        _prune(run, course, settings)
    checkpoints.sweep(run)


def _name_best(run: Path, course: Course) -> None:
    """Where newer checkpoints were damaged, an older one may remember a best that had been deleted for a better."""
    there = [update for _, update in course.best if (run / checkpoints.name_of(update)).exists()]
    named, best = run / checkpoints.BEST, f"{checkpoints.name_of([*there, course.update][0])}\n"
    try:
        named_before = read_bounded(named, len(best))
    except OSError:
        named_before = b""
    if named_before != best.encode():
        checkpoints.write_text(named, best)


def _prune(run: Path, course: Course, settings: recipe.Train) -> None:
    """A checkpoint that a stop has left between validations doesn't count, and goes once training is behind it.

    So what is kept in the end doesn't depend on stops. One that is being read stays until the next time, and those of
    later updates, passed over for their damage, until training comes there.
    """
    found = {checkpoints.update_of(path): path for path in checkpoints.listed(run)}
    behind = [update for update in found if update <= course.update]
    last = course.update if course.ended else 0  # validated, too
    validated = [update for update in behind if update % settings.validate_every == 0 or update == last]
    keep = {course.update, *validated[-settings.keep_last :], *(update for _, update in course.best)}
    for update in behind:
        if update not in keep:
            checkpoints.remove(found[update])


def resume(
    run: Path,
    updater: Updater,
    course: Course,
    learning_rate: LearningRate,
    settings: recipe.Train,
    say: Callable[[str], None],
) -> bool:
    """Go on from the newest checkpoint of `run` that is whole, if there is one; each damaged one is named to `say`."""
    checkpoint = checkpoints.newest(run, say)
    if checkpoint is not None:
        load(checkpoint, updater, course, learning_rate, settings)
    settle(run, course, settings)
    return checkpoint is not None
