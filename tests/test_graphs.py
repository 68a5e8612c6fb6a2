"""The bookkeeping of CUDA graphs: a stand-in captures, and overwrites what it gave before, as a graph does."""

import copy
import gc
import weakref
from collections.abc import Sequence

import pytest
import torch
from stand_ins import Capturing
from torch import Tensor, nn

from nmt.cells import captures, engines, graphs
from nmt.cells.cell import Cell
from nmt.cells.graphs import Graphs
from nmt.cells.layers import OneWay
from nmt.cells.state import Noise, State
from nmt.options import Choice
from nmt.registry import CELL

LENGTHS = torch.tensor([6, 1, 3, 5])


def built(name: str = "lstm") -> Cell:
    torch.manual_seed(1)
    return Choice(name).build(CELL, 5, 7).double()


def engine(stand_in: Capturing) -> Graphs:
    return Graphs(stand_in, engines.loop, device="cpu")


def measured(cell: Cell, unroll: engines.Unroll, seed: int = 2, lengths: Tensor = LENGTHS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows, steps = len(lengths), int(lengths.max())
    xs = torch.randn(rows, steps, 5, generator=generator, dtype=torch.double).requires_grad_()
    state = tuple(torch.rand_like(tensor).requires_grad_() for tensor in cell.initial_state(rows))
    torch.manual_seed(seed)
    ys, final = unroll(cell, xs, lengths, state)
    total = sum((tensor * torch.arange(1, tensor.numel() + 1).view_as(tensor)).sum() for tensor in (ys, *final))
    return [ys, *final, *torch.autograd.grad(total, [xs, *state, *cell.parameters()])]


def close(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(torch.allclose(one, other, rtol=1e-10, atol=1e-12) for one, other in zip(found, expected, strict=True))


def same_as_the_loop(cell: Cell, unroll: Graphs, lengths: Tensor = LENGTHS, seed: int = 2) -> bool:
    torch.manual_seed(9)
    found = measured(cell, unroll, seed, lengths)
    torch.manual_seed(9)
    return close(found, measured(cell, engines.loop, seed, lengths))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "AFTER", 1)


def test_replays_give_what_the_loop_gives_shapes_rounded_up() -> None:
    cell, stand_in = built(), Capturing()
    unroll = engine(stand_in)
    for lengths in (
        LENGTHS,
        LENGTHS,
        torch.tensor([7, 2, 7]),
        torch.tensor([8]),
        torch.tensor([9, 1]),
        torch.tensor([9]),
    ):
        assert same_as_the_loop(cell, unroll, lengths)
    assert {shape[:2] for shape in stand_in.shapes} == {(16, 8), (16, 16)}
    assert len(stand_in.shapes) == 3  # the trial's, then one of each shape: nothing is captured twice


def test_a_shape_that_comes_once_is_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "AFTER", 3)
    cell, stand_in = built(), Capturing()
    unroll = engine(stand_in)
    tried = []
    for _ in range(5):
        measured(cell, unroll)
        tried.append(len(stand_in.shapes))
    assert tried == [1, 1, 1, 2, 2]  # the trial, and the shape at its fourth call


def test_two_calls_before_a_backward_do_not_mix_their_numbers() -> None:
    cell, stand_in = built(), Capturing()
    unroll = engine(stand_in)
    measured(cell, unroll)
    measured(cell, unroll)  # captured from here on
    captured = len(stand_in.shapes)
    inputs = [torch.randn(4, 6, 5, dtype=torch.double, requires_grad=True) for _ in range(2)]
    outputs = [unroll(cell, xs, LENGTHS, cell.initial_state(4))[0] for xs in inputs]
    for xs, ys in zip(inputs, outputs, strict=True):
        expected, _ = engines.loop(cell, xs, LENGTHS, cell.initial_state(4))
        assert close([ys, *torch.autograd.grad(ys.sum(), [xs])], [expected, *torch.autograd.grad(expected.sum(), [xs])])
    assert len(stand_in.shapes) <= captured + 1  # without gradients of the state it is another shape


def test_what_a_replay_gave_outlives_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "AFTER", 0)
    cell, unroll = built(), engine(Capturing())
    first = measured(cell, unroll, 2)
    kept = [tensor.detach().clone() for tensor in first]
    measured(cell, unroll, 3)
    assert close(first, kept)


def test_a_backward_pass_whose_numbers_were_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "AFTER", 0)
    cell, unroll = built(), engine(Capturing())
    xs = torch.randn(4, 6, 5, dtype=torch.double, requires_grad=True)
    ys, _ = unroll(cell, xs, LENGTHS, cell.initial_state(4))
    ys.sum().backward(retain_graph=True)
    unroll(cell, xs, LENGTHS, cell.initial_state(4))
    with pytest.raises(RuntimeError, match="second backward"):
        ys.sum().backward()


