"""The contract of a recurrent cell: what a plugin author writes, and all that the rest of the package knows of it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from nmt.cells import engines
from nmt.cells.branching import Branch, Branching, fed_apart
from nmt.cells.lasting import Lasting
from nmt.cells.packed import Reading
from nmt.cells.state import Noise, State, rows_of
from nmt.products import Prepare, Recurrences
from nmt.shortcuts import give_up_shortcuts

SHORTCUTS = {
    "input_layer": ["project"],
    "unroll": ["project", "noise", "step"],
    "branching": ["step"],
    "reading": ["project", "step", "initial_state"],
}
"""What a cell may compute faster, and the methods whose results that gives."""


class Cell(nn.Module, ABC):
    """One step of a recurrence.

    An author writes the constructor and `step`; then, where it pays, `project` (with `input_layer`), `noise`, `unroll`
    and `branching`. Direction, depth, residuals, dropout between layers, padding, beams and checkpoints are the
    framework's business.

    Rules: a row's result depends on that row alone; `step` changes none of its inputs, branches on no value and
    knows neither the time nor the length; shapes and types of the state never change; `project` treats positions
    alike. `state_shapes` are the shapes of the state's tensors without the batch axis. A decoder may start those of
    one axis with any values in (-1, 1) (see `Start`); those of more axes start as `initial_state` has them. A
    parameter below a submodule named ``recurrent`` is initialised as recurrent, a block of `hidden_size` rows for
    each gate. What derives from a finished cell inherits no shortcut for a method that it replaces (see `SHORTCUTS`).
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        give_up_shortcuts(cls, Cell, SHORTCUTS)

    def __init__(self, input_size: int, hidden_size: int, *, state_shapes: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.state_shapes = state_shapes

    def project(self, xs: Tensor) -> Tensor:
        """``[..., I] -> [..., G]``: the part of a step that needs no state, computed for all steps at once."""
        return xs

    def input_layer(self) -> nn.Linear | None:
        """The layer that `project` is, where it is that and nothing else: ``project(xs) = layer(xs)``.

        With input feeding, the embeddings' part of its product is then computed for all steps at once or, when
        translating, once for each token.
        """
        return None

    @abstractmethod
    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        """``[B, G]`` and the state -> output ``[B, H]`` and the next state.

        `noise` are this step's masks ``[B, ...]``; ``()`` when decoding and where not in training.
        """

    def noise(self, rows: int, steps: int) -> Noise:
        """Random masks ``[rows, steps, ...]`` for a whole sequence, drawn before the loop; none where not in training.

        A mask that is the same at every step (variational dropout) is one expanded along the steps.
        """
        return ()

    def branching(self, how: Prepare, of_fed: Tensor | None = None) -> Branching:
        """How hypotheses go on from the rows of a state in search: ``step(projected + of_fed fed, state[parents])``.

        Asked for once, when the weights won't change any more; of a decoder that is fed its features only where its
        first cell has an `input_layer`. `of_fed` ``[G, F]`` are the columns of that which belong to what rows are fed,
        or None. Override it to compute once for each row what its hypotheses share, as the cells of this package do
        with R h; never to be different.
        """

        def branch(state: State, parents: Tensor, fed: State) -> Branch:
            chosen = rows_of(state, parents)
            return lambda projected: self.step(projected, chosen)

        return fed_apart(branch, of_fed, how)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One whole step: ``[B, I]`` and the state -> output ``[B, H]`` and the next state."""
        return self.step(self.project(x), state)

    def initial_state(self, batch_size: int) -> State:
        """Zeros of `state_shapes`, on the parameters' device and in their type."""
        like = next(self.parameters())
        return tuple(
            torch.zeros(batch_size, *shape, dtype=like.dtype, device=like.device) for shape in self.state_shapes
        )

    def unroll(self, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """The cell along time: ``xs [B, T, I]``, `lengths` ``[B]`` (int64, on the CPU, 1 to T) and the first state
        -> outputs ``[B, T, H]``, zero after each length, and each sentence's state at its own last step.

        Override it to be faster; never to be different: the plain loop is the reference.
        """
        return engines.by_steps(self, xs, lengths, state)

    def lasting(self) -> Lasting:
        """What engines keep captures and compiled steps by. A cell reads nothing of a batch besides inputs and state:
        it is all there for many batches."""
        return Lasting(self, (), lambda _: self.step, lambda _: self)

    def reading(self, how: Recurrences) -> Reading | None:
        """For translating, when the weights won't change any more: the outputs along time, from a state of zeros on,
        by a kernel of its own that gives a sentence the same bits in any batch; None where there is none, and it goes
        step by step. Inputs and outputs are fp32, whatever it multiplies in.
        """
        return None

    @classmethod
    def unrolls_itself(cls) -> bool:
        """Whether it has an `unroll` of its own."""
        return cls.unroll is not Cell.unroll
