"""Optimisers of torch.optim by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from nmt import recipe
from nmt.errors import UserError, did_you_mean

_CLASSES = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
}
_FUSED = ("sgd", "adam", "adamw", "adagrad")


def check_options(settings: recipe.Optimizer) -> None:
    """Raise UserError for an option that torch's optimiser doesn't have. Quick: making the first one takes a second."""
    optimizer = getattr(torch.optim, _CLASSES[settings.type])
    known = set(inspect.signature(optimizer).parameters) - {"params", "lr"}
    for option in settings.options:
        if option not in known:
            problem = f"train.optimizer.options.{option}: torch.optim.{optimizer.__name__} has no such option"
            raise UserError(problem, did_you_mean(option, known))


def build_optimizer(settings: recipe.Optimizer, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """The optimiser that a recipe names, with torch's own options; one fused call an update where torch has one.

    Raises UserError for an option that torch's optimiser doesn't take, or a value that it refuses.
    """
    check_options(settings)
    options: dict[str, Any] = dict(settings.options)
    if settings.type in _FUSED:
        options.setdefault("fused", True)
    try:
        optimizer: torch.optim.Optimizer = getattr(torch.optim, _CLASSES[settings.type])(
            parameters, lr=settings.learning_rate, **options
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"train.optimizer.options: {error}", "change the option") from error
    return optimizer


def fresh_moments(settings: recipe.Optimizer, parameter: Tensor) -> dict[str, Any]:
    """What an optimiser remembers of a parameter like this one after an update that changed nothing."""
    twin = torch.zeros_like(parameter, requires_grad=True)
    twin.grad = torch.zeros_like(twin)
    optimizer = build_optimizer(settings, [twin])
    optimizer.step()
    return dict(optimizer.state[twin])
