"""What a training checkpoint holds, and going on from one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nmt import checkpoints, recipe
from nmt.errors import UserError
from nmt.model.weights import load_weights, named_weights, save_weights
from nmt.training.course import Course
from nmt.training.schedules import LearningRate
from nmt.training.updater import Updater


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
            "model.safetensors": lambda path: save_weights(updater.final_weights(), path),
            "training.safetensors": lambda path: save_weights(_training_tensors(updater), path),
            "state.json": lambda path: path.write_text(json.dumps(state, indent=1) + "\n"),
        },
    )


def load(checkpoint: Path, updater: Updater, course: Course, learning_rate: LearningRate) -> None:
    """Go on from a checkpoint. Raises UserError where it was written for another model."""
    state = json.loads((checkpoint / "state.json").read_text())
    load_learnt(checkpoint, updater)
    course.load_state(state["course"])
    learning_rate.load_state(state["learning_rate"])


def load_learnt(checkpoint: Path, updater: Updater) -> None:
    """Take weights, average, the optimiser's moments and the loss scale from a checkpoint; not where the run stands."""
    load_weights(updater.final_weights(), checkpoint / "model.safetensors")
    _load_training_tensors(updater, checkpoint / "training.safetensors")
    updater.scaler.load_state_dict(json.loads((checkpoint / "state.json").read_text())["scaler"])


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


def _load_training_tensors(updater: Updater, path: Path) -> None:
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"damaged ({error})", "delete this checkpoint to go on from an older one", place=str(path)
        ) from error
    weights = named_weights(updater.model)
    moments: dict[Tensor, dict[str, Any]] = {}
    with torch.no_grad():
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "weights":
                weights[rest].copy_(tensor)
                continue
            key, _, parameter_name = rest.partition(".")
            parameter = weights[parameter_name]
            # Counters (0-d) stay on the CPU unless a fused kernel wants them beside the parameter.
            moments.setdefault(parameter, {})[key] = tensor.to(parameter.device)
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
    if not named.exists() or named.read_text() != best:
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
        load(checkpoint, updater, course, learning_rate)
    settle(run, course, settings)
    return checkpoint is not None