def test_what_comes_when_all_captures_are_made_goes_by_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "AFTER", 0)
    monkeypatch.setattr(captures, "MOST", 3)
    cell, stand_in = built(), Capturing()
    unroll = engine(stand_in)
    for steps in (8, 16, 24, 24, 16, 8):
        assert same_as_the_loop(cell, unroll, torch.tensor([steps]))
    assert [shape[1] for shape in stand_in.shapes[1:]] == [8, 16]  # the first is the trial's
    assert same_as_the_loop(built("gru"), unroll)
    assert len(stand_in.shapes) == 5  # another cell has room of its own, for its trial too


def test_a_cell_that_is_gone_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "AFTER", 5)  # what the stand-in captures keeps its cell
    cell = built()
    unroll, gone = engine(Capturing(error="none")), weakref.ref(cell)
    measured(cell, unroll)
    del cell
    gc.collect()
    assert gone() is None


def test_long_sentences_go_by_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "AFTER", 0)
    monkeypatch.setattr(graphs, "LONGEST", 5)
    cell, stand_in = built(), Capturing()
    measured(cell, engine(stand_in))
    assert stand_in.shapes == []


@pytest.mark.parametrize(
    "stand_in", [Capturing(wrong=0.1), Capturing(error="no capture\nhere")], ids=["wrong", "error"]
)
def test_a_cell_whose_captures_fail_goes_by_the_loop_and_it_is_said_once(
    stand_in: Capturing, caplog: pytest.LogCaptureFixture
) -> None:
    cell, unroll = built(), engine(stand_in)
    for _ in range(3):
        assert same_as_the_loop(cell, unroll)
    (record,) = caplog.records
    assert record.getMessage().startswith("LSTMCell runs without graphs: ")
    assert "\n" not in record.getMessage()


class Masked(Cell):
    """h' = m ∘ tanh(x + h), a mask m for each step, nested as a stack's would be."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, state_shapes=((hidden_size,),))
        self.input = nn.Linear(input_size, hidden_size)

    def project(self, xs: Tensor) -> Tensor:
        return self.input(xs)

    def noise(self, rows: int, steps: int) -> Noise:
        return ((), (torch.rand(rows, steps, 1, dtype=torch.double),)) if self.training else ()

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        h = torch.tanh(projected + state[0])
        if noise:
            h = h * noise[1][0]
        return h, (h,)


def test_masks_go_in_anew_with_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "AFTER", 0)
    cell, unroll = Masked(5, 7).double().train(), engine(Capturing())
    for seed in (2, 3):
        assert same_as_the_loop(cell, unroll, seed=seed)
    cell.eval()
    assert same_as_the_loop(cell, unroll)


def test_evaluation_without_gradients_leaves_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "AFTER", 0)
    cell, unroll = built(), engine(Capturing())
    xs = torch.randn(4, 6, 5, dtype=torch.double, requires_grad=True)
    ys, _ = unroll(cell, xs, LENGTHS, cell.initial_state(4))
    with torch.no_grad():
        unroll(cell, xs + 1, LENGTHS, cell.initial_state(4))
    expected, _ = engines.loop(cell, xs, LENGTHS, cell.initial_state(4))
    assert close(torch.autograd.grad(ys.sum(), [xs]), torch.autograd.grad(expected.sum(), [xs]))


def test_a_capture_that_fails_after_the_trial_is_said_and_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(graphs, "AFTER", 0)
    stand_in = Capturing()
    cell, unroll = built(), engine(stand_in)
    assert same_as_the_loop(cell, unroll)
    monkeypatch.setattr(stand_in, "_error", "out of memory")
    for _ in range(2):
        assert same_as_the_loop(cell, unroll, torch.tensor([20, 3]))
        assert same_as_the_loop(cell, unroll)
    assert [record.getMessage() for record in caplog.records] == ["LSTMCell runs without graphs: out of memory"]


def test_a_trial_without_gradients_checks_them_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    cell, unroll, xs = built(), engine(stand_in := Capturing()), torch.randn(4, 6, 5, dtype=torch.double)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            unroll(cell, xs, LENGTHS, cell.initial_state(4))
    assert len(stand_in.shapes) == 2  # the trial and the second call
    assert not caplog.records


def test_a_copy_of_a_model_has_captures_of_its_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(graphs, "AFTER", 0)
    unroll = engine(Capturing())
    layer = OneWay(built(), unroll)
    xs = torch.randn(4, 6, 5, dtype=torch.double)
    before, _ = layer(xs, LENGTHS)
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    assert copy.deepcopy(unroll)._capture is not unroll._capture
    after, _ = copied(xs, LENGTHS)
    assert torch.equal(after, before) and bool(before.any())
    assert not caplog.records  # and they have passed their trial
