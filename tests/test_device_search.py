"""Search on a device that is no processor: the same translations, by steps that read nothing and can be captured."""

import math
import os
from collections.abc import Sequence

import pytest
import torch
from test_search import END, LENGTHS, MARKS, NORMALIZATIONS, SOURCE, UNKNOWN, encode, make
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from nmt import recipe
from nmt.attention.general import GeneralAttention
from nmt.attention.memory import Encoded, Memory
from nmt.cells import captures
from nmt.cells.captures import Captured, Steps
from nmt.cells.state import State
from nmt.errors import RunError
from nmt.model.seq2seq import Seq2Seq
from nmt.options import Choice
from nmt.registry import ATTENTION, CELL, available
from nmt.search import captured
from nmt.search.beam import beam_search
from nmt.search.candidates import Continuations
from nmt.search.captured import CapturedRuns
from nmt.search.device_beams import Beams
from nmt.search.hypothesis import Hypothesis
from nmt.search.limits import Limits
from nmt.search.on_device import STEPS, DeviceSearch
from nmt.search.sentence import Sentence

CPU = torch.device("cpu")
DECODERS = [
    {},
    {"input_feeding": True, "attention": Choice("additive"), "deep_output": True},
    {"layers": 2, "attention_layer": "first", "cell": Choice("gru")},
    {"attention": Choice("none")},
]


def on_device(
    model: Seq2Seq,
    settings: recipe.Search,
    rows: Sequence[int] = range(5),
    *,
    n_best: int = 1,
    weights: bool = False,
    limits: Limits | None = None,
    captured: CapturedRuns | None = None,
) -> list[list[Hypothesis]]:
    """The same search with the processor as the device."""
    there = DeviceSearch(
        model.decoder, settings, MARKS, n_best=n_best, weights=weights, limits=limits, captured=captured
    )
    with torch.inference_mode():
        return there.search(encode(model, [*rows]))


def assert_same(found: Sequence[Sequence[Hypothesis]], expected: Sequence[Sequence[Hypothesis]]) -> None:
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        assert [each.tokens for each in row] == [each.tokens for each in other]
        assert [each.finished for each in row] == [each.finished for each in other]
        assert [each.score for each in row] == pytest.approx([each.score for each in other], rel=1e-10)
        for one, two in zip(row, other, strict=True):
            assert (one.weights is None) == (two.weights is None)
            assert one.weights is None or torch.allclose(one.weights, two.weights)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "nmt.engines"]


