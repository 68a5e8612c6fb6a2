"""What the sections of a recipe, and the options of components, are made of."""

from __future__ import annotations

from typing import Annotated

import pydantic
from pydantic import Field

Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Ratio = Annotated[float, Field(ge=0.0, le=1.0)]


STRICT = pydantic.ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)
"""Nothing unknown, nothing infinite, nothing changed later."""


class Section(pydantic.BaseModel):
    """A part of a recipe: strict, frozen."""

    model_config = STRICT | pydantic.ConfigDict(validate_default=True, use_attribute_docstrings=True)
