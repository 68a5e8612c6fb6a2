"""The recurrence: every installed cell, one way and both ways, against the loop and against torch.nn."""

import pytest
import torch
from torch import Tensor, nn

from nmt.cells import engines
from nmt.cells.cell import Cell
from nmt.cells.dropout import dropped
from nmt.cells.elman import ElmanCell
from nmt.cells.gru import GRUCell
from nmt.cells.layers import BothWays, CellStack, LayerStack, OneWay
from nmt.cells.lstm import LSTMCell
from nmt.cells.state import Noise, State, at_step
from nmt.options import Choice
from nmt.products import Product, plain
from nmt.registry import CELL, available

CELLS = [*(Choice(name) for name in available(CELL)), Choice("elman", {"nonlinearity": "relu"})]
LENGTHS = torch.tensor([6, 1, 3, 5])
TOLERANCE = 1e-12


def label(choice: Choice) -> str:
    return "-".join([choice.name, *map(str, choice.options.values())])


def built(choice: Choice, input_size: int = 5, hidden_size: int = 7) -> Cell:
    torch.manual_seed(1)
    return choice.build(CELL, input_size, hidden_size).double()


def some_input(size: int = 5) -> Tensor:
    return torch.randn(4, 6, size, dtype=torch.double, generator=torch.Generator().manual_seed(2))


def some_state(cell: Cell) -> tuple[Tensor, ...]:
    return tuple(torch.rand_like(tensor) for tensor in cell.initial_state(4))


def close(one: Tensor, other: Tensor) -> bool:
    return bool(torch.allclose(one, other, rtol=1e-10, atol=TOLERANCE))


@pytest.fixture(params=CELLS, ids=label)
def cell(request: pytest.FixtureRequest) -> Cell:
    return built(request.param)


def test_unrolling_equals_stepping_in_outputs_states_and_gradients(cell: Cell) -> None:
    xs, state = some_input(), some_state(cell)

    def measured(unroll: engines.Unroll) -> list[Tensor]:
        inputs = xs.clone().requires_grad_()
        ys, final = unroll(cell, inputs, LENGTHS, state)
        weighted = sum((tensor * torch.arange(1, tensor.numel() + 1).view_as(tensor)).sum() for tensor in (ys, *final))
        return [ys, *final, *torch.autograd.grad(weighted, [inputs, *cell.parameters()])]

    for fused, looped in zip(measured(engines.own), measured(engines.loop), strict=True):
        assert close(fused, looped)


def test_stepping_by_hand_equals_the_loop(cell: Cell) -> None:
    xs, state = some_input(), some_state(cell)
    ys, final = engines.loop(cell, xs, LENGTHS, state)
    for row, length in enumerate(LENGTHS.tolist()):
        own = tuple(tensor[row : row + 1] for tensor in state)
        for t in range(length):
            y, own = cell(xs[row : row + 1, t], own)
            assert close(ys[row : row + 1, t], y)
        assert all(close(tensor[row : row + 1], single) for tensor, single in zip(final, own, strict=True))
        assert not ys[row, length:].any()


@pytest.mark.parametrize("unroll", [engines.own, engines.loop], ids=["own", "loop"])
def test_padding_is_never_read_not_even_by_gradients(cell: Cell, unroll: engines.Unroll) -> None:
    xs, state = some_input(), some_state(cell)
    poisoned = xs.clone()
    for row, length in enumerate(LENGTHS.tolist()):
        poisoned[row, length:] = float("nan")
    clean, _ = unroll(cell, xs, LENGTHS, state)
    ys, final = unroll(cell, poisoned.requires_grad_(), LENGTHS, state)
    assert close(ys, clean)
    gradients = torch.autograd.grad(ys.sum() + sum(t.sum() for t in final), [poisoned, *cell.parameters()])
    assert not any(gradient.isnan().any() for gradient in gradients)


