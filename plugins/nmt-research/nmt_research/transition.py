"""Deep transition around any cell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, cast

from pydantic import Field
from torch import Tensor, nn

from nmt.cells.cell import Cell
from nmt.cells.state import Noise, State
from nmt.errors import UserError
from nmt.options import CellChoice, Choice
from nmt.registry import CELL


class TransitionCell(Cell):
    """Several cells within one step (Pascanu et al. 2014; for translation Miceli Barone et al. 2017).

    (y_1, s_1) = cell_1(x, s)
    (y_k, s_k) = cell_k(1, s_(k-1)), k = 2 … depth
    y = y_depth, s' = s_depth

    The first cell reads the input, the others nothing but the state: what they have for an input is a constant 1, so
    their W x is one more bias. Unlike layers they share one state, and the path between two positions is `depth` times
    as long. `cell`: any cell, with its options, whose state has the same shapes for every size of input; `depth`: how
    many. With `depth: 1` it is that cell.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        cell: CellChoice = Choice("gru"),
        depth: Annotated[int, Field(gt=0)] = 2,
    ) -> None:
        sizes = [input_size, *[1] * (depth - 1)]
        cells: list[Cell] = [cell.build(CELL, size, hidden_size) for size in sizes]
        if any(inner.state_shapes != cells[0].state_shapes for inner in cells):
            raise UserError(
                f"a transition of {cell.name} can't pass its state on, whose shape depends on the input's size",
                "use another cell, or depth: 1",
            )
        super().__init__(input_size, hidden_size, state_shapes=cells[0].state_shapes)
        self.cells = nn.ModuleList(cells)

    def project(self, xs: Tensor) -> Tensor:
        """The first cell's."""
        return next(self._cells()).project(xs)

    def input_layer(self) -> nn.Linear | None:
        """The first cell's."""
        return next(self._cells()).input_layer()

    def noise(self, rows: int, steps: int) -> Noise:
        """Each cell's own."""
        return tuple(cell.noise(rows, steps) for cell in self._cells())

    def initial_state(self, batch_size: int) -> State:
        """The first cell's."""
        return next(self._cells()).initial_state(batch_size)

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """The first cell's projection ``[B, G]`` and the state -> the last cell's output and state."""
        masks = iter(cast(tuple[Noise, ...], noise))  # in the cells' order; spent at once when decoding
        first, *others = self._cells()
        output, state = first.step(projected, state, next(masks, ()))
        for cell in others:
            one = cell.project(output.new_ones(1, 1)).expand(len(output), -1)
            output, state = cell.step(one, state, next(masks, ()))
        return output, state

    def _cells(self) -> Iterator[Cell]:
        return (cast(Cell, cell) for cell in self.cells)
