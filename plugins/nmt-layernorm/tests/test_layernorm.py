"""The layer-normalised cells: their contract, their formulas worked out a unit at a time, and their noise."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from nmt_layernorm.gru import LayerNormGRUCell
from nmt_layernorm.lstm import LayerNormLSTMCell
from torch import Tensor

from nmt.cells import engines
from nmt.cells.cell import Cell
from nmt.cells.state import at_step
from nmt.options import OptionError, check_options
from nmt.testing import check_cell

INPUT_SIZE, H = 3, 4
ALL_OF_LSTM = {"recurrent_dropout": 0.3, "variational_dropout": 0.2, "zoneout_hidden": 0.1, "zoneout_cell": 0.4}
ALL_OF_GRU = {"recurrent_dropout": 0.3, "variational_dropout": 0.2, "zoneout": 0.1}


@pytest.mark.parametrize("options", [{}, {"forget_bias": -1.0}, *({k: v} for k, v in ALL_OF_LSTM.items()), ALL_OF_LSTM])
def test_the_lstm_keeps_the_contract_of_cells(options: dict[str, float]) -> None:
    check_cell(LayerNormLSTMCell, **options)


@pytest.mark.parametrize("options", [{}, *({k: v} for k, v in ALL_OF_GRU.items()), ALL_OF_GRU])
def test_the_gru_keeps_the_contract_of_cells(options: dict[str, float]) -> None:
    check_cell(LayerNormGRUCell, **options)


def some(component: type[Cell], **options: float) -> Cell:
    """A cell with nothing left at 0 or 1, gains and biases included."""
    cell = component(INPUT_SIZE, H, **options).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.double))
    return cell


def some_values(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def weights(cell: Cell, name: str) -> np.ndarray:
    return cell.get_parameter(name).detach().numpy()


def product(matrix: np.ndarray, vector: list[float]) -> list[float]:
    return [sum(float(m) * v for m, v in zip(row, vector, strict=True)) for row in matrix]


def normalized(cell: Cell, name: str, a: list[float]) -> list[float]:
    """LN(a; α, β), a unit at a time."""
    mean = sum(a) / len(a)
    deviation = math.sqrt(sum((unit - mean) ** 2 for unit in a) / len(a) + 1e-5)
    gain, bias = weights(cell, f"{name}.weight"), weights(cell, f"{name}.bias")
    return [gain[u] * (a[u] - mean) / deviation + bias[u] for u in range(len(a))]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


Masks = dict[str, list[float]]
ONES, ZEROS = [1.0] * H, [0.0] * H


def lstm_by_hand(
    cell: Cell, x: list[float], h: list[float], c: list[float], masks: Masks
) -> tuple[list[float], list[float]]:
    read = [unit * mask for unit, mask in zip(h, masks.get("read", ONES), strict=True)]
    a = normalized(cell, "recurrent_norm", product(weights(cell, "recurrent.weight"), read))
    b = normalized(cell, "input_norm", product(weights(cell, "input.weight"), x))
    i, f, g, o = ([a[k * H + u] + b[k * H + u] for u in range(H)] for k in range(4))
    dropped = masks.get("candidate", ONES)
    new_c = [sigmoid(f[u]) * c[u] + sigmoid(i[u]) * math.tanh(g[u]) * dropped[u] for u in range(H)]
    inner = normalized(cell, "cell_norm", new_c)
    new_h = [sigmoid(o[u]) * math.tanh(inner[u]) for u in range(H)]
    stay_h, stay_c = masks.get("zone_h", ZEROS), masks.get("zone_c", ZEROS)
    return (
        [stay_h[u] * h[u] + (1 - stay_h[u]) * new_h[u] for u in range(H)],
        [stay_c[u] * c[u] + (1 - stay_c[u]) * new_c[u] for u in range(H)],
    )


def gru_by_hand(cell: Cell, x: list[float], h: list[float], masks: Masks) -> list[float]:
    read = [unit * mask for unit, mask in zip(h, masks.get("read", ONES), strict=True)]
    w, r_matrix = weights(cell, "input.weight"), weights(cell, "recurrent.weight")
    x_gates = normalized(cell, "input_gates_norm", product(w[: 2 * H], x))
    h_gates = normalized(cell, "recurrent_gates_norm", product(r_matrix[: 2 * H], read))
    x_n = normalized(cell, "input_candidate_norm", product(w[2 * H :], x))
    h_n = normalized(cell, "recurrent_candidate_norm", product(r_matrix[2 * H :], read))
    new_h = []
    for u in range(H):
        z, r = sigmoid(x_gates[u] + h_gates[u]), sigmoid(x_gates[H + u] + h_gates[H + u])
        n = math.tanh(x_n[u] + r * h_n[u]) * masks.get("candidate", ONES)[u]
        stay = masks.get("zone_h", ZEROS)[u]
        new_h.append(stay * h[u] + (1 - stay) * ((1 - z) * h[u] + z * n))
    return new_h


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.double)


def masks_at(noise: tuple[object, ...], t: int) -> Masks:
    """Row 0's masks of a step, by what they are of."""
    candidate, read, zones = noise
    named = {"candidate": candidate, "read": read} | dict(zip(("zone_h", "zone_c"), zones, strict=False))
    return {name: mask[0, t].tolist() for name, mask in named.items() if isinstance(mask, Tensor)}


