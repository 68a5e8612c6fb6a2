"""nmt: sequence-to-sequence translation in which the recurrent cell is a plugin.

The public names are here and nothing else; torch is imported when one of them is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmt.cells.cell import Cell
    from nmt.cells.state import State
    from nmt.errors import UserError
    from nmt.recipe import Recipe
    from nmt.registry import register
    from nmt.training.run import train
    from nmt.translator import Translator

__version__ = "0.1.0"

_HOMES = {
    "Cell": "nmt.cells.cell",
    "Recipe": "nmt.recipe",
    "State": "nmt.cells.state",
    "Translator": "nmt.translator",
    "UserError": "nmt.errors",
    "register": "nmt.registry",
    "train": "nmt.training.run",
}

__all__ = ["Cell", "Recipe", "State", "Translator", "UserError", "register", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nmt' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
