"""The contract of a cell: its step, its state and its noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nmt.cells.cell import Cell
from nmt.cells.state import Noise, State
from nmt.testing.components import Subject, parameters_of
from nmt.testing.contract import expect, random, same, unchanged, weighted_sum

INPUT_SIZE, HIDDEN_SIZE = 6, 8
LENGTHS = torch.tensor([6, 1, 3, 5, 2, 4])
"""Every length from 1 to T, in no order."""
ROWS, STEPS = len(LENGTHS), int(LENGTHS.max())


def cell_subject(component: type, options: Mapping[str, object]) -> Subject:
    """A cell, used along time."""

    def use(cell: Cell, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        state = tuple(tensor.to(device, dtype) for tensor in some_state(cell))
        ys, final = cell.unroll(some_input().to(device, dtype), LENGTHS, state)
        return {"the output": ys, **{f"tensor {index} of the final state": t for index, t in enumerate(final)}}

    return Subject(component, options, lambda: (INPUT_SIZE, HIDDEN_SIZE), use)


def some_input() -> Tensor:
    """Inputs ``[B, T, I]``."""
    return random(ROWS, STEPS, INPUT_SIZE, seed=1)


def some_state(cell: Cell) -> State:
    """A first state as a decoder may give it: tensors of one axis anywhere in (-1, 1), others as the cell starts."""
    return tuple(
        torch.tanh(random(*tensor.shape, seed=50 + index)).to(tensor.dtype) if tensor.dim() == 2 else tensor
        for index, tensor in enumerate(cell.initial_state(ROWS))
    )


def one_step(cell: Cell) -> tuple[Tensor, State]:
    """The projected inputs of one step ``[B, G]`` and a state."""
    projected: Tensor = cell.project(some_input()[:, 0]).detach()
    return projected, tuple(tensor.detach() for tensor in some_state(cell))


def drawn(cell: Cell) -> tuple[Noise, list[Tensor]]:
    """Noise for a whole sequence, in training, and its tensors one after the other."""
    noise = cell.train().noise(ROWS, STEPS)
    return noise, flattened(noise)


def flattened(noise: Noise) -> list[Tensor]:
    """The tensors of nested noise."""
    return [t for part in noise for t in ([part] if isinstance(part, Tensor) else flattened(part))]


def it_is_a_cell_of_the_sizes_it_was_given(subject: Subject) -> None:
    """What the framework relies on when it puts cells together."""
    cell = subject.make()
    expect(
        (cell.input_size, cell.hidden_size) == (INPUT_SIZE, HIDDEN_SIZE),
        f"its sizes are {cell.input_size} and {cell.hidden_size}, not {INPUT_SIZE} and {HIDDEN_SIZE} as given",
        "hand input_size and hidden_size on to Cell.__init__",
    )


def its_first_state_is_what_state_shapes_says(subject: Subject) -> None:
    """In shapes, types and for any number of rows."""
    cell = subject.make()
    one, many = cell.initial_state(1), cell.initial_state(ROWS)
    shapes = tuple(tuple(tensor.shape[1:]) for tensor in many)
    declared = tuple(tuple(shape) for shape in cell.state_shapes)
    expect(
        shapes == declared and all(tensor.shape[0] == ROWS for tensor in many),
        f"initial_state({ROWS}) has the shapes {[tuple(t.shape) for t in many]} where state_shapes says {declared}",
        "let state_shapes be the shapes of the state's tensors without the batch axis",
    )
    expect(
        all(same(tensor, first.expand_as(tensor)) for tensor, first in zip(many, one, strict=True)),
        "initial_state differs from row to row or from call to call",
        "start every row alike; nothing random",
    )


def a_step_keeps_shapes_and_types(subject: Subject) -> None:
    """``[B, H]`` and a state just like the one it got."""
    cell = subject.make()
    projected, state = one_step(cell)
    output, following = cell.step(projected, state)
    expect(
        tuple(output.shape) == (ROWS, HIDDEN_SIZE),
        f"the output of a step is {tuple(output.shape)}, not [B, H] = {(ROWS, HIDDEN_SIZE)}",
        "return (output, state)",
    )
    before, after = ([(tuple(t.shape), t.dtype) for t in one] for one in (state, following))
    expect(
        before == after,
        f"a step turns a state of {before} into one of {after}",
        "return a tuple of as many tensors, of the same shapes and types",
    )


def a_step_changes_none_of_its_inputs(subject: Subject) -> None:
    """Beams share tensors; engines run a step again."""
    cell = subject.make()
    projected, state = one_step(cell)
    before = [tensor.clone() for tensor in (projected, *state)]
    cell.step(projected, state)
    expect(
        unchanged(before, [projected, *state]),
        "a step writes into the tensors it was given",
        "make new tensors instead of changing in place",
    )


def any_state_a_decoder_may_start_from_is_good(subject: Subject) -> None:
    """State tensors of one axis anywhere in (-1, 1)."""
    cell = subject.make()
    state = tuple(tensor.requires_grad_(tensor.dim() == 2) for tensor in some_state(cell))
    output, following = cell.step(cell.project(some_input()[:, 0]), state)
    started = [tensor for tensor in state if tensor.requires_grad]
    total = output.sum() + sum(tensor.sum() for tensor in following)
    of_state = torch.autograd.grad(total, started, allow_unused=True) if started else ()
    expect(
        all(bool(t.isfinite().all()) for t in (output, *following, *(g for g in of_state if g is not None))),
        "a step from a state with values in (-1, 1) isn't finite",
        "give state tensors that must not be set from outside more than one axis ([1, H], say)",
    )


def a_step_depends_on_nothing_but_what_it_is_given(subject: Subject) -> None:
    """Whatever was computed in between."""
    cell = subject.make()
    projected, state = one_step(cell)
    first, _ = cell.step(projected, state)
    cell.step(projected + 1.0, tuple(tensor * 0.5 for tensor in state))
    again, _ = cell.step(projected, state)
    expect(
        same(first, again),
        "a step gives something else after another step was taken",
        "keep what is carried along in the state, never on self",
    )


def a_row_depends_on_that_row_alone(subject: Subject) -> None:
    """A row is a sentence, or a hypothesis of a beam: others come and go."""
    cell = subject.make()
    projected, state = one_step(cell)
    output, following = cell.step(projected, state)
    for row in range(ROWS):
        one = slice(row, row + 1)
        alone, alone_following = cell.step(projected[one], tuple(tensor[one] for tensor in state))
        pairs = [(output, alone), *zip(following, alone_following, strict=True)]
        expect(
            all(same(together[one], single) for together, single in pairs),
            f"a step of {ROWS} rows gives row {row} another result than that row alone",
            "mix no rows: no statistics, softmax or sums over the batch axis",
        )


def project_treats_positions_and_rows_alike(subject: Subject) -> None:
    """It is computed for all steps at once in training and for one step in search."""
    cell = subject.make()
    xs = some_input()
    whole = cell.project(xs)  # [B, T, G]
    for t in range(STEPS):
        expect(
            whole.shape[:2] == xs.shape[:2] and same(whole[:, t], cell.project(xs[:, t])),
            f"project of [B, T, I] gives something else at step {t} than project of that step alone",
            "project each position by itself: [..., I] -> [..., G]",
        )
    for row in range(ROWS):
        expect(
            same(whole[row : row + 1], cell.project(xs[row : row + 1])),
            f"project gives row {row} of {ROWS} something else than that row alone",
            "project each position by itself: [..., I] -> [..., G]",
        )


def its_input_layer_is_all_that_project_is(subject: Subject) -> None:
    """Where it names one; with input feeding, parts of that layer take the place of `project`."""
    cell = subject.make()
    layer, xs = cell.input_layer(), some_input()
    expect(
        layer is None or same(layer(xs), cell.project(xs)),
        "project gives something else than the layer that input_layer names",
        "name a layer only where project is that layer and nothing else; else return None",
    )


def a_whole_step_is_project_and_step(subject: Subject) -> None:
    """Whoever calls a cell gets what the framework gets, gradients too."""
    cell = subject.make()
    given = [tensor.detach().requires_grad_() for tensor in (some_input()[:, 0], *some_state(cell))]
    x, state = given[0], tuple(given[1:])
    found, expected = cell(x, state), cell.step(cell.project(x), state)
    wanted = [*given, *parameters_of(cell).values()]
    for words, one, other in (
        ("", found[:1], expected[:1]),
        (" in its next state", found[1], expected[1]),
        (" in its gradients", gradients(found, wanted), gradients(expected, wanted)),
    ):
        alike = len(one) == len(other) and all(map(same, one, other))
        expect(alike, f"forward isn't step(project(x), state){words}", "don't override forward")


def gradients(stepped: tuple[Tensor, State], wanted: list[Tensor]) -> tuple[Tensor, ...]:
    """Of the `wanted`, from the output and the next state of a step; none where nothing leads to any."""
    output, state = stepped
    total = weighted_sum([output, *state])
    return torch.autograd.grad(total, wanted, materialize_grads=True) if total.requires_grad else ()


def noise_is_drawn_for_training_alone(subject: Subject) -> None:
    """Masks for every row and step, from torch's generator, anew for each sequence and each row."""
    cell = subject.make()
    expect(flattened(cell.noise(ROWS, STEPS)) == [], "noise is drawn in evaluation", "return () unless self.training")
    torch.manual_seed(7)
    _, first = drawn(cell)
    _, second = drawn(cell)
    torch.manual_seed(7)
    _, again = drawn(cell)
    for one, other, repeated in zip(first, second, again, strict=True):
        expect(
            one.dim() >= 2 and tuple(one.shape[:2]) == (ROWS, STEPS),
            f"noise({ROWS}, {STEPS}) gives a mask of {tuple(one.shape)}",
            "give masks [rows, steps, ...]; expand one that stays the same along the steps",
        )
        varies = bool((one != one.flatten()[0]).any())
        expect(
            torch.equal(one, repeated),
            "noise doesn't come from torch's default generator",
            "draw by torch functions without a generator, so that a resumed run sees the same",
        )
        expect(
            not (varies and torch.equal(one, other)),
            "two sequences get the same random masks",
            "draw anew in each call of noise; keep nothing",
        )
        expect(
            not (varies and bool((one == one[:1]).all())),
            "all sentences of a batch get the same random mask",
            "draw a mask for each row",
        )


def randomness_comes_from_noise_alone(subject: Subject) -> None:
    """So that every engine, and every replay of a step, sees the same masks."""
    cell = subject.make().train()
    projected, state = one_step(cell)
    torch.manual_seed(8)
    first, _ = cell.step(projected, state)
    second, _ = cell.step(projected, state)
    alike = same(first, second) and same(cell.project(some_input()), cell.project(some_input()))
    expect(alike, "project or step draws random numbers in training", "draw them in noise(rows, steps)")


STEP_CHECKS: tuple[Callable[[Subject], None], ...] = (
    it_is_a_cell_of_the_sizes_it_was_given,
    its_first_state_is_what_state_shapes_says,
    a_step_keeps_shapes_and_types,
    a_step_changes_none_of_its_inputs,
    any_state_a_decoder_may_start_from_is_good,
    a_step_depends_on_nothing_but_what_it_is_given,
    a_row_depends_on_that_row_alone,
    project_treats_positions_and_rows_alike,
    its_input_layer_is_all_that_project_is,
    a_whole_step_is_project_and_step,
    noise_is_drawn_for_training_alone,
    randomness_comes_from_noise_alone,
)