@pytest.mark.parametrize("options", [{}, ALL_OF_LSTM])
def test_the_lstm_follows_its_formula_step_by_step_with_the_noise_it_draws(options: dict[str, float]) -> None:
    cell = some(LayerNormLSTMCell, **options).train()
    xs, h, c = some_values(5, INPUT_SIZE, seed=2).tolist(), *some_values(2, H, seed=3).tolist()
    noise = cell.noise(1, 5)
    state = (tensor([h]), tensor([c]))
    for t, x in enumerate(xs):
        _, state = cell.step(cell.project(tensor([x])), state, at_step(noise, t))
        h, c = lstm_by_hand(cell, x, h, c, masks_at(noise, t) if noise else {})
        np.testing.assert_allclose(state[0][0].detach().numpy(), h, rtol=1e-10)
        np.testing.assert_allclose(state[1][0].detach().numpy(), c, rtol=1e-10)


@pytest.mark.parametrize("options", [{}, ALL_OF_GRU])
def test_the_gru_follows_its_formula_step_by_step_with_the_noise_it_draws(options: dict[str, float]) -> None:
    cell = some(LayerNormGRUCell, **options).train()
    xs, h = some_values(5, INPUT_SIZE, seed=2).tolist(), some_values(H, seed=3).tolist()
    noise = cell.noise(1, 5)
    state = (tensor([h]),)
    for t, x in enumerate(xs):
        _, state = cell.step(cell.project(tensor([x])), state, at_step(noise, t))
        h = gru_by_hand(cell, x, h, masks_at(noise, t) if noise else {})
        np.testing.assert_allclose(state[0][0].detach().numpy(), h, rtol=1e-10)


def test_in_evaluation_zoneout_gives_its_mean_and_dropouts_nothing() -> None:
    x, h, c = some_values(INPUT_SIZE, seed=2).tolist(), *some_values(2, H, seed=3).tolist()
    lstm, gru = some(LayerNormLSTMCell, **ALL_OF_LSTM).eval(), some(LayerNormGRUCell, **ALL_OF_GRU).eval()
    mean = {"zone_h": [0.1] * H, "zone_c": [0.4] * H}
    _, state = lstm(tensor([x]), (tensor([h]), tensor([c])))
    np.testing.assert_allclose(torch.cat(state).detach().numpy(), lstm_by_hand(lstm, x, h, c, mean), rtol=1e-10)
    y, _ = gru(tensor([x]), (tensor([h]),))
    np.testing.assert_allclose(y[0].detach().numpy(), gru_by_hand(gru, x, h, mean), rtol=1e-10)


@pytest.mark.parametrize("component", [LayerNormLSTMCell, LayerNormGRUCell])
def test_a_new_cell_has_gains_of_1_and_biases_of_0_but_the_forget_gates(component: type[Cell]) -> None:
    cell = component(INPUT_SIZE, H)
    gains = torch.cat([cell.get_parameter(name) for name, _ in cell.named_parameters() if name.endswith("norm.weight")])
    biases = torch.cat([cell.get_parameter(name) for name, _ in cell.named_parameters() if name.endswith("norm.bias")])
    assert torch.equal(gains, torch.ones_like(gains))
    assert biases.sum() == (H if component is LayerNormLSTMCell else 0)
    assert biases.count_nonzero() == (H if component is LayerNormLSTMCell else 0)


