"""The engines: each gives what the plain loop gives, for every installed cell, in outputs, states and gradients."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nmt.cells import engines
from nmt.cells.cell import Cell
from nmt.cells.gathered import Gathering
from nmt.cells.layers import CellStack
from nmt.cells.state import Noise, State
from nmt.model.feeding import Feeding
from nmt.options import Choice
from nmt.recipe import Recipe
from nmt.registry import CELL, available
from nmt.training.run import train

CELLS = sorted(available(CELL))
LENGTHS = torch.tensor([6, 1, 3, 5])
NEAR = {torch.float64: 1e-10, torch.float32: 1e-5}


def apart(one: Tensor, other: Tensor) -> float:
    """Relative to the larger of the second, or to 1e-3 where that is nearly nothing."""
    one, other = one.detach(), other.detach()
    return float((one - other).abs().max() / other.abs().max().clamp_min(1e-3)) if other.numel() else 0.0


def measured(cell: Cell, unroll: engines.Unroll, lengths: Tensor = LENGTHS) -> dict[str, Tensor]:
    """Outputs, final states and the gradients of inputs, first state and parameters, the same random numbers in all."""
    generator = torch.Generator().manual_seed(2)
    dtype = next(cell.parameters()).dtype
    xs = torch.randn(4, 6, cell.input_size, generator=generator, dtype=dtype).requires_grad_()
    zeros = cell.initial_state(4)
    state = tuple(torch.rand(t.shape, generator=generator, dtype=dtype).requires_grad_() for t in zeros)
    state = tuple(one if one.dim() == 2 else zero.requires_grad_() for one, zero in zip(state, zeros, strict=True))
    torch.manual_seed(3)
    ys, final = unroll(cell, xs, lengths, state)
    total = sum((t * torch.randn(t.shape, generator=generator, dtype=dtype)).sum() for t in (ys, *final))
    given = {"inputs": xs, **{f"state {i}": t for i, t in enumerate(state)}, **dict(cell.named_parameters())}
    gradients = torch.autograd.grad(total, list(given.values()), allow_unused=True, materialize_grads=True)
    return {
        "outputs": ys,
        **{f"final {index}": tensor for index, tensor in enumerate(final)},
        **{f"gradient of {name}": gradient for name, gradient in zip(given, gradients, strict=True)},
    }


def built(name: str, dtype: torch.dtype = torch.float64, input_size: int = 5, hidden_size: int = 8) -> Cell:
    torch.manual_seed(1)
    return Choice(name).build(CELL, input_size, hidden_size).to(dtype)


@pytest.mark.parametrize("dtype", NEAR, ids=str)
@pytest.mark.parametrize("engine", sorted(set(engines.ENGINES) - {"loop"}))
@pytest.mark.parametrize("name", CELLS)
def test_an_engine_gives_what_the_loop_gives(name: str, engine: str, dtype: torch.dtype) -> None:
    cell = built(name, dtype)
    for lengths in (LENGTHS, torch.full((4,), 6)):
        expected = measured(cell, engines.loop, lengths)
        for what, found in measured(cell, engines.ENGINES[engine], lengths).items():
            assert apart(found, expected[what]) < NEAR[dtype], what


@pytest.mark.parametrize("name", CELLS)
def test_the_input_layer_is_all_that_project_is(name: str) -> None:
    cell = built(name)
    layer = cell.input_layer()
    if layer is not None:
        xs = torch.randn(3, 5, dtype=torch.float64)
        assert apart(cell.project(xs), layer(xs)) == 0.0


def test_a_backward_pass_forgets_what_another_left_behind() -> None:
    linear = nn.Linear(3, 2).double()
    first, second = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    with Gathering(0):
        one, other = linear(first), linear(second)
    torch.autograd.grad(one.sum(), [first], retain_graph=True)  # sees a product, but never gathers
    found = torch.autograd.grad(other.sum(), list(linear.parameters()), retain_graph=True)
    again = torch.autograd.grad(other.sum(), list(linear.parameters()))
    expected = torch.autograd.grad(linear(second).sum(), list(linear.parameters()))
    for each in (found, again):
        assert all(torch.equal(one, other) for one, other in zip(each, expected, strict=True))


def test_weights_that_need_no_gradient_get_none() -> None:
    linear = nn.Linear(3, 2).double()
    linear.weight.requires_grad_(False)
    xs = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    with Gathering(0):
        ys = linear(xs)
    ys.sum().backward()
    assert linear.weight.grad is None
    assert linear.bias.grad is not None and torch.equal(linear.bias.grad, torch.full((2,), 4.0, dtype=torch.float64))
    assert xs.grad is not None


def test_small_weights_and_what_is_no_product_are_left_alone() -> None:
    linear, xs = nn.Linear(3, 2), torch.randn(4, 3)
    with Gathering(7):
        ys = linear(xs)
    assert type(ys.grad_fn).__name__ == "AddmmBackward0"
    with Gathering(6):
        assert type(linear(xs).grad_fn.next_functions[0][0]).__name__ == "_ProductBackward"


def test_products_are_made_in_the_type_that_autocast_asks_for() -> None:
    cell = built("mgu" if "mgu" in CELLS else "gru", torch.float32)
    xs = torch.randn(4, 6, 5)

    def run(unroll: engines.Unroll) -> list[Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ys, _ = unroll(cell, xs, LENGTHS, cell.initial_state(4))
        return [ys, *torch.autograd.grad(ys.float().sum(), list(cell.parameters()))]

    for found, expected in zip(run(engines.gathered), run(engines.loop), strict=True):
        assert found.dtype is expected.dtype
        assert apart(found.float(), expected.float()) < 0.05


def test_a_stack_is_projected_by_its_bottom_cell() -> None:
    cells = [built("lstm"), built("gru", input_size=8)]
    stack = CellStack(cells, engines.own, dropout=0.0, residual=False)
    assert stack.input_layer() is cells[0].input_layer()
    xs = torch.randn(4, 6, 5, dtype=torch.float64)
    assert torch.equal(stack.project(xs), cells[0].project(xs))


class Plain(Cell):
    """A cell without an `unroll` of its own."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.recurrent = nn.Linear(hidden_size, hidden_size)

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        h = torch.tanh(self.recurrent(state[0]))
        return h, (h,)