class Recorder:
    """Captures by recording each operation on tensors, once: all else that a step does in Python is not done again."""

    def __init__(self) -> None:
        self.shapes: list[tuple[object, ...]] = []

    def __call__(self, steps: Steps, inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> Captured:
        recorded = make_fx(lambda *tensors: tuple(steps(tensors)))(*(each.clone() for each in inputs))
        self.shapes.append((*inputs[1].shape[::2], inputs[-1].dtype))
        given: list[Tensor] = []

        def forward(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
            found = recorded(*tensors)
            given[:] = given or [each.clone() for each in found]
            for own, each in zip(given, found, strict=True):
                own.copy_(each)  # a graph overwrites what it gave before
            return given

        return Captured(forward, lambda gradients: [])


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "AFTER", 0)


@pytest.mark.parametrize("decoder", DECODERS, ids=str)
@pytest.mark.parametrize(("beam", "n_best"), [(1, 1), (4, 1), (3, 5)])
def test_what_is_found_is_what_a_processor_finds(decoder: dict, beam: int, n_best: int) -> None:
    for seed, (normalization, alpha) in enumerate(NORMALIZATIONS):
        model = make([7, 90][seed % 2], seed, **decoder)
        settings = recipe.Search(
            beam=beam,
            normalization=normalization,
            length_penalty=alpha,
            lookahead=[2, None, 1, 5][seed],
            min_length_ratio=[0.0, 1.0][seed // 2],
            max_length_extra=[3, 10][seed % 2],
        )
        expected = beam_search(model.decoder, encode(model), settings, MARKS, n_best=n_best, weights=True)
        assert_same(on_device(model, settings, n_best=n_best, weights=True), expected)


@pytest.mark.parametrize("decoder", DECODERS, ids=str)
@pytest.mark.usefixtures("soon")
def test_captured_runs_find_what_steps_find(decoder: dict, caplog: pytest.LogCaptureFixture) -> None:
    model, runs = make(90, **decoder), CapturedRuns(recorder := Recorder())
    settings = recipe.Search(beam=4, min_length_ratio=2.0, max_length_extra=2)
    for rows in ([0, 4], [4, 3, 2]):  # nothing done between two runs, and something
        expected = beam_search(model.decoder, encode(model, rows), settings, MARKS, n_best=2, weights=True)
        assert_same(on_device(model, settings, rows, n_best=2, weights=True, captured=runs), expected)
    assert recorder.shapes and not said(caplog)


def test_shapes_to_be_captured_are_powers_of_two() -> None:
    model, lengths = make(30), torch.tensor([40, 3, 17, 70])
    given = {"n_best": 1, "weights": False, "limits": None}
    there = DeviceSearch(model.decoder, recipe.Search(), MARKS, **given, captured=CapturedRuns(Recorder()))
    assert there._shape([1], lengths) == ([1], 16)
    assert there._shape([0, 1, 2], lengths) == ([0, 1, 2, 0], 64)
    assert there._shape([0, 3], lengths) == ([0, 3], 128)


@pytest.mark.usefixtures("soon")
def test_no_more_runs_are_captured_than_may_be_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(captures, "MOST", 1)
    model, runs = make(30), CapturedRuns(recorder := Recorder())
    for beam in (2, 3, 2):
        settings = recipe.Search(beam=beam)
        expected = beam_search(model.decoder, encode(model, [1]), settings, MARKS)
        assert_same(on_device(model, settings, [1], captured=runs), expected)
    assert len(recorder.shapes) == 1 and not said(caplog)


def test_a_float32_model_is_searched_with_in_float32() -> None:
    model, settings = make(30).float(), recipe.Search(beam=4)
    found = on_device(model, settings, n_best=4)
    expected = beam_search(model.decoder, encode(model), settings, MARKS, n_best=4)
    for row, other in zip(found, expected, strict=True):
        assert [each.tokens for each in row] == [each.tokens for each in other]
        assert [each.score for each in row] == pytest.approx([each.score for each in other], rel=1e-5)
    there = DeviceSearch(model.decoder, settings, MARKS, n_best=1, weights=False, limits=None, captured=None)
    with torch.inference_mode():
        assert there._start(encode(model)).beams.going.dtype == torch.float32


def test_what_the_model_makes_of_an_empty_place_is_not_read() -> None:
    model, settings = make(30), recipe.Search(beam=3)
    with torch.no_grad():
        model.decoder.output.bias[END] = 2.0  # so that places become empty
        model.decoder.embedding.weight[END] = math.nan  # what stands in an empty place
    encoded = encode(make(30))
    there = DeviceSearch(model.decoder, settings, MARKS, n_best=1, weights=False, limits=None, captured=None)
    with torch.inference_mode():
        assert_same(there.search(encoded), beam_search(model.decoder, encoded, settings, MARKS))


@pytest.mark.parametrize("lookahead", [1, 3, None])
@pytest.mark.parametrize("n_best", [1, 3])
def test_beams_on_a_device_advance_by_the_rules_for_a_sentence(lookahead: int | None, n_best: int) -> None:
    """Whatever continuations a step finds, and however many steps more are taken of what is done."""
    settings = recipe.Search(beam=3, lookahead=lookahead, max_length_ratio=0.0, max_length_extra=9)
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        sentence, beams = Sentence(20, settings, n_best, MARKS), Beams.first(1, 3, MARKS, torch.float64, CPU)
        longest, going, found, spent = torch.tensor([9.0]).double(), True, [], 0.0
        for length in range(1, 13):
            open_places = int((beams.log_p > -math.inf).sum()) if going else 3
            spent += float(torch.rand((), generator=generator)) ** 2 * 4.0  # some words cost much
            log_p = -spent - torch.rand(1, 3, generator=generator).double().sort().values
            if seed % 2:
                log_p[:, -1] = -math.inf
            if not going:
                log_p.fill_(-math.inf)
            parents = torch.randint(max(open_places, 1), (1, 3), generator=generator)
            tokens = torch.where(torch.rand(1, 3, generator=generator) < 0.3, END, 7)
            tokens = torch.full_like(tokens, END) if length >= 9 else tokens
            beams = beams.advanced((log_p, parents, tokens), longest, settings, MARKS, n_best)
            if going:
                beam = sentence.advance(None, Continuations(*(each[0].tolist() for each in (log_p, parents, tokens))))
                going = beam is not None
                found = beams.ended.tolist()
                assert bool(beams.done) != going
                count = 0 if beam is None else len(beam.tokens)
                assert (beams.log_p > -math.inf).sum() == count
                if beam is not None:
                    assert beams.going[0, :3, :count].tolist() == [beam.log_p, beam.parents, beam.tokens]
            assert bool(beams.done) != going
            assert not (beams.log_p > -math.inf).any() or going
        assert not going and beams.ended.tolist() == found
        best = sentence.best()
        scores = [log_p / length for log_p, _, _, length in zip(*found[0], strict=True) if log_p > -math.inf]
        assert sorted(scores, reverse=True)[:n_best] == [each.score for each in best]


def test_a_nan_counts_until_a_sentence_is_done() -> None:
    settings, longest = recipe.Search(beam=1), torch.tensor([9.0, 9.0])
    beams = Beams.first(2, 1, MARKS, torch.float32, CPU)
    none = torch.zeros(2, 1, dtype=torch.long)
    for log_p in ([[-1.0], [-1.0]], [[math.nan], [math.nan]]):
        tokens = torch.tensor([[7], [END]])
        beams = beams.advanced((torch.tensor(log_p), none, tokens), longest, settings, MARKS, 1)
    assert beams.broken.tolist() == [True, False]


def test_sentences_are_bounded_each_by_its_own_source() -> None:
    model = make(30)
    for bias, settings in (
        (20.0, recipe.Search(beam=3, min_length_ratio=2.0)),
        (-20.0, recipe.Search(beam=3, max_length_ratio=1.0, max_length_extra=2)),
    ):
        with torch.no_grad():
            model.decoder.output.bias[END] = bias
        assert_same(on_device(model, settings), beam_search(model.decoder, encode(model), settings, MARKS))


@pytest.mark.usefixtures("soon")
def test_limits_are_kept() -> None:
    model, settings = make(30), recipe.Search(beam=4)
    own = torch.tensor([[0, -1, -1], [1, -1, -1], [0, 1, 2], [-1, -1, -1], [2, -1, -1]])
    for further in (torch.tensor([9, 20, UNKNOWN]), torch.tensor([], dtype=torch.long)):
        limits = Limits(torch.tensor([5, 8, END]), further, own if len(further) else torch.full((5, 2), -1))
        expected = beam_search(model.decoder, encode(model), settings, MARKS, n_best=3, limits=limits)
        runs = CapturedRuns(recorder := Recorder())
        assert_same(on_device(model, settings, n_best=3, limits=limits, captured=runs), expected)
        assert recorder.shapes == []  # each batch would be another shape


@pytest.mark.parametrize(("number", "said"), [(float("nan"), "no numbers but NaN"), (-float("inf"), "no numbers")])
def test_a_broken_model_is_said_to_be_broken(number: float, said: str) -> None:
    model = make(30)
    with torch.no_grad():
        model.decoder.output.bias.fill_(number)
    with pytest.raises(RunError, match=said):
        on_device(model, recipe.Search(beam=3))


def test_a_model_that_finds_every_translation_impossible_is_told_apart() -> None:
    model, settings = make(30), recipe.Search(beam=3, max_length_ratio=0.0, max_length_extra=1)
    with torch.no_grad():
        model.decoder.output.bias[END] = -float("inf")
    for search in (on_device, lambda *given: beam_search(model.decoder, encode(model), settings, MARKS)):
        with pytest.raises(RunError, match="every translation impossible"):
            search(model, settings)


def test_sentences_that_are_done_leave_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = make(30), []
    with torch.no_grad():
        model.decoder.output.bias[END] = -20.0  # so that each is as long as it may be
    plain = model.decoder.output.forward
    monkeypatch.setattr(model.decoder.output, "forward", lambda xs: (rows.append(len(xs)), plain(xs))[1])
    settings = recipe.Search(beam=2, max_length_ratio=4.0, max_length_extra=1)
    on_device(model, settings)
    longest = [4 * (length - 1) + 1 for length in LENGTHS.tolist()]
    runs = range(0, max(longest), STEPS)
    assert rows == [2 * sum(length > start for length in longest) for start in runs for _ in range(STEPS)]


@pytest.mark.skipif("NMT_SOAK" not in os.environ, reason="recording every component takes minutes: NMT_SOAK=1")
@pytest.mark.parametrize(
    "decoder",
    [{"cell": Choice(name), "input_feeding": feeding} for name in available(CELL) for feeding in (False, True)]
    + [{"attention": Choice(name)} for name in available(ATTENTION)],
    ids=str,
)
@pytest.mark.usefixtures("soon")
def test_steps_of_every_component_can_be_captured(decoder: dict, caplog: pytest.LogCaptureFixture) -> None:
    model, settings = make(90, encoder_size=4, **decoder), recipe.Search(beam=3, max_length_extra=2)
    expected = beam_search(model.decoder, encode(model), settings, MARKS, n_best=2)
    runs = CapturedRuns(recorder := Recorder())
    assert_same(on_device(model, settings, n_best=2, captured=runs), expected)
    assert recorder.shapes and not said(caplog)


@pytest.mark.usefixtures("soon")
def test_batches_are_filled_up_so_that_few_shapes_are_captured(caplog: pytest.LogCaptureFixture) -> None:
    model, settings = make(30), recipe.Search(beam=2, max_length_extra=1)
    runs = CapturedRuns(recorder := Recorder())
    for rows in ([4, 2, 0], [1], [0, 4, 3], [2]):
        expected = beam_search(model.decoder, encode(model, rows), settings, MARKS)
        assert_same(on_device(model, settings, rows, captured=runs), expected)
    assert {sentences for sentences, *_ in recorder.shapes} <= {1, 2, 4}
    assert len(recorder.shapes) == len(set(recorder.shapes))  # nothing is captured twice
    assert not said(caplog)


def test_a_shape_is_captured_once_it_has_come_often(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(captured, "AFTER", 1)
    settings = recipe.Search(beam=2, min_length_ratio=STEPS, max_length_ratio=STEPS, max_length_extra=0)  # one run
    model, runs = make(30), CapturedRuns(recorder := Recorder())
    on_device(model, settings, [1], captured=runs)
    assert recorder.shapes == []
    on_device(model, settings, [1], captured=runs)
    assert [shape[:2] for shape in recorder.shapes] == [(1, 2)] and not said(caplog)


class Reading(GeneralAttention):
    """Reads a number in Python, which a graph goes on using."""

    def step(self, query: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        most = max(memory.encoded.lengths.tolist())
        return super().step(query * (1.0 + most), state, memory)


class ReadingByNumpy(GeneralAttention):
    """The same by other means."""

    def step(self, query: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        return super().step(query * (1.0 + float(memory.encoded.lengths.numpy().max())), state, memory)


class Remembering(GeneralAttention):
    """Keeps in Python what it has read of a batch before its steps."""

    def prepare(self, encoded: Encoded) -> Memory:
        self.most = float(encoded.lengths.max())
        return super().prepare(encoded)

    def step(self, query: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        return super().step(query * (1.0 + self.most), state, memory)


class Counting(GeneralAttention):
    """Is different each time that Python comes by."""

    calls = 0

    def step(self, query: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        self.calls += 1
        return super().step(query * (1.0 + self.calls % (2 * STEPS)), state, memory)


@pytest.mark.parametrize("kind", [Reading, ReadingByNumpy, Remembering, Counting])
@pytest.mark.usefixtures("soon")
def test_a_component_that_no_graph_can_hold_is_found_out_and_said_once(
    kind: type[GeneralAttention], caplog: pytest.LogCaptureFixture
) -> None:
    settings = recipe.Search(beam=2, min_length_ratio=STEPS, max_length_ratio=STEPS, max_length_extra=0)
    model, runs = make(30), CapturedRuns(Recorder())
    model.decoder.attention.__class__ = kind
    for rows in ([1], [2], [1], [2]):  # of 2 and 3 tokens: runs of one shape
        on_device(model, settings, rows, captured=runs)
    (record,) = said(caplog)
    assert record.startswith("search runs without graphs: ")
    assert "\n" not in record


@pytest.mark.usefixtures("soon")
def test_a_graph_is_held_against_its_steps_now_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = recipe.Search(beam=2, min_length_ratio=STEPS, max_length_ratio=STEPS, max_length_extra=0)  # one run
    model, runs, steps = make(30), CapturedRuns(Recorder()), []
    step = DeviceSearch._step
    monkeypatch.setattr(DeviceSearch, "_step", lambda self, live: (steps.append(1), step(self, live))[1])
    taken = []
    for _ in range(9):
        steps.clear()
        on_device(model, settings, [1], captured=runs)
        taken.append(len(steps) // STEPS)
    assert taken == [2, 1, 0, 1, 0, 0, 0, 1, 0]  # the first is captured as well


@pytest.mark.parametrize(("penalty", "other"), [(0.2, {}), (1.0, {"n_best": 2}), (1.0, {"weights": True})])
@pytest.mark.usefixtures("soon")
def test_searches_that_want_something_else_are_captured_anew(penalty: float, other: dict) -> None:
    model, settings, runs = make(30), recipe.Search(beam=3), CapturedRuns(recorder := Recorder())
    on_device(model, settings, [1], captured=runs)
    settings = recipe.Search(beam=3, length_penalty=penalty)
    expected = beam_search(model.decoder, encode(model, [1]), settings, MARKS, **other)
    assert_same(on_device(model, settings, [1], captured=runs, **other), expected)
    assert recorder.shapes == [recorder.shapes[0]] * 2


@pytest.mark.usefixtures("soon")
def test_where_nothing_can_be_captured_search_goes_on_by_steps(caplog: pytest.LogCaptureFixture) -> None:
    def fails(steps: Steps, inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> Captured:
        raise RuntimeError("out of memory\nand more")

    model, settings = make(30), recipe.Search(beam=2)
    expected = beam_search(model.decoder, encode(model), settings, MARKS)
    runs = CapturedRuns(fails)
    for _ in range(2):
        assert_same(on_device(model, settings, captured=runs), expected)
    assert said(caplog) == ["search runs without graphs: out of memory and more"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here: search by CUDA graphs is not tested")
@pytest.mark.parametrize("decoder", DECODERS, ids=str)
@pytest.mark.usefixtures("soon")
def test_on_cuda_graphs_find_what_steps_find(decoder: dict, caplog: pytest.LogCaptureFixture) -> None:
    model, settings = make(90, **decoder), recipe.Search(beam=4)
    expected = beam_search(model.decoder, encode(model), settings, MARKS, n_best=4)
    model.cuda()
    runs = CapturedRuns()
    with torch.inference_mode():
        encoded = model.encoder(SOURCE.cuda(), LENGTHS)
        for given in (None, runs, runs):
            assert_same(beam_search(model.decoder, encoded, settings, MARKS, n_best=4, captured=given), expected)
    assert not said(caplog)
