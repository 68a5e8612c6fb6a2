"""What of a recurrence outlives a batch: what captures and compiled steps are made of and kept by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from nmt.cells.state import State
from nmt.cells.stepping import Step

if TYPE_CHECKING:
    from nmt.cells.cell import Cell


@dataclass(frozen=True)
class Lasting:
    """A recurrence apart from the batch that it runs over."""

    module: nn.Module
    """What is there for many batches; its parameters are all that steps read besides what they are given."""
    given: State
    """What all steps read of this batch, a row for each sentence: ``[B, ...]``."""
    steps: Callable[[State], Step]
    """The step over whatever is given, of these shapes and types; equal to the recurrence's own over `given`."""
    example: Callable[[int], Cell]
    """The same recurrence over a batch of so many rows that was made up, for a trial."""
