"""The sections of a recipe for what changes in the course of training: learning rate and teacher forcing."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from nmt.section import Natural, Positive, Ratio, Section


class ConstantSchedule(Section):
    """The learning rate stays, after a linear warm-up of `warmup` updates."""

    type: Literal["constant"] = "constant"
    warmup: Natural = 200


class InverseSqrtSchedule(Section):
    """Linear warm-up, then falling with the inverse square root of the update (Vaswani et al. 2017, eq. 3)."""

    type: Literal["inverse_sqrt"]
    warmup: Positive = 4000


class PlateauSchedule(Section):
    """Multiplied by `factor` when the best-checkpoint metric has not improved for `patience` validations."""

    type: Literal["plateau"]
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    patience: Natural = 2
    minimum: Annotated[float, Field(ge=0.0)] = 0.0
    warmup: Natural = 0


class HalvingSchedule(Section):
    """Halved every `every` updates, from update `start` on (Luong et al. 2015 halve every epoch late in training)."""

    type: Literal["halving"]
    every: Positive
    start: Natural = 0
    warmup: Natural = 0


class CosineSchedule(Section):
    """Half a cosine from the learning rate to `minimum` at the last update (Loshchilov and Hutter 2017)."""

    type: Literal["cosine"]
    warmup: Natural = 0
    minimum: Annotated[float, Field(ge=0.0)] = 0.0


Schedule = Annotated[
    ConstantSchedule | InverseSqrtSchedule | PlateauSchedule | HalvingSchedule | CosineSchedule,
    Field(discriminator="type"),
]


class TeacherForcing(Section):
    """The share of gold tokens among the decoder's inputs, decided for each token (Bengio et al. 2015).

    At update i: constant `start`; linear max(end, start - slope·i); exponential max(end, start·k^i), k < 1;
    inverse_sigmoid max(end, start·k / (k + exp(i/k))), k > 1.
    """

    type: Literal["constant", "linear", "exponential", "inverse_sigmoid"] = "constant"
    start: Ratio = 1.0
    end: Ratio = 0.0
    slope: Annotated[float, Field(ge=0.0)] = 1e-5
    k: Annotated[float, Field(gt=0.0)] = 0.9999

    @pydantic.model_validator(mode="before")
    @classmethod
    def _a_number_is_constant(cls, value: object) -> object:
        return {"start": value} if isinstance(value, int | float) else value

    @pydantic.model_validator(mode="after")
    def _k_fits(self) -> TeacherForcing:
        if self.type == "exponential" and self.k >= 1.0:
            raise ValueError("k must be below 1 for an exponential schedule")
        if self.type == "inverse_sigmoid" and self.k <= 1.0:
            raise ValueError("k must be above 1 for an inverse_sigmoid schedule")
        return self
