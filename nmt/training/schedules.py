"""How the learning rate and the share of gold tokens change with the updates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, assert_never

from nmt.recipe_schedules import (
    ConstantSchedule,
    CosineSchedule,
    HalvingSchedule,
    InverseSqrtSchedule,
    PlateauSchedule,
    Schedule,
    TeacherForcing,
)
from nmt.section import Natural, Ratio, Section


class _Plateau(Section):
    """What a checkpoint keeps of a learning rate."""

    best: float | None
    waited: Natural
    reduced: Ratio


class LearningRate:
    """The learning rate at each update, and what of it depends on validations (the plateau schedule alone)."""

    def __init__(self, peak: float, schedule: Schedule, updates: int) -> None:
        self._peak = peak
        self._schedule = schedule
        self._updates = updates
        self._best = math.inf
        self._waited = 0
        self._reduced = 1.0

    def at(self, update: int) -> float:
        """The learning rate of the given update; the first is 1."""
        schedule = self._schedule
        if update < schedule.warmup:
            return self._peak * update / schedule.warmup
        match schedule:
            case ConstantSchedule():
                return self._peak
            case InverseSqrtSchedule():
                return self._peak * math.sqrt(schedule.warmup / update)
            case PlateauSchedule():
                return max(schedule.minimum, self._peak * self._reduced)
            case HalvingSchedule():
                return self._peak * 0.5 ** (max(0, update - schedule.start) // schedule.every)
            case CosineSchedule():
                done = (update - schedule.warmup) / max(1, self._updates - schedule.warmup)
                wave = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
                return schedule.minimum + (self._peak - schedule.minimum) * wave
            case _:
                assert_never(schedule)

    def validated(self, cost: float) -> None:
        """Hear of a validation; `cost` is the best-checkpoint metric, turned so that less is better."""
        if not isinstance(self._schedule, PlateauSchedule):
            return
        if cost < self._best:
            self._best, self._waited = cost, 0
            return
        self._waited += 1
        if self._waited > self._schedule.patience:
            self._reduced *= self._schedule.factor
            self._waited = 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        best = None if math.isinf(self._best) else self._best
        return {"best": best, "waited": self._waited, "reduced": self._reduced}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint. Raises ValueError where something in `state` can't be."""
        stored = _Plateau.model_validate(state)
        self._best = math.inf if stored.best is None else stored.best
        self._waited, self._reduced = stored.waited, stored.reduced


def gold_share(settings: TeacherForcing, update: int) -> float:
    """The share of gold tokens among the decoder's inputs at an update (Bengio et al. 2015, section 2.4)."""
    start, k = settings.start, settings.k
    match settings.type:
        case "constant":
            return start
        case "linear":
            return max(settings.end, start - settings.slope * update)
        case "exponential":
            return max(settings.end, start * k**update)
        case "inverse_sigmoid":
            # Beyond exp(700) a float overflows; the share has long been nothing by then.
            return max(settings.end, start * k / (k + math.exp(min(700.0, update / k))))
        case _:
            assert_never(settings.type)
