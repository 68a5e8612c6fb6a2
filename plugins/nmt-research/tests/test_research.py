"""Cells from translation research: their contract, their formulas in scalars, and deep transition around any cell."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from nmt_research.independent import IndRNNCell
from nmt_research.lightweight import LRNCell
from nmt_research.transition import TransitionCell
from nmt_research.twin_gated import ATRCell
from torch import Tensor, nn

from nmt.cells.cell import Cell
from nmt.cells.gru import GRUCell
from nmt.cells.state import Noise, State, at_step
from nmt.errors import UserError
from nmt.options import Choice
from nmt.registry import CELL, available, load, register
from nmt.testing import check_cell

LENGTHS = torch.tensor([5, 2, 4])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def stirred(cell: Cell) -> Cell:
    """In double precision, with no parameter where it started."""
    cell.double()
    with torch.no_grad():
        for index, parameter in enumerate(cell.parameters()):
            parameter.copy_(0.7 * random(*parameter.shape, seed=20 + index))
    return cell


def stepped_by_hand(cell: Cell) -> tuple[Tensor, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The output of a step, its input, its state, and the weights."""
    x, h = random(1, 3, seed=5), random(1, 2, seed=6).tanh()
    output, (state,) = cell(x, (h,))
    assert torch.equal(output, state)
    weights = {name: parameter.detach().numpy() for name, parameter in cell.named_parameters()}
    return output[0].detach(), x[0].numpy(), h[0].numpy(), weights


class ZonedCell(Cell):
    """h' = z ∘ h + (1 - z) ∘ tanh(W x + R h) with a fresh mask z for each step."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.input = nn.Linear(input_size, hidden_size)
        self.recurrent = nn.Linear(hidden_size, hidden_size)

    def project(self, xs: Tensor) -> Tensor:
        return self.input(xs)

    def noise(self, rows: int, steps: int) -> Noise:
        return (self.input.bias.new_empty(rows, steps, self.hidden_size).bernoulli_(0.5),) if self.training else ()

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        (z,) = noise or (0.5,)
        h = z * state[0] + (1 - z) * torch.tanh(projected + self.recurrent(state[0]))
        return h, (h,)


class EchoCell(Cell):
    """Remembers its last input, so that its state is of another shape for each size of input."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((1, input_size),))
        self.input = nn.Linear(2 * input_size, hidden_size)

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        return self.input(torch.cat([projected, state[0][:, 0]], -1)), (projected[:, None],)


register(CELL, "zoned")(ZonedCell)
register(CELL, "echo")(EchoCell)


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        (ATRCell, {}),
        (LRNCell, {}),
        (IndRNNCell, {}),
        (IndRNNCell, {"nonlinearity": "tanh"}),
        (TransitionCell, {}),
        (TransitionCell, {"depth": 1}),
        (TransitionCell, {"cell": "lstm", "depth": 4}),
        (TransitionCell, {"cell": "zoned", "depth": 3}),
        (TransitionCell, {"cell": {"type": "elman", "nonlinearity": "relu"}}),
        (TransitionCell, {"cell": {"type": "transition", "cell": "lrn"}}),
    ],
)
def test_the_contract_is_kept(cell: type[Cell], options: dict[str, Any]) -> None:
    check_cell(cell, **options)


def test_the_twin_gated_cell_follows_its_formula() -> None:
    found, x, h, w = stepped_by_hand(stirred(ATRCell(3, 2)))
    for unit in range(2):
        p = w["input.weight"][unit] @ x + w["input.bias"][unit]
        q = w["recurrent.weight"][unit] @ h
        assert found[unit].item() == pytest.approx(sigmoid(p + q) * p + sigmoid(p - q) * h[unit], rel=1e-12)


def test_the_lightweight_cell_follows_its_formula() -> None:
    found, x, h, w = stepped_by_hand(stirred(LRNCell(3, 2)))
    for unit in range(2):
        q, k, v = (w["input.weight"][row + unit] @ x + w["input.bias"][row + unit] for row in (0, 2, 4))
        expected = math.tanh(sigmoid(k + h[unit]) * v + sigmoid(q - h[unit]) * h[unit])
        assert found[unit].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
def test_the_independent_cell_follows_its_formula(nonlinearity: str) -> None:
    found, x, h, w = stepped_by_hand(stirred(IndRNNCell(3, 2, nonlinearity=nonlinearity)))
    for unit in range(2):
        total = w["input.weight"][unit] @ x + w["input.bias"][unit] + w["recurrent"][unit] * h[unit]
        expected = math.tanh(total) if nonlinearity == "tanh" else max(0.0, total)
        assert found[unit].item() == pytest.approx(expected, rel=1e-12)


def test_a_unit_of_the_independent_cell_reads_no_other_unit() -> None:
    cell, h = stirred(IndRNNCell(3, 4, nonlinearity="tanh")), random(4, seed=3)
    slopes = torch.autograd.functional.jacobian(lambda state: cell(random(1, 3), (state[None],))[0][0], h)
    assert torch.equal(slopes, torch.diag(slopes.diagonal()))
    assert slopes.diagonal().all()


