"""Layers: cells run one way, both ways, and in stacks. A stack of layers is a layer, a stack of cells is a cell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.cells.branching import Branch, Branching
from nmt.cells.cell import Cell
from nmt.cells.dropout import drawn, dropped
from nmt.cells.engines import Unroll, at_last, cleared, reverse
from nmt.cells.packed import Reading
from nmt.cells.state import Noise, State
from nmt.products import Prepare, Recurrences


class Layer(nn.Module, ABC):
    """Something that reads a whole sentence: ``[B, T, I] -> [B, T, output_size]``."""

    def __init__(self, output_size: int) -> None:
        super().__init__()
        self.output_size = output_size

    @abstractmethod
    def forward(self, xs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, T, I]`` and lengths ``[B]`` -> outputs ``[B, T, D]``, zero after each length, and a summary ``[B, D]``:
        each direction's output where it has read everything."""


class OneWay(Layer):
    """A cell read from the first token to the last."""

    def __init__(self, cell: Cell, unroll: Unroll) -> None:
        super().__init__(cell.hidden_size)
        self.cell = cell
        self._unroll = unroll
        self._read: Reading | None = None

    def prepare(self, how: Recurrences) -> None:
        """Be made ready for translating; the weights won't change any more."""
        self._read = self.cell.reading(how)

    def forward(self, xs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `Layer.forward`."""
        if self._read is None:
            ys, _ = self._unroll(self.cell, xs, lengths, self.cell.initial_state(xs.shape[0]))
        else:
            ys = cleared(self._read(cleared(xs, lengths)), lengths)
        return ys, at_last(ys, lengths)


class BothWays(Layer):
    """One cell read forwards and another backwards, their outputs side by side (Schuster and Paliwal 1997)."""

    def __init__(self, forwards: Cell, backwards: Cell, unroll: Unroll) -> None:
        super().__init__(forwards.hidden_size + backwards.hidden_size)
        self.forwards = OneWay(forwards, unroll)
        self.backwards = OneWay(backwards, unroll)

    def forward(self, xs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `Layer.forward`."""
        ahead, ahead_summary = self.forwards(xs, lengths)
        back, back_summary = self.backwards(reverse(xs, lengths), lengths)
        ys = torch.cat([ahead, reverse(back, lengths)], -1)  # [B, T, 2H]
        return ys, torch.cat([ahead_summary, back_summary], -1)


class LayerStack(Layer):
    """Layers on top of each other, with dropout between them and, where sizes allow, residual connections."""

    def __init__(self, layers: Sequence[Layer], *, dropout: float, residual: bool) -> None:
        super().__init__(layers[-1].output_size)
        self.layers = nn.ModuleList(layers)
        self._dropout = dropout
        self._residual = residual

    def forward(self, xs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `Layer.forward`."""
        ys, summary = self.layers[0](xs, lengths)
        for layer in self.layers[1:]:
            below, below_summary = ys, summary
            ys, summary = layer(F.dropout(below, self._dropout, self.training), lengths)
            if self._residual:
                ys, summary = ys + below, summary + below_summary
        return ys, summary


class CellStack(Cell):
    """Cells on top of each other as one cell; its state is theirs, one after the other.

    Each cell runs along all steps before the next begins, so a stack is as fast as its cells. Dropout is applied
    between cells; with `residual`, each cell but the first adds its input to its output.
    """

    def __init__(self, cells: Sequence[Cell], unroll: Unroll, *, dropout: float, residual: bool) -> None:
        shapes = tuple(shape for cell in cells for shape in cell.state_shapes)
        super().__init__(cells[0].input_size, cells[-1].hidden_size, state_shapes=shapes)
        self.cells = nn.ModuleList(cells)
        self._unroll = unroll
        self._dropout = dropout
        self._residual = residual
        ends = [0, *accumulate(len(cell.state_shapes) for cell in cells)]
        self._parts = [slice(start, end) for start, end in pairwise(ends)]

    def initial_state(self, batch_size: int) -> State:
        """Each cell's own initial state."""
        return tuple(tensor for cell, _ in self._each() for tensor in cell.initial_state(batch_size))

    def noise(self, rows: int, steps: int) -> Noise:
        """For each cell its own, and which units of its input are dropped: none of the bottom one's."""
        device = next(self.parameters()).device

        def of(cell: Cell) -> Noise:
            dropout = self._dropout if self.training and cell is not self._bottom() else 0.0
            return cell.noise(rows, steps), drawn(rows, steps, cell.input_size, dropout, device)

        return tuple(of(cell) for cell, _ in self._each())

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., G]``: the bottom cell's."""
        return self._bottom().project(xs)

    def input_layer(self) -> nn.Linear | None:
        """The bottom cell's."""
        return self._bottom().input_layer()

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """The bottom cell's projection ``[B, G]`` and the state -> the top cell's output ``[B, H]``, the next state."""
        masks = iter(cast(tuple[tuple[Noise, Noise], ...], noise))  # in the cells' order; spent at once when decoding
        bottom = self._bottom()

        def run(cell: Cell, x: Tensor, part: State) -> tuple[Tensor, State]:
            own, units = next(masks, ((), ()))
            return cell.step(x if cell is bottom else cell.project(dropped(x, units, self._dropout)), part, own)

        return self._climb(projected, state, run)

    def branching(self, how: Prepare, of_fed: Tensor | None = None) -> Branching:
        """Each cell's own; the bottom one is fed."""
        bottom = self._bottom()
        branchings = {cell: cell.branching(how, of_fed if cell is bottom else None) for cell, _ in self._each()}

        def branch(state: State, parents: Tensor, fed: State) -> Branch:
            branches = {
                cell: branchings[cell](state[part], parents, fed if cell is bottom else ())
                for cell, part in self._each()
            }

            def run(cell: Cell, x: Tensor, _: State) -> tuple[Tensor, State]:
                return branches[cell](x if cell is bottom else cell.project(x))

            return lambda projected: self._climb(projected, state, run)

        return branch

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """As `Cell.unroll`, one cell after the other."""
        bottom = self._bottom()

        def run(cell: Cell, below: Tensor, part: State) -> tuple[Tensor, State]:
            below = below if cell is bottom else F.dropout(below, self._dropout, self.training)
            return self._unroll(cell, below, lengths, part)

        return self._climb(xs, state, run)

    def _bottom(self) -> Cell:
        return cast(Cell, self.cells[0])

    def _each(self) -> list[tuple[Cell, slice]]:
        """The cells, each with its part of the state."""
        return [(cast(Cell, cell), part) for cell, part in zip(self.cells, self._parts, strict=True)]

    def _climb(
        self, xs: Tensor, state: State, run: Callable[[Cell, Tensor, State], tuple[Tensor, State]]
    ) -> tuple[Tensor, State]:
        following: list[Tensor] = []
        for index, (cell, part) in enumerate(self._each()):
            ys, final = run(cell, xs, state[part])
            following.extend(final)
            xs = ys + xs if self._residual and index > 0 else ys
        return xs, tuple(following)
