"""Cells that run by scans: their contract, their formulas in scalars, and their scans against stepping."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from nmt_parallel.mingru import MinGRUCell
from nmt_parallel.minlstm import MinLSTMCell
from nmt_parallel.qrnn import QRNNCell
from nmt_parallel.scan import by_pairs, peephole_scan, scan
from nmt_parallel.sru import SRUCell
from torch import Tensor

from nmt.cells import engines
from nmt.cells.cell import Cell
from nmt.testing import check_cell

SIZES = [1, 2, 3, 7, 16, 33, 64, 69, 70]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def positive(x: float) -> float:
    return x + 0.5 if x >= 0 else sigmoid(x)


def stirred(cell: Cell) -> Cell:
    """In double precision, with no parameter where it started."""
    cell.double()
    with torch.no_grad():
        for index, parameter in enumerate(cell.parameters()):
            parameter.copy_(0.7 * random(*parameter.shape, seed=20 + index))
    return cell


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        (MinGRUCell, {}),
        (MinGRUCell, {"candidate": "positive"}),
        (MinLSTMCell, {}),
        (MinLSTMCell, {"candidate": "positive", "forget_bias": 2.0}),
        (QRNNCell, {}),
        (QRNNCell, {"width": 1}),
        (QRNNCell, {"width": 4, "zoneout": 0.3}),
        (QRNNCell, {"width": 9}),
        (SRUCell, {}),
        (SRUCell, {"peephole": False, "highway_bias": -2.0}),
    ],
)
def test_the_contract_is_kept(cell: type[Cell], options: dict[str, object]) -> None:
    check_cell(cell, **options)


def test_an_sru_of_equal_sizes_unrolls_as_it_steps() -> None:
    """Its skip connection is then the input itself, which the kit's sizes don't reach."""
    cell, lengths = stirred(SRUCell(5, 5)), torch.tensor([6, 1, 4])
    xs, state = random(3, 6, 5), (random(3, 5, seed=1),)
    assert cell.skip is None
    for one, other in zip(cell.unroll(xs, lengths, state), engines.loop(cell, xs, lengths, state), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", [scan, by_pairs])
def test_a_scan_is_one_step_after_another(way: Callable[..., Tensor], size: int) -> None:
    a, b, h = random(3, size, 4).sigmoid(), random(3, size, 4, seed=1), random(3, 4, seed=2)
    hs = way(a, b, h)
    for t in range(size):
        h = a[:, t] * h + b[:, t]
        torch.testing.assert_close(hs[:, t], h, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_pairs_and_steps_give_the_same_gradients(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a GPU, here on the CPU."""

    def gradients() -> tuple[Tensor, ...]:
        inputs = [random(2, size, 3).sigmoid(), random(2, size, 3, seed=1), random(2, 3, seed=2)]
        inputs = [tensor.requires_grad_() for tensor in inputs]
        return torch.autograd.grad((scan(*inputs) * random(2, size, 3, seed=3)).sum(), inputs)

    stepped = gradients()
    monkeypatch.setattr("nmt_parallel.scan._steps_are_faster", lambda device: False)
    for one, other in zip(gradients(), stepped, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_gradients_of_the_scans_are_those_of_finite_differences() -> None:
    a, b, h = random(2, 5, 3).sigmoid(), random(2, 5, 3, seed=1), random(2, 3, seed=2)
    v = random(3, seed=3)
    inputs = [tensor.requires_grad_() for tensor in (a, b, h)]
    assert torch.autograd.gradcheck(scan, inputs)
    assert torch.autograd.gradcheck(peephole_scan, (a, b, v.requires_grad_(), h))


@pytest.mark.parametrize("way", [scan, by_pairs])
def test_float32_stays_exact_where_products_of_gates_underflow(way: Callable[..., Tensor]) -> None:
    """Shut, open and nearly shut gates: what divides by a product of them, or takes its logarithm, gives no number."""
    a = torch.tensor([0.0, 1e-30, 1e-3, 0.5, 1.0])[
        torch.randint(5, (4, 500, 8), generator=torch.Generator().manual_seed(1))
    ]
    b, h = random(4, 500, 8).float(), random(4, 8, seed=1).float()
    exact = scan(a.double(), b.double(), h.double())
    torch.testing.assert_close(way(a, b, h).double(), exact, rtol=1e-5, atol=1e-5)


def test_a_prefix_of_a_scan_is_the_same_to_the_bit() -> None:
    a, b, h = random(2, 70, 3).sigmoid(), random(2, 70, 3, seed=1), random(2, 3, seed=2)
    for way in (scan, by_pairs):
        whole = way(a, b, h)
        for size in SIZES:
            assert torch.equal(way(a[:, :size], b[:, :size], h), whole[:, :size])


def test_half_precision_is_added_up_in_single_precision() -> None:
    a, b, h = torch.ones(1, 1000, 1), torch.full((1, 1000, 1), 1.0), torch.zeros(1, 1)
    hs = scan(a.bfloat16(), b.bfloat16(), h.bfloat16())
    assert hs.dtype == torch.bfloat16
    assert float(hs[0, -1, 0]) == 1000.0  # added up in bfloat16, it would stay at 256


def weights_of(cell: Cell) -> dict[str, np.ndarray]:
    return {name: parameter.detach().numpy() for name, parameter in cell.named_parameters()}


def run(cell: Cell, xs: Tensor, first: Tensor) -> np.ndarray:
    """Outputs ``[T, H]`` of one sentence from a first state."""
    state = (first, *cell.initial_state(1)[1:])
    ys, _ = cell.unroll(xs, torch.tensor([xs.shape[1]]), state)
    return ys[0].detach().numpy()


@pytest.mark.parametrize("kind", ["positive", "linear"])
def test_the_minimal_gru_follows_its_formula(kind: str) -> None:
    cell = stirred(MinGRUCell(3, 2, candidate=kind))
    xs, first, w = random(1, 5, 3, seed=5), random(1, 2, seed=6), weights_of(cell)
    found = run(cell, xs, first)
    for unit in range(2):
        h = float(first[0, unit])
        for t, x in enumerate(xs[0].numpy()):
            z = sigmoid(w["input.weight"][unit] @ x + w["input.bias"][unit])
            total = w["input.weight"][2 + unit] @ x + w["input.bias"][2 + unit]
            h = (1 - z) * h + z * (positive(total) if kind == "positive" else total)
            assert found[t, unit] == pytest.approx(h, rel=1e-12)


@pytest.mark.parametrize("kind", ["positive", "linear"])
def test_the_minimal_lstm_follows_its_formula(kind: str) -> None:
    cell = stirred(MinLSTMCell(3, 2, candidate=kind))
    xs, first, w = random(1, 5, 3, seed=5), random(1, 2, seed=6), weights_of(cell)
    found = run(cell, xs, first)
    for unit in range(2):
        h = float(first[0, unit])
        for t, x in enumerate(xs[0].numpy()):
            f, i, total = (w["input.weight"][k + unit] @ x + w["input.bias"][k + unit] for k in (0, 2, 4))
            f, i = sigmoid(f), sigmoid(i)
            h = f / (f + i) * h + i / (f + i) * (positive(total) if kind == "positive" else total)
            assert found[t, unit] == pytest.approx(h, rel=1e-12)


def test_the_minimal_lstm_stays_a_number_where_both_gates_are_shut() -> None:
    cell = MinLSTMCell(1, 1, candidate="positive")
    with torch.no_grad():
        cell.input.weight.zero_()
        cell.input.bias.copy_(torch.tensor([-200.0, -200.0, 3.5]))
    h, _ = cell(torch.zeros(1, 1), (torch.zeros(1, 1),))
    assert h.item() == pytest.approx(2.0)  # half of g(3.5) = 4


@pytest.mark.parametrize("width", [1, 2, 3])
def test_the_quasi_recurrent_network_follows_its_formula(width: int) -> None:
    cell = stirred(QRNNCell(3, 2, width=width))
    xs, first, w = random(1, 5, 3, seed=5), random(1, 2, seed=6), weights_of(cell)
    found = run(cell, xs, first)

    def total(gate: int, unit: int, t: int) -> float:
        seen = [(delay, xs[0, t - delay].numpy()) for delay in range(width) if t >= delay]
        row = 2 * gate + unit
        return w["bias"][row] + sum(w["input.weight"][6 * delay + row] @ x for delay, x in seen)

    for unit in range(2):
        c = float(first[0, unit])
        for t in range(5):
            z, f, o = math.tanh(total(0, unit, t)), sigmoid(total(1, unit, t)), sigmoid(total(2, unit, t))
            c = f * c + (1 - f) * z
            assert found[t, unit] == pytest.approx(o * c, rel=1e-12)


def test_zoneout_keeps_a_unit_in_training_and_its_expectation_after() -> None:
    cell, plain = stirred(QRNNCell(3, 4, zoneout=0.25)), stirred(QRNNCell(3, 4))
    projected = cell.project(random(6, 3))
    state = tuple(random(*tensor.shape, seed=7) for tensor in cell.initial_state(6))
    mask = (random(6, 4, seed=8) > 0).double()
    _, (kept, _) = cell.step(projected, state, (mask,))
    _, (free, _) = plain.step(projected, state)
    torch.testing.assert_close(kept, torch.where(mask == 1, free, state[0]))
    _, (expected, _) = cell.step(projected, state)
    torch.testing.assert_close(expected, 0.25 * state[0] + 0.75 * free)
    assert QRNNCell(3, 4).train().noise(2, 3) == ()
    (drawn,) = cell.train().noise(100, 100)
    assert float(drawn.mean()) == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("peephole", [True, False])
@pytest.mark.parametrize("input_size", [3, 2])
def test_the_simple_recurrent_unit_follows_its_formula(input_size: int, peephole: bool) -> None:
    cell = stirred(SRUCell(input_size, 2, peephole=peephole, highway_bias=-1.0))
    xs, first, w = random(1, 5, input_size, seed=5), random(1, 2, seed=6), weights_of(cell)
    found = run(cell, xs, first)
    v = w["peephole"] if peephole else np.zeros(4)
    alpha = math.sqrt(1 + 2 / math.e)
    for unit in range(2):
        c = float(first[0, unit])
        for t, x in enumerate(xs[0].numpy()):
            u, x_f, x_r = (w["input.weight"][k + unit] @ x for k in (0, 2, 4))
            f = sigmoid(x_f + w["bias"][unit] + v[unit] * c)
            r = sigmoid(x_r + w["bias"][2 + unit] + v[2 + unit] * c)
            c = f * c + (1 - f) * u
            skipped = x[unit] if input_size == 2 else w["skip.weight"][unit] @ x
            assert found[t, unit] == pytest.approx(r * c + (1 - r) * alpha * skipped, rel=1e-12)


def test_biases_start_where_the_options_say() -> None:
    assert MinLSTMCell(3, 2, forget_bias=1.5).input.bias.tolist() == [1.5, 1.5, 0.0, 0.0, 0.0, 0.0]
    assert SRUCell(3, 2, highway_bias=-2.0).bias.tolist() == [0.0, 0.0, -2.0, -2.0]