STEPS = "steps (large weights gathered)"


@pytest.mark.parametrize(
    ("engine", "plain", "lstm"),
    [
        ("auto", STEPS, "fused"),
        ("fused", f"{STEPS}, since it has no kernel of its own", "fused"),
        ("loop", "loop", "loop"),
        ("gathered", "gathered", "gathered"),
        ("graph", f"{STEPS}, since graphs need a GPU", "fused, since graphs need a GPU"),
    ],
)
def test_what_runs_a_cell_is_told_in_words(engine: engines.Engine, plain: str, lstm: str) -> None:
    cpu = torch.device("cpu")
    assert engines.in_words(engine, Plain, cpu) == plain
    assert engines.in_words(engine, type(built("lstm")), cpu) == lstm


def test_on_a_gpu_graphs_are_there_but_have_to_be_asked_for() -> None:
    gpu = torch.device("cuda")
    assert engines.in_words("graph", Plain, gpu) == "graph"
    assert engines.in_words("graph", Feeding, gpu) == "graph"
    assert engines.in_words("auto", Plain, gpu) == "steps"


@pytest.mark.parametrize("name", CELLS)
def test_cells_that_have_no_way_of_their_own_go_by_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, ran = built(name), []
    by_steps = engines.by_steps
    monkeypatch.setattr(engines, "by_steps", lambda *given: ran.append(name) or by_steps(*given))
    measured(cell, engines.ENGINES["fused"])
    assert bool(ran) is not type(cell).unrolls_itself()


def test_training_says_what_runs_which_cell(
    small_recipe: Callable[..., Recipe], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = small_recipe("train.updates=1", "model.encoder.cell=gru", "model.decoder.input_feeding=true")
    train(recipe, out=tmp_path / "run")
    line = f"{recipe.name}: engine auto; encoder gru: fused; decoder lstm with input feeding: {STEPS}"
    assert capfd.readouterr().err.splitlines()[1] == line
