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
    _keep_the_compiler_away()
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


def take_step(optimizer: torch.optim.Optimizer) -> None:
    """As `optimizer.step()`, which would import torch's compiler (70 MiB and a second) only to have it look away."""
    with torch.set_grad_enabled(optimizer.defaults["differentiable"]):
        inspect.unwrap(type(optimizer).step)(optimizer)


def fresh_moments(settings: recipe.Optimizer, parameter: Tensor) -> dict[str, Any]:
    """What an optimiser remembers of a parameter like this one after an update that changed nothing."""
    twin = torch.zeros_like(parameter, requires_grad=True)
    twin.grad = torch.zeros_like(twin)
    optimizer = build_optimizer(settings, [twin])
    take_step(optimizer)
    return dict(optimizer.state[twin])


def _keep_the_compiler_away() -> None:
    """Let these run as they are: torch would import its compiler at their first call, to get what it must not compile.

    Nothing here compiles an optimiser, and where the compiler is at work already this changes nothing. It rests on how
    torch caches that (torch/_compile.py); were it cached elsewhere, the import would be back and nothing else.
    """
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        function = inspect.unwrap(getattr(torch.optim.Optimizer, name))
        vars(function).setdefault("__dynamo_disable", function)
