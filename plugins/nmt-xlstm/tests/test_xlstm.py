"""sLSTM and mLSTM: their contract, their unstabilised formulas in scalars, and what stabilising is for."""

import math
from typing import Literal, TypedDict, TypeVar

import numpy as np
import pytest
import torch
from nmt_xlstm.mlstm import CHUNK, MLSTMCell
from nmt_xlstm.slstm import SLSTMCell
from torch import Tensor

from nmt import recipe
from nmt.cells import engines
from nmt.cells.cell import Cell
from nmt.cells.engines import Unroll
from nmt.cells.state import State
from nmt.errors import UserError
from nmt.model.initialization import initialize
from nmt.testing import check_cell

Weights = dict[str, np.ndarray]
XLSTM = type[SLSTMCell] | type[MLSTMCell]
AnyCell = TypeVar("AnyCell", bound=Cell)


class Options(TypedDict):
    """Those of both cells."""

    forget: Literal["sigmoid", "exponential"]
    forget_bias: float
    heads: int


OPTIONS: list[Options] = [
    {"forget": "sigmoid", "forget_bias": 1.0, "heads": 1},
    {"forget": "sigmoid", "forget_bias": 3.0, "heads": 2},
    {"forget": "exponential", "forget_bias": -0.5, "heads": 4},
]
CELLS: list[tuple[XLSTM, Options]] = [(cell, options) for cell in (SLSTMCell, MLSTMCell) for options in OPTIONS]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def stirred(cell: AnyCell) -> AnyCell:
    """In double precision, with no parameter where it started."""
    cell.double()
    with torch.no_grad():
        for index, parameter in enumerate(cell.parameters()):
            parameter.copy_(0.7 * random(*parameter.shape, seed=20 + index))
    return cell


def arrays(cell: Cell) -> Weights:
    return {name: parameter.detach().numpy() for name, parameter in cell.named_parameters()}


def stepped(cell: Cell, xs: Tensor, state: State) -> tuple[np.ndarray, State]:
    """The outputs ``[T, H]`` of one sentence ``[T, I]``, and its last state."""
    outputs = []
    for x in xs:
        output, state = cell(x[None], state)
        outputs.append(output[0].detach().numpy())
    return np.stack(outputs), tuple(tensor[0].detach() for tensor in state)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def forgetting(options: Options, x: float) -> float:
    return math.exp(x) if options["forget"] == "exponential" else sigmoid(x)


def recurrent_weight(weights: Weights, gate: int, unit: int, heads: int, size: int) -> np.ndarray:
    """What a unit's gate reads of h, by a row as long as h: zero but for the unit's own head."""
    head, place = divmod(unit, size)
    row = np.zeros(heads * size)
    name, place = (gate * heads + head, place) if heads > 1 else (0, gate * size + place)
    row[head * size : (head + 1) * size] = weights[f"recurrent.{name}.weight"][place]
    return row


@pytest.mark.parametrize(("cell", "options"), CELLS)
def test_the_contract_is_kept(cell: XLSTM, options: Options) -> None:
    check_cell(cell, **options)


@pytest.mark.parametrize("cell", [SLSTMCell, MLSTMCell])
def test_the_contract_is_kept_without_options(cell: XLSTM) -> None:
    check_cell(cell)


