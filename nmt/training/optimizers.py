"""Optimisers of torch.optim by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from nmt import recipe
from nmt.errors import UserError

_CLASSES = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
}
_FUSED = ("sgd", "adam", "adamw", "adagrad")


def build_optimizer(settings: recipe.Optimizer, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """The optimiser that a recipe names, with torch's own options; one fused call an update where torch has one.

    Raises UserError for an option that torch's optimiser doesn't take, or a value that it refuses.
    """
    options: dict[str, Any] = dict(settings.options)
    if settings.type in _FUSED:
        options.setdefault("fused", True)
    try:
        optimizer: torch.optim.Optimizer = getattr(torch.optim, _CLASSES[settings.type])(
            parameters, lr=settings.learning_rate, **options
        )
    except (TypeError, ValueError) as error:
        raise UserError(
            f"train.optimizer.options: {error}",
            f"see the options of torch.optim.{_CLASSES[settings.type]}",
        ) from error
    return optimizer
