"""Where a training stands: all that a checkpoint must keep beside tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from nmt.recipe import Metric, Train

LESS_IS_BETTER: dict[Metric, bool] = {"loss": True, "perplexity": True, "bleu": False, "chrf": False}

Count = Annotated[int, Field(ge=0, le=2**53)]
"""What a float, too, holds to the last digit."""


@dataclass
class Sums:
    """What updates amount to that no report has told of yet."""

    tokens: Count = 0
    """Target tokens trained on."""
    negative_log_likelihood: float = 0.0
    gradient_norm: float = 0.0
    """Of the last update."""


@dataclass
class Course:
    """Counters of a training run, changed by the loop alone."""

    update: Count = 0
    epoch: Annotated[Count, Field(ge=1)] = 1
    step: Count = 0
    """Batches of this epoch that have been trained on."""
    tokens: Count = 0
    """Target tokens trained on."""
    seconds: float = 0.0
    """Time spent training, over all starts. In no checkpoint, so that those of the same training are the same bytes."""
    unreported: Sums = field(default_factory=Sums)
    faults: Count = 0
    """Updates passed over, one after the other, because of a NaN or Inf."""
    rollbacks: Count = 0
    """Returns to older weights since the best."""
    sound: Count = 0
    """The update of the newest validation, if its loss was a finite number; else 0."""
    usual_loss: float | None = None
    """Mean loss of a target token over the last updates, the newest counting most."""
    dropped: Count = 0
    """Training pairs left out because memory was not enough for one alone."""
    waited: Count = 0
    """Validations since the best."""
    best: list[tuple[float, Count]] = field(default_factory=list)
    """Cost (less is better) and update of the best checkpoints, the best first."""
    ended: str = ""
    """Why the training is over; empty while it isn't."""

    def state(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {name: value for name, value in asdict(self).items() if name != "seconds"}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, as JSON has held it. Raises ValueError where something in it can't be."""
        stored = _adapter().validate_python(state)
        for item in fields(self):
            if item.name in state:  # else it is newer than the state, and its default is right
                setattr(self, item.name, getattr(stored, item.name))

    def over(self, settings: Train) -> bool:
        """Whether nothing is left to do; notes why. Says no again when the settings give more updates or patience."""
        self.ended = ""
        if self.update >= settings.updates:
            self.ended = f"{settings.updates:,} updates done"
        elif settings.patience is not None and self.waited >= settings.patience:
            self.ended = f"no better {settings.best_metric} in {settings.patience} validations"
        return bool(self.ended)

    def validated(self, cost: float, keep: int) -> None:
        """Hear of a validation at this update: its cost, and how many of the best to remember."""
        better = not self.best or cost < self.best[0][0]
        self.waited = 0 if better else self.waited + 1
        self.rollbacks = 0 if better else self.rollbacks
        self.sound = self.update if math.isfinite(cost) else 0
        self.best = sorted([*self.best, (cost, self.update)])[:keep]

    def good(self) -> list[int]:
        """Updates whose checkpoints training can go back to, the first choice first.

        The newest that was validated; the second time without a new best in between, when that one may be where it goes
        wrong, the best. A checkpoint written on a signal is none of them: a stop must not change what comes of a run.
        """
        newest = [self.sound] if self.sound and not self.rollbacks else []
        best = [update for cost, update in self.best[:1] if math.isfinite(cost)]
        return list(dict.fromkeys(newest + best))


@cache
def _adapter() -> TypeAdapter[Course]:
    return TypeAdapter(Course)


def cost_of(metric: Metric, value: float) -> float:
    """A metric turned so that less is better."""
    return value if LESS_IS_BETTER[metric] else -value
