"""The contract of a cell along time: whatever runs it gives what stepping gives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nmt.cells import engines
from nmt.cells.cell import Cell
from nmt.cells.layers import BothWays, CellStack
from nmt.cells.state import Noise, State, at_step
from nmt.testing.cells import LENGTHS, ROWS, STEPS, some_input, some_state
from nmt.testing.components import Subject, gradients_are_right, parameters_of
from nmt.testing.contract import apart, expect, same, weighted_sum

Unrolled = tuple[Tensor, State]


def stepped(cell: Cell, xs: Tensor, state: State, noise: Noise = ()) -> Unrolled:
    """The definition: each row by its own steps, zero behind its length, its state frozen at its last step."""
    outputs = []
    for t in range(STEPS):
        live = t < LENGTHS  # [B]
        output, following = cell.step(cell.project(xs[:, t]), state, at_step(noise, t))
        outputs.append(_where(live, output, torch.zeros_like(output)))
        state = tuple(_where(live, new, old) for new, old in zip(following, state, strict=True))
    return torch.stack(outputs, 1), state


def _where(live: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(live.view(-1, *[1] * (one.dim() - 1)), one, other)


def _expect_equal(cell: Cell, found: Unrolled, expected: Unrolled, by: str) -> None:
    (ys, final), (expected_ys, expected_final) = found, expected
    expect(
        ys.shape == expected_ys.shape,
        f"{by} gives outputs of {tuple(ys.shape)}, not {tuple(expected_ys.shape)}",
        "give [B, T, H]",
    )
    for row, length in enumerate(LENGTHS.tolist()):
        expect(
            not bool(ys[row, length:].any()),
            f"{by} gives outputs that aren't zero in the padding (a sentence of {length} steps in a batch of {STEPS})",
            "clear them: engines.cleared(ys, lengths)",
        )
        for t in range(length):
            far = apart(ys[row, t], expected_ys[row, t])
            expect(
                far == 0.0,
                f"{by} differs from stepping by {far:.1e} at step {t + 1} of {length}",
                "make it equal to project and step, one position after the other",
            )
    for index, (one, other) in enumerate(zip(final, expected_final, strict=True)):
        for row, length in enumerate(LENGTHS.tolist()):
            far = apart(one[row], other[row])
            expect(
                far == 0.0,
                f"tensor {index} of the final state of a sentence of {length} steps in a batch of {STEPS} is not the "
                f"one after its last step when {by} (off by {far:.1e})",
                "freeze each sentence's state at its own length: engines.at_last",
            )


def _gradients(cell: Cell, run: Callable[[Cell, Tensor, State], Unrolled]) -> dict[str, Tensor]:
    """The gradients of inputs, first state and parameters, by name."""
    xs = some_input().requires_grad_()
    state = tuple(tensor.detach().requires_grad_() for tensor in some_state(cell))
    named = {"the inputs": xs}
    named |= {f"tensor {index} of the first state": tensor for index, tensor in enumerate(state)}
    named |= parameters_of(cell)
    ys, final = run(cell, xs, state)
    found = torch.autograd.grad(weighted_sum([ys, *final]), list(named.values()), allow_unused=True)
    return {
        name: torch.zeros_like(tensor) if gradient is None else gradient
        for (name, tensor), gradient in zip(named.items(), found, strict=True)
    }


def _check_against_stepping(cell: Cell, unroll: engines.Unroll, by: str) -> None:
    xs, state = some_input(), some_state(cell)
    _expect_equal(cell, unroll(cell, xs, LENGTHS, state), stepped(cell, xs, state), by)
    expected = _gradients(cell, stepped)
    for name, gradient in _gradients(cell, lambda c, x, s: unroll(c, x, LENGTHS, s)).items():
        far = apart(gradient, expected[name])
        expect(
            far == 0.0,
            f"{by} gives other gradients than stepping: that of {name} differs by {far:.1e}",
            "correct the backward; outputs alone are not enough",
        )


def its_own_unroll_equals_stepping(subject: Subject) -> None:
    """In outputs, final states and every gradient, with all lengths in one batch."""
    _check_against_stepping(subject.make(), engines.own, "its unroll")


def every_engine_equals_stepping(subject: Subject) -> None:
    """The same for the engines that a recipe can name."""
    for name, unroll in engines.ENGINES.items():
        _check_against_stepping(subject.make(), unroll, f"the engine {name}")


def unrolling_with_noise_equals_stepping_with_noise(subject: Subject) -> None:
    """In training: the masks that `noise` draws first, a step at a time."""
    cell = subject.make().train()
    xs, state = some_input(), some_state(cell)
    torch.manual_seed(9)
    noise = cell.noise(ROWS, STEPS)
    expected = stepped(cell, xs, state, noise)
    for by, unroll in {"its unroll in training": engines.own, "the loop in training": engines.loop}.items():
        torch.manual_seed(9)
        _expect_equal(cell, unroll(cell, xs, LENGTHS, state), expected, by)


def padding_is_never_read(subject: Subject) -> None:
    """Not even by gradients: what stands in the padding may be no number at all."""
    cell = subject.make()
    xs, state = some_input(), some_state(cell)
    for row, length in enumerate(LENGTHS.tolist()):
        xs[row, length:] = float("nan")
    clean, _ = stepped(cell, some_input(), state)
    xs.requires_grad_()
    ys, final = cell.unroll(xs, LENGTHS, state)
    remedy = "start with engines.cleared(xs, lengths), and take nothing from behind a length"
    expect(same(ys, clean), "the padding is read: with other values in it the outputs change", remedy)
    gradients = torch.autograd.grad(weighted_sum([ys, *final]), [xs, *parameters_of(cell).values()], allow_unused=True)
    expect(
        not any(bool(gradient.isnan().any()) for gradient in gradients if gradient is not None),
        "the padding is read in the backward pass: NaN in it reaches a gradient",
        remedy,
    )


def a_sentence_is_the_same_alone_and_in_any_batch(subject: Subject) -> None:
    """Whatever its place, its neighbours and the size of the batch."""
    cell = subject.make()
    xs, state = some_input(), some_state(cell)
    ys, final = cell.unroll(xs, LENGTHS, state)
    order = torch.tensor([3, 5, 0, 4, 2, 1])
    moved, _ = cell.unroll(xs[order], LENGTHS[order], tuple(tensor[order] for tensor in state))
    remedy = "compute each row from that row alone"
    expect(same(moved, ys[order]), "a sentence's outputs change with its place in the batch", remedy)
    for row, length in enumerate(LENGTHS.tolist()):
        one = slice(row, row + 1)
        alone, alone_final = cell.unroll(xs[one, :length], LENGTHS[one], tuple(tensor[one] for tensor in state))
        expect(
            same(ys[one, :length], alone) and all(same(f[one], a) for f, a in zip(final, alone_final, strict=True)),
            f"a sentence of {length} steps gives something else alone than in a batch of {ROWS}",
            remedy,
        )


def its_gradients_are_right(subject: Subject) -> None:
    """Those of its unroll, against finite differences."""
    cell = subject.make()
    xs = some_input().requires_grad_()
    state = tuple(t.detach().requires_grad_() for t in some_state(cell))

    def outputs() -> Tensor:
        ys, final = cell.unroll(xs, LENGTHS, state)
        return weighted_sum([ys, *final])

    inputs = {"the inputs": xs} | {f"tensor {index} of the first state": tensor for index, tensor in enumerate(state)}
    gradients_are_right(inputs | parameters_of(cell), outputs)


def it_can_be_stacked_and_run_both_ways(subject: Subject) -> None:
    """In the places a recipe puts it: the layers of an encoder, the stack of a decoder."""
    layer = BothWays(subject.make(1), subject.make(2), engines.own)
    states, summary = layer(some_input(), LENGTHS)
    size = layer.output_size
    expect(
        tuple(states.shape) == (ROWS, STEPS, size) and tuple(summary.shape) == (ROWS, size),
        f"both ways, it gives {tuple(states.shape)}, not [B, T, 2H]",
        "give outputs of hidden_size",
    )
    stack = CellStack([subject.make(3)], engines.own, dropout=0.0, residual=False).eval()
    xs, state = some_input(), some_state(stack)
    _expect_equal(stack, stack.unroll(xs, LENGTHS, state), stepped(stack, xs, state), "a stack of it")


UNROLL_CHECKS: tuple[Callable[[Subject], None], ...] = (
    its_own_unroll_equals_stepping,
    every_engine_equals_stepping,
    unrolling_with_noise_equals_stepping_with_noise,
    padding_is_never_read,
    a_sentence_is_the_same_alone_and_in_any_batch,
    its_gradients_are_right,
    it_can_be_stacked_and_run_both_ways,
)