def test_the_weights_of_the_independent_cell_start_spread_between_0_and_1() -> None:
    u = IndRNNCell(1, 2000).recurrent.detach()
    assert 0.0 <= u.min().item() < 0.05
    assert 0.95 < u.max().item() <= 1.0
    assert u.mean().item() == pytest.approx(0.5, abs=0.05)


def test_two_steps_of_the_relu_cell_pass_gradients_of_the_product_of_its_weights() -> None:
    """Where u is near 1 gradients neither vanish nor explode: what relu is for."""
    cell = stirred(IndRNNCell(3, 2))
    with torch.no_grad():
        cell.input.bias.fill_(50.0)  # every unit stays on
        cell.recurrent.copy_(torch.tensor([0.9, 1.0]))
    h = torch.zeros(1, 2, dtype=torch.double, requires_grad=True)
    ys, _ = cell.unroll(random(1, 30, 3), torch.tensor([30]), (h,))
    (gradient,) = torch.autograd.grad(ys[0, -1].sum(), h)
    torch.testing.assert_close(gradient[0], torch.tensor([0.9**30, 1.0], dtype=torch.double))


@pytest.mark.parametrize("name", ["gru", "lstm", "elman", "lrn"])
def test_a_transition_of_depth_1_is_the_cell_itself(name: str) -> None:
    plain = stirred(Choice(name).build(CELL, 3, 4))
    deep = TransitionCell(3, 4, cell=Choice(name), depth=1).double()
    deep.cells[0].load_state_dict(plain.state_dict())
    xs, state = random(3, 5, 3), tuple(torch.tanh(random(*t.shape, seed=9)) for t in plain.initial_state(3))
    (ys, final), (expected, expected_final) = (c.unroll(xs, LENGTHS, state) for c in (deep, plain))
    for one, other in zip((ys, *final), (expected, *expected_final), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_micro_steps_of_a_transition_follow_each_other_without_an_input() -> None:
    """A depth of 3 is three GRUs by hand, the last two with an input of 1."""
    deep = stirred(TransitionCell(3, 4, cell=Choice("gru"), depth=3))
    first, second, third = deep.cells
    x, h, one = random(2, 3), torch.tanh(random(2, 4, seed=1)), torch.ones(2, 1, dtype=torch.double)
    output, state = deep(x, (h,))
    expected = third(one, second(one, first(x, (h,))[1])[1])[0]
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(state[0], expected)
    assert [cell.input_size for cell in deep.cells] == [3, 1, 1]


def test_what_a_micro_step_has_for_an_input_is_a_bias() -> None:
    cell = stirred(GRUCell(1, 4))
    moved = stirred(GRUCell(1, 4))
    with torch.no_grad():
        moved.input.bias.add_(moved.input.weight[:, 0])
        moved.input.weight.zero_()
    h = random(2, 4, seed=1)
    one = torch.ones(2, 1, dtype=torch.double)
    torch.testing.assert_close(cell(one, (h,))[0], moved(one, (h,))[0])


def test_each_micro_step_draws_masks_of_its_own() -> None:
    deep = stirred(TransitionCell(3, 4, cell=Choice("zoned"), depth=3)).train()
    noise = deep.noise(2, 5)
    masks = [part[0] for part in noise]
    assert [mask.shape for mask in masks] == [(2, 5, 4)] * 3
    assert not torch.equal(masks[0], masks[1])
    state = (random(2, 4),)
    following = state
    for cell, x, mask in zip(deep.cells, (random(2, 3, seed=2), *[torch.ones(2, 1).double()] * 2), noise, strict=True):
        _, following = cell.step(cell.project(x), following, at_step(mask, 3))
    _, found = deep.step(deep.project(random(2, 3, seed=2)), state, at_step(noise, 3))
    torch.testing.assert_close(found, following)


def test_every_installed_cell_can_make_a_transition() -> None:
    for name in available(CELL):
        deep = TransitionCell(3, 8, cell=Choice(name), depth=2).double()
        ys, final = deep.unroll(random(3, 5, 3), LENGTHS, deep.initial_state(3))
        assert ys.isfinite().all()
        assert tuple(tuple(tensor.shape[1:]) for tensor in final) == load_shapes(name)


def load_shapes(name: str) -> tuple[tuple[int, ...], ...]:
    cell: Cell = Choice(name).build(CELL, 3, 8)
    return cell.state_shapes


def test_a_cell_whose_state_depends_on_its_input_is_refused() -> None:
    with pytest.raises(UserError, match="echo"):
        TransitionCell(3, 4, cell=Choice("echo"))
    assert TransitionCell(3, 4, cell=Choice("echo"), depth=1).state_shapes == ((1, 3),)


def test_an_unknown_cell_inside_a_transition_is_named() -> None:
    with pytest.raises(UserError, match="gruu"):
        Choice("transition", {"cell": "gruu"}).build(CELL, 3, 4)
    assert load(CELL, "transition") is TransitionCell