@pytest.mark.parametrize("options", OPTIONS)
def test_an_slstm_is_its_unstabilised_formula(options: Options) -> None:
    hidden_size, heads = 8, options["heads"]
    cell = stirred(SLSTMCell(3, hidden_size, **options))
    weights, xs, first = arrays(cell), random(6, 3), random(hidden_size, seed=1).tanh()
    h, c, n = first.numpy().copy(), np.zeros(hidden_size), np.zeros(hidden_size)
    expected = []
    for x in xs.numpy():
        following = np.zeros(hidden_size)
        for unit in range(hidden_size):
            z, i, f, o = (
                weights["input.weight"][gate * hidden_size + unit] @ x
                + weights["input.bias"][gate * hidden_size + unit]
                + recurrent_weight(weights, gate, unit, heads, hidden_size // heads) @ h
                for gate in range(4)
            )
            kept = forgetting(options, f)
            c[unit] = kept * c[unit] + math.exp(i) * math.tanh(z)
            n[unit] = kept * n[unit] + math.exp(i)
            following[unit] = sigmoid(o) * c[unit] / n[unit]
        h = following
        expected.append(h)
    _, memory = cell.initial_state(1)
    hs, (last, memory) = stepped(cell, xs, (first[None], memory))
    np.testing.assert_allclose(hs, expected, rtol=1e-11)
    np.testing.assert_array_equal(last, hs[-1])
    np.testing.assert_allclose(memory[:2] * memory[2].exp(), [c, n], rtol=1e-11)


@pytest.mark.parametrize("options", OPTIONS)
def test_an_mlstm_is_its_unstabilised_formula(options: Options) -> None:
    hidden_size, heads = 8, options["heads"]
    size = hidden_size // heads
    cell = stirred(MLSTMCell(3, hidden_size, **options))
    weights, xs = arrays(cell), random(6, 3)
    matrix, normalizer = np.zeros((heads, size, size)), np.zeros((heads, size))
    expected = np.zeros((6, hidden_size))
    divisors = []
    for t, x in enumerate(xs.numpy()):
        dense = weights["input.weight"] @ x + weights["input.bias"]
        for head in range(heads):
            q, k, v, o = (dense[part * hidden_size + head * size :][:size] for part in range(4))
            i, f = (weights["gates.weight"][row] @ x + weights["gates.bias"][row] for row in (head, heads + head))
            kept, written = forgetting(options, f), math.exp(i)
            for row in range(size):
                for column in range(size):
                    new = v[row] * k[column] / math.sqrt(size)
                    matrix[head, row, column] = kept * matrix[head, row, column] + written * new
                normalizer[head, row] = kept * normalizer[head, row] + written * k[row] / math.sqrt(size)
            divisors.append(abs(sum(normalizer[head, row] * q[row] for row in range(size))))
            for row in range(size):
                read = sum(matrix[head, row, column] * q[column] for column in range(size))
                expected[t, head * size + row] = sigmoid(o[row]) * read / max(divisors[-1], 1.0)
    assert min(divisors) < 1.0 < max(divisors)  # both arms of the divisor are met
    hs, (one, two, m) = stepped(cell, xs, cell.initial_state(1))
    np.testing.assert_allclose(hs, expected, rtol=1e-10)
    np.testing.assert_allclose(one * m[..., None].exp(), matrix, rtol=1e-10)
    np.testing.assert_allclose(two * m.exp(), normalizer, rtol=1e-10)


def some_state(cell: MLSTMCell, rows: int) -> State:
    """As after some steps: no zeros, another stabiliser for each head."""
    return tuple(random(rows, *shape, seed=7 + index) for index, shape in enumerate(cell.state_shapes))


@pytest.mark.parametrize("options", OPTIONS)
def test_all_steps_at_once_are_one_after_another(options: Options) -> None:
    cell = stirred(MLSTMCell(3, 8, **options))
    for size in (*range(1, 41), CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 2):
        xs, lengths, state = random(3, size, 3), torch.tensor([size, (size + 1) // 2, 1]), some_state(cell, 3)
        one, two = cell.unroll(xs, lengths, state), engines.loop(cell, xs, lengths, state)
        for at_once, looped in zip((one[0], *one[1]), (two[0], *two[1]), strict=True):
            torch.testing.assert_close(at_once, looped, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("heads", [1, 4])
def test_all_steps_at_once_give_the_gradients_of_one_after_another(heads: int) -> None:
    cell = stirred(MLSTMCell(3, 8, heads=heads))
    lengths, state = torch.tensor([CHUNK + 9, CHUNK, 23, 1]), tuple(t.requires_grad_() for t in some_state(cell, 4))
    xs = random(4, CHUNK + 9, 3).requires_grad_()

    def gradients(unroll: Unroll) -> tuple[Tensor, ...]:
        ys, final = unroll(cell, xs, lengths, state)
        total = sum((tensor * random(*tensor.shape, seed=3)).sum() for tensor in (ys, *final))
        assert isinstance(total, Tensor)
        return torch.autograd.grad(total, (xs, *state, *cell.parameters()))

    for at_once, looped in zip(gradients(engines.own), gradients(engines.loop), strict=True):
        torch.testing.assert_close(at_once, looped, rtol=1e-8, atol=1e-9)


def test_long_sentences_stay_exact_in_float32() -> None:
    cell, lengths = MLSTMCell(8, 16, heads=2).double(), torch.tensor([512, 300])
    xs = random(2, 512, 8)
    exact, _ = engines.loop(cell, xs, lengths, cell.initial_state(2))
    cell.float()
    coarse, _ = cell.unroll(xs.float(), lengths, cell.initial_state(2))
    torch.testing.assert_close(coarse.double(), exact, rtol=1e-3, atol=1e-4)


def driven(cell_class: XLSTM, options: Options) -> tuple[SLSTMCell | MLSTMCell, Tensor]:
    """A cell whose gates i and f are the first two inputs, and inputs that drive these to every mix of ±200 and 0."""
    cell: SLSTMCell | MLSTMCell = stirred(cell_class(6, 8, **options))
    cell.float()
    with torch.no_grad():
        cell.input.bias.zero_()
        if isinstance(cell, MLSTMCell):
            i, f = cell.gates.weight.chunk(2)
            cell.gates.bias.zero_()
        else:
            _, i, f, _ = cell.input.weight.chunk(4)
        cell.input.weight[:, :2] = 0.0
        for rows, place in ((i, 0), (f, 1)):
            rows.zero_()
            rows[:, place] = 1.0
    xs = random(16, 40, 6).float()
    xs[..., :2] = torch.randint(-1, 2, (16, 40, 2), generator=torch.Generator().manual_seed(5)) * 200.0
    xs[0, :, :2], xs[1, :, :2] = 200.0, -200.0
    xs[2, :, 0], xs[2, :, 1], xs[3, :, 0], xs[3, :, 1] = 200.0, -200.0, -200.0, 200.0
    return cell, xs


@pytest.mark.parametrize("unroll", [engines.own, engines.loop])
@pytest.mark.parametrize(("cell_class", "options"), CELLS)
def test_gates_of_200_give_finite_outputs_and_gradients(cell_class: XLSTM, options: Options, unroll: Unroll) -> None:
    cell, xs = driven(cell_class, options)
    xs.requires_grad_()
    ys, final = unroll(cell, xs, torch.full((16,), 40), cell.initial_state(16))
    gradients = torch.autograd.grad(ys.sum(), (xs, *cell.parameters()))
    assert all(bool(tensor.isfinite().all()) for tensor in (ys, *final, *gradients))
    assert bool(ys.abs().max() > 1e-3)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_normaliser_of_an_slstm_is_1_at_first_and_never_less(options: Options) -> None:
    cell, xs = driven(SLSTMCell, options)
    state = cell.initial_state(16)
    for t in range(40):
        _, state = cell(xs[:, t], state)
        n = state[1][:, 1]
        assert bool((n >= 1.0).all())
        assert t > 0 or bool((n == 1.0).all())


@pytest.mark.parametrize("unroll", [engines.own, engines.loop])
def test_padding_after_a_grown_stabiliser_has_no_part_in_gradients(unroll: Unroll) -> None:
    """There q is b_q, zero as it starts, and exp(-m) is zero in float32: 0 / 0 would spoil every parameter."""
    torch.manual_seed(1)
    cell = MLSTMCell(4, 8, forget="exponential", forget_bias=3.0)
    xs, lengths = random(2, 60, 4).float(), torch.tensor([60, 50])
    ys, (_, _, m) = unroll(cell, xs, lengths, cell.initial_state(2))
    assert bool((m > 110).all())
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(ys.sum(), list(cell.parameters())))


@pytest.mark.parametrize("cell_class", [SLSTMCell, MLSTMCell])
def test_the_stabiliser_starts_below_the_smallest_input_gate(cell_class: XLSTM) -> None:
    cell, xs = driven(cell_class, OPTIONS[0])
    xs[:, 0, 0] = -200.0
    _, state = cell(xs[:, 0], cell.initial_state(16))
    m = state[2] if cell_class is MLSTMCell else state[1][:, 2]
    assert bool((m == -200.0).all())


def test_heads_of_an_slstm_read_nothing_of_each_other() -> None:
    cell = stirred(SLSTMCell(3, 8, heads=2))
    x, (h, memory) = random(1, 3), cell.initial_state(1)
    changed = h.clone()
    changed[:, 4:] = 0.5
    (one, (_, one_memory)), (two, (_, two_memory)) = cell(x, (h, memory)), cell(x, (changed, memory))
    assert torch.equal(one[:, :4], two[:, :4]) and torch.equal(one_memory[..., :4], two_memory[..., :4])
    assert not bool((one[:, 4:] == two[:, 4:]).any())


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_each_gate_of_each_head_of_an_slstm_starts_orthogonal(heads: int) -> None:
    cell = SLSTMCell(3, 8, heads=heads)
    initialize(cell, recipe.Initialization())
    size = 8 // heads
    blocks = [block for matrix in cell.recurrent.parameters() for block in matrix.split(size)]
    assert len(blocks) == 4 * heads
    for block in blocks:
        torch.testing.assert_close(block @ block.T, torch.eye(size))


@pytest.mark.parametrize("cell_class", [SLSTMCell, MLSTMCell])
def test_heads_divide_the_hidden_size(cell_class: XLSTM) -> None:
    with pytest.raises(UserError, match="3 heads don't divide hidden_size 8"):
        cell_class(4, 8, heads=3)
    with pytest.raises(UserError, match="9 heads don't divide hidden_size 8"):
        cell_class(4, 8, heads=9)
