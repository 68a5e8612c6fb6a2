"""The engine `compiled`: its bookkeeping with a stand-in for the compiler, and torch's where there is one."""

import copy
import os
from collections.abc import Callable, Iterator

import pytest
import torch
from stand_ins import Compiling
from torch import Tensor, nn

from nmt.cells import compiled, engines
from nmt.cells.cell import Cell
from nmt.cells.compiled import Compiled, TorchCompiler
from nmt.cells.layers import OneWay
from nmt.cells.state import Noise, State
from nmt.cells.trial import difference, in_a_line
from nmt.options import Choice
from nmt.registry import CELL, available

LENGTHS = torch.tensor([6, 1, 3, 5])


class Masked(Cell):
    """h' = m ∘ tanh(W x + R h), a mask m for each step."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.input = nn.Linear(input_size, hidden_size)
        self.recurrent = nn.Linear(hidden_size, hidden_size, bias=False)

    def project(self, xs: Tensor) -> Tensor:
        return self.input(xs)

    def noise(self, rows: int, steps: int) -> Noise:
        return (torch.rand(rows, steps, 1, dtype=self.input.weight.dtype),) if self.training else ()

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        h = torch.tanh(projected + self.recurrent(state[0]))
        for mask in noise:
            h = h * mask
        return h, (h,)


def built(seed: int = 1) -> Cell:
    torch.manual_seed(seed)
    return Masked(5, 7).double()


def measured(cell: Cell, unroll: engines.Unroll, lengths: Tensor = LENGTHS) -> list[Tensor]:
    """Outputs, final states and, where they are wanted, gradients; the same random numbers each time."""
    generator = torch.Generator().manual_seed(2)
    xs = torch.randn(len(lengths), int(lengths.max()), cell.input_size, generator=generator, dtype=torch.double)
    torch.manual_seed(3)
    ys, final = unroll(cell, xs.requires_grad_(), lengths, cell.initial_state(len(lengths)))
    if not torch.is_grad_enabled():
        return [ys, *final]
    total = sum((tensor * torch.arange(1, tensor.numel() + 1).view_as(tensor)).sum() for tensor in (ys, *final))
    found = torch.autograd.grad(total, [xs, *cell.parameters()], allow_unused=True, materialize_grads=True)
    return [ys, *final, *found]


def same_as_the_loop(cell: Cell, unroll: engines.Unroll, lengths: Tensor = LENGTHS) -> bool:
    pairs = zip(measured(cell, unroll, lengths), measured(cell, engines.loop, lengths), strict=True)
    return all(torch.allclose(one, other, rtol=1e-10, atol=1e-12) for one, other in pairs)


def test_compiled_steps_run_after_one_trial(caplog: pytest.LogCaptureFixture) -> None:
    stand_in = Compiling()
    cell, unroll = built().train(), Compiled(stand_in, engines.own)
    for lengths in (LENGTHS, torch.tensor([2, 9]), LENGTHS):
        assert same_as_the_loop(cell, unroll, lengths)
    assert (stand_in.trials, stand_in.calls) == (1, 6 + 9 + 6)
    assert not caplog.records  # what takes no time is not worth a line


def test_a_copy_of_a_model_has_steps_of_its_own() -> None:
    layer = OneWay(built().eval(), Compiled(Compiling(), engines.own))
    xs = torch.randn(4, 6, 5, dtype=torch.double)
    before, _ = layer(xs, LENGTHS)
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    after, _ = copied(xs, LENGTHS)
    assert torch.equal(after, before) and bool(before.any())


def test_every_mode_has_a_trial_of_its_own() -> None:
    stand_in = Compiling()
    cell, unroll = built(), Compiled(stand_in, engines.own)
    for _ in range(2):
        measured(cell.train(), unroll)
        measured(cell.eval(), unroll)
        with torch.no_grad():
            measured(cell, unroll)
        with torch.inference_mode():
            measured(cell, unroll)
    assert stand_in.trials == 4


def test_a_trial_takes_no_random_numbers_from_anybody() -> None:
    cell, xs = built().train(), torch.randn(4, 6, 5, dtype=torch.double)
    states = []
    for unroll in (engines.loop, Compiled(Compiling(), engines.own)):
        torch.manual_seed(4)
        unroll(cell, xs, LENGTHS, cell.initial_state(4))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.parametrize(
    ("stand_in", "reason"),
    [
        (Compiling(wrong=0.1), "off"),
        (Compiling(wrong=float("nan")), "nan off"),
        (Compiling(error="no compiler:\n\n here\nat\nall"), "no compiler: here at"),
    ],
    ids=["wrong", "nan", "error"],
)
def test_what_fails_its_trial_runs_without_and_it_is_said_once(
    stand_in: Compiling, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    unroll = Compiled(stand_in, engines.own)
    for cell in (built().eval(), built().eval()):
        for _ in range(2):
            assert same_as_the_loop(cell, unroll)
    assert stand_in.calls == 0
    (message,) = {record.getMessage() for record in caplog.records}
    assert len(caplog.records) == 1
    assert message.startswith("Masked runs without a compiler: ") and message.endswith(reason)


def test_when_the_budget_is_spent_nothing_more_is_compiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(range(0, 1000, 70))
    monkeypatch.setattr(compiled.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(compiled, "BUDGET", 140.0)
    stand_in = Compiling()
    unroll = Compiled(stand_in, engines.own)
    cells = [built(seed) for seed in range(4)]
    for cell in [*cells, *cells]:
        assert same_as_the_loop(cell, unroll)
    assert stand_in.trials == 2
    assert [record.getMessage() for record in caplog.records] == [
        "Masked: compiled in 70 s, 70 s in all, none after 140",
        "Masked: compiled in 70 s, 140 s in all, none after 140",
        "Masked runs without a compiler: 140 s of compiling are enough",
    ]


def test_what_would_be_compiled_outside_of_a_trial_runs_without(caplog: pytest.LogCaptureFixture) -> None:
    stand_in = Compiling(known={4})
    cell, unroll = built(), Compiled(stand_in, engines.own)
    for lengths in (LENGTHS, torch.tensor([3, 2, 1]), torch.tensor([3, 2]), LENGTHS):
        assert same_as_the_loop(cell, unroll, lengths)
    assert stand_in.calls == 6 + 6  # the last again
    said = [record.getMessage() for record in caplog.records]
    assert said == ["Masked runs some batches without a compiler: too many rows"]


def test_single_rows_and_single_steps_are_not_compiled() -> None:
    stand_in = Compiling()
    cell, unroll = built(), Compiled(stand_in, engines.own)
    assert same_as_the_loop(cell, unroll, torch.tensor([5]))
    assert same_as_the_loop(cell, unroll, torch.tensor([1, 1]))
    assert stand_in.trials == 0


def test_without_a_compiler_it_is_said_and_torch_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(torch, "compile", None)
    assert same_as_the_loop(built(), engines.choose("compiled"))
    reason = "torch.compile needs a C++ compiler, and there is no no-such-compiler"
    assert [record.getMessage() for record in caplog.records] == [f"Masked runs without a compiler: {reason}"]
    said = engines.in_words("compiled", Masked, torch.device("cpu"))
    assert said == f"steps (large weights gathered), since {reason}"


def test_an_error_is_told_in_a_line() -> None:
    assert in_a_line(RuntimeError("raised:\nthis\n\nfor\nthat")) == "raised: this for"
    assert in_a_line(RuntimeError("")) == "RuntimeError"
    assert len(in_a_line(RuntimeError("x" * 999))) == 300


@pytest.mark.parametrize("training", [False, True])
def test_a_cell_does_not_differ_from_itself(training: bool) -> None:
    cell = built().train(training)
    assert difference(cell, torch.double, engines.loop, engines.gathered, gradients=True) == ""


def test_wrong_gradients_are_a_difference() -> None:
    def detached(cell: Cell, xs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        return engines.loop(cell, xs.detach(), lengths, state)

    assert difference(built(), torch.double, detached, engines.loop, gradients=True)
    assert not difference(built(), torch.double, detached, engines.loop, gradients=False)


@pytest.fixture
def compiler() -> None:
    reason = TorchCompiler().missing("cpu")
    if reason:
        pytest.skip(reason)


def expect_a_compiled_step(cell: Cell, caplog: pytest.LogCaptureFixture, modes: Callable[[], Iterator[None]]) -> None:
    unroll = engines.choose("compiled")
    for lengths in (LENGTHS, torch.tensor([2, 9]), torch.tensor([4] * 20)):
        for _ in modes():
            assert same_as_the_loop(cell, unroll, lengths)
    said = [record.getMessage() for record in caplog.records if record.name == compiled.LOG.name]
    assert not [message for message in said if ": compiled in" not in message]


def as_it_is() -> Iterator[None]:
    yield


def test_torch_compiles_a_step_with_noise_for_all_sizes(compiler: None, caplog: pytest.LogCaptureFixture) -> None:
    expect_a_compiled_step(built().train(), caplog, as_it_is)


@pytest.mark.skipif("NMT_SOAK" not in os.environ, reason="compiling every cell takes minutes: NMT_SOAK=1")
@pytest.mark.parametrize("name", sorted(available(CELL)))
def test_torch_compiles_the_step_of_every_cell(compiler: None, name: str, caplog: pytest.LogCaptureFixture) -> None:
    def modes() -> Iterator[None]:
        yield
        with torch.no_grad():
            yield

    torch.manual_seed(1)
    expect_a_compiled_step(Choice(name).build(CELL, 5, 8).double(), caplog, modes)