def test_a_step_changes_none_of_its_inputs(cell: Cell) -> None:
    projected, state = cell.project(some_input()[:, 0]).detach(), some_state(cell)
    before = [projected.clone(), *(tensor.clone() for tensor in state)]
    _, following = cell.step(projected, state)
    assert all(torch.equal(one, other) for one, other in zip(before, [projected, *state], strict=True))
    assert [tensor.shape for tensor in following] == [tensor.shape for tensor in state]


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "both-ways"])
def test_a_sentence_gives_the_same_states_alone_and_in_any_batch(cell: Cell, bidirectional: bool) -> None:
    other = built(Choice("gru"))
    layer = BothWays(cell, other, engines.own) if bidirectional else OneWay(cell, engines.own)
    xs = some_input()
    ys, summary = layer(xs, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone, alone_summary = layer(xs[row : row + 1, :length], LENGTHS[row : row + 1])
        assert close(ys[row : row + 1, :length], alone)
        assert close(summary[row : row + 1], alone_summary)


def test_reversing_twice_gives_the_same_again() -> None:
    xs = some_input()
    turned = engines.reverse(xs, LENGTHS)
    assert torch.equal(engines.reverse(turned, LENGTHS), xs)
    assert torch.equal(turned[2, :3], xs[2, :3].flip(0))
    assert torch.equal(turned[2, 3:], xs[2, 3:])


def test_a_both_ways_layer_starts_its_summary_where_each_direction_ends() -> None:
    layer = BothWays(built(Choice("gru")), built(Choice("gru")), engines.own)
    ys, summary = layer(some_input(), LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        assert torch.equal(summary[row], torch.cat([ys[row, length - 1, :7], ys[row, 0, 7:]]))


def copy_weights(cell: Cell, reference: nn.RNNBase, layer: int, suffix: str) -> None:
    """torch's weights into ours; torch has two biases where one does, so ours gets their sum."""
    with torch.no_grad():
        bias = getattr(reference, f"bias_ih_l{layer}{suffix}"), getattr(reference, f"bias_hh_l{layer}{suffix}")
        cell.input.weight.copy_(getattr(reference, f"weight_ih_l{layer}{suffix}"))
        cell.recurrent.weight.copy_(getattr(reference, f"weight_hh_l{layer}{suffix}"))
        if cell.recurrent.bias is None:
            cell.input.bias.copy_(bias[0] + bias[1])
        else:
            cell.input.bias.copy_(bias[0])
            cell.recurrent.bias.copy_(bias[1])


@pytest.mark.parametrize(
    ("ours", "theirs"), [(LSTMCell, nn.LSTM), (GRUCell, nn.GRU), (ElmanCell, nn.RNN)], ids=["lstm", "gru", "elman"]
)
def test_bidirectional_stacks_equal_torch_given_its_weights(ours: type[Cell], theirs: type[nn.RNNBase]) -> None:
    reference = theirs(5, 7, num_layers=3, batch_first=True, bidirectional=True).double()
    layers = []
    for index in range(3):
        cells = [ours(5 if index == 0 else 14, 7).double() for _ in range(2)]
        for cell, suffix in zip(cells, ("", "_reverse"), strict=True):
            copy_weights(cell, reference, index, suffix)
        layers.append(BothWays(*cells, engines.own))
    xs = some_input()
    packed = nn.utils.rnn.pack_padded_sequence(xs, LENGTHS, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(reference(packed)[0], batch_first=True)
    assert close(LayerStack(layers, dropout=0.0, residual=False)(xs, LENGTHS)[0], expected)


@pytest.mark.parametrize("residual", [False, True])
def test_a_stack_of_cells_is_a_cell(residual: bool) -> None:
    cells = [built(Choice("lstm")), built(Choice("gru"), 7), built(Choice("elman"), 7)]
    stack = CellStack(cells, engines.own, dropout=0.3, residual=residual).eval()
    xs, state = some_input(), some_state(stack)
    ys, final = stack.unroll(xs, LENGTHS, state)
    looped, looped_final = engines.loop(stack, xs, LENGTHS, state)
    assert close(engines.cleared(ys, LENGTHS), looped)
    assert all(close(one, other) for one, other in zip(final, looped_final, strict=True))


class Zoned(Cell):
    """h' = z ∘ h + (1 - z) ∘ tanh(x + d ∘ h): a mask z for each step and a mask d for the sequence."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.input = nn.Linear(input_size, hidden_size)

    def project(self, xs: Tensor) -> Tensor:
        return self.input(xs)

    def noise(self, rows: int, steps: int) -> Noise:
        if not self.training:
            return ()
        like = self.input.bias
        d = (like.new_empty(rows, self.hidden_size).bernoulli_(0.5)[:, None]).expand(-1, steps, -1)
        return like.new_empty(rows, steps, self.hidden_size).bernoulli_(0.5), d

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        (h,) = state
        z, d = noise or (0.5, 1.0)
        h = z * h + (1 - z) * torch.tanh(projected + d * h)
        return h, (h,)


def test_noise_is_drawn_once_a_sequence_and_given_out_step_by_step() -> None:
    torch.manual_seed(4)
    stack = CellStack([Zoned(5, 7), Zoned(7, 7)], engines.own, dropout=0.0, residual=False).double().train()
    xs, state = some_input(), some_state(stack)
    torch.manual_seed(5)
    unrolled, _ = stack.unroll(xs, LENGTHS, state)
    torch.manual_seed(5)
    noise = stack.noise(4, 6)
    outputs = []
    for t in range(6):
        y, state = stack.step(stack.project(xs[:, t]), state, at_step(noise, t))
        outputs.append(y)
    assert close(unrolled, engines.cleared(torch.stack(outputs, 1), LENGTHS))
    (own, units), _ = noise
    assert not torch.equal(own[0][:, 0], own[0][:, 1])
    assert torch.equal(own[1][:, 0], own[1][:, 1])
    assert units == ()
    assert stack.eval().noise(4, 6) == (((), ()), ((), ()))


def test_dropout_in_steps_drops_as_many_units_as_it_says_and_keeps_the_mean() -> None:
    cells = [built(Choice("gru")), built(Choice("gru"), 7)]
    stack = CellStack(cells, engines.own, dropout=0.3, residual=False).train()
    torch.manual_seed(1)
    (_, nothing), (_, (units,)) = stack.noise(500, 20)
    assert nothing == () and units.shape == (500, 20, 7)
    assert float(units.float().mean()) == pytest.approx(0.3, abs=0.01)
    assert not torch.equal(units[:, 0], units[:, 1])
    kept = dropped(torch.ones(500, 7), at_step((units,), 3), 0.3)
    assert torch.equal(kept == 0.0, units[:, 3])
    assert torch.allclose(kept[kept != 0.0], torch.tensor(1 / 0.7))
    assert dropped(kept, (), 0.3) is kept
    assert stack.eval().noise(4, 6) == (((), ()), ((), ()))


def test_residual_layers_add_their_input_to_outputs_and_summary() -> None:
    layers = [OneWay(built(Choice("gru")), engines.own), OneWay(built(Choice("gru"), 7), engines.own)]
    stack = LayerStack(layers, dropout=0.0, residual=True)
    ys, summary = stack(some_input(), LENGTHS)
    below, below_summary = layers[0](some_input(), LENGTHS)
    above, above_summary = layers[1](below, LENGTHS)
    assert close(ys, below + above)
    assert close(summary, below_summary + above_summary)


def test_the_forget_gate_starts_where_the_option_says() -> None:
    bias = Choice("lstm", {"forget_bias": 2.5}).build(CELL, 5, 7).input.bias
    assert bias.tolist() == [0.0] * 7 + [2.5] * 7 + [0.0] * 14


def test_the_lstm_follows_its_formula() -> None:
    cell = built(Choice("lstm"), 1, 1)
    with torch.no_grad():
        cell.input.weight.fill_(0.5)
        cell.input.bias.fill_(0.1)
        cell.recurrent.weight.fill_(-0.25)
    x, h, c = (torch.tensor([[number]], dtype=torch.double) for number in (2.0, 0.4, -0.3))
    gate = 0.5 * x + 0.1 - 0.25 * h
    new_c = gate.sigmoid() * c + gate.sigmoid() * gate.tanh()
    y, (_, y_c) = cell(x, (h, c))
    assert close(y, gate.sigmoid() * new_c.tanh())
    assert close(y_c, new_c)


@pytest.mark.parametrize(("kind", "products"), [(ElmanCell, 1), (LSTMCell, 1), (GRUCell, 2)])
def test_what_hypotheses_of_one_parent_share_is_multiplied_once(kind: type[Cell], products: int) -> None:
    torch.manual_seed(1)
    cell, multiplied = kind(6, 5), []

    def counted(weight: torch.Tensor, bias: torch.Tensor | None) -> Product:
        def product(xs: torch.Tensor) -> torch.Tensor:
            multiplied.append(len(xs))
            return plain(weight, bias)(xs)

        return product

    layer = cell.input_layer()
    assert layer is not None
    branching = cell.branching(counted, layer.weight[:, 2:])
    rows = 2
    branch = branching(cell.initial_state(rows), torch.tensor([0, 1, 1, 0, 1]), (torch.randn(rows, 4),))
    branch(cell.project(torch.randn(5, 6)))
    assert multiplied == [rows] * products  # an LSTM's and an Elman network's with what is fed, together