def test_the_forget_gate_starts_where_the_option_says() -> None:
    bias = LayerNormLSTMCell(INPUT_SIZE, H, forget_bias=2.5).input_norm.bias
    assert bias.tolist() == [0.0] * H + [2.5] * H + [0.0] * 2 * H


@pytest.mark.parametrize("component", [LayerNormLSTMCell, LayerNormGRUCell])
def test_the_size_of_weights_makes_no_difference(component: type[Cell]) -> None:
    cell, scaled = some(component), some(component)
    with torch.no_grad():
        scaled.input.weight.mul_(30.0)
        scaled.recurrent.weight.mul_(0.2)
    xs, state = (
        tensor(some_values(2, 6, INPUT_SIZE, seed=4)),
        tuple(tensor(some_values(2, H, seed=5)) for _ in cell.state_shapes),
    )
    lengths = torch.tensor([6, 4])
    one, _ = cell.unroll(xs, lengths, state)
    other, _ = scaled.unroll(xs, lengths, state)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)  # but for the ε below the root


ROWS, STEPS = 40, 50


def drawn(component: Callable[..., Cell], **options: float) -> tuple[object, object, tuple[object, ...]]:
    torch.manual_seed(6)
    candidate, read, zones = component(INPUT_SIZE, H, **options).train().noise(ROWS, STEPS)
    return candidate, read, zones


@pytest.mark.parametrize(
    ("component", "zoneout"), [(LayerNormLSTMCell, "zoneout_hidden"), (LayerNormGRUCell, "zoneout")]
)
def test_zoneout_keeps_units_at_its_rate_anew_at_each_step(component: type[Cell], zoneout: str) -> None:
    candidate, read, zones = drawn(component, **{zoneout: 0.25})
    assert (candidate, read, zones[1:]) == ((), (), ((),) * (len(zones) - 1))
    assert isinstance(zones[0], Tensor)
    assert set(zones[0].flatten().tolist()) == {0.0, 1.0}
    assert float(zones[0].mean()) == pytest.approx(0.25, abs=0.03)
    assert (zones[0] != zones[0][:, :1]).any()


@pytest.mark.parametrize("component", [LayerNormLSTMCell, LayerNormGRUCell])
def test_recurrent_dropout_draws_at_each_step_and_keeps_the_mean(component: type[Cell]) -> None:
    mask, read, zones = drawn(component, recurrent_dropout=0.25)
    assert read == ()
    assert set(zones) == {()}
    assert isinstance(mask, Tensor)
    assert mask.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.04)
    assert (mask != mask[:, :1]).any()


@pytest.mark.parametrize("component", [LayerNormLSTMCell, LayerNormGRUCell])
def test_variational_dropout_draws_once_a_sequence(component: type[Cell]) -> None:
    candidate, mask, _ = drawn(component, variational_dropout=0.25)
    assert candidate == ()
    assert isinstance(mask, Tensor)
    assert mask.shape == (ROWS, STEPS, H)
    assert torch.equal(mask, mask[:, :1].expand_as(mask))
    assert mask.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.2)  # of 160 draws


@pytest.mark.parametrize("component", [LayerNormLSTMCell, LayerNormGRUCell])
def test_rates_of_0_draw_no_random_numbers(component: type[Cell]) -> None:
    cell = component(INPUT_SIZE, H).train()
    before = torch.get_rng_state()
    assert cell.noise(ROWS, STEPS) == ()
    cell.unroll(torch.ones(2, 3, INPUT_SIZE), torch.tensor([3, 2]), cell.initial_state(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_zoneout_of_almost_1_keeps_the_state() -> None:
    cell = some(LayerNormLSTMCell, zoneout_hidden=1 - 1e-9, zoneout_cell=1 - 1e-9).train()
    state = (tensor(some_values(2, H, seed=7)), tensor(some_values(2, H, seed=8)))
    _, final = engines.loop(cell, tensor(some_values(2, 9, INPUT_SIZE, seed=9)), torch.tensor([9, 5]), state)
    assert all(torch.equal(one, other) for one, other in zip(state, final, strict=True))


@pytest.mark.parametrize("option", ALL_OF_LSTM)
@pytest.mark.parametrize("rate", [1.0, -0.1])
def test_a_rate_that_is_no_probability_below_1_is_refused(option: str, rate: float) -> None:
    with pytest.raises(OptionError) as caught:
        check_options(LayerNormLSTMCell, {option: rate})
    assert caught.value.path == (option,)
