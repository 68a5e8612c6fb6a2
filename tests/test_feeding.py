"""Input feeding: a decoder's whole steps along time, by every engine, are what they are one by one."""

import copy
import gc
import os
import weakref
from collections.abc import Callable, Sequence

import pytest
import torch
from stand_ins import Capturing, Compiling
from torch import Tensor

from nmt.attention.attention import Attention, read
from nmt.attention.memory import WIDTH, Encoded, Memory
from nmt.cells import engines, graphs
from nmt.cells.compiled import LOG, Compiled, TorchCompiler
from nmt.cells.graphs import Graphs
from nmt.model.embeddings import TokenEmbedding
from nmt.model.recurrent_decoder import RecurrentDecoder
from nmt.options import Choice
from nmt.registry import ATTENTION, CELL, available

CELLS = sorted(available(CELL))
OPTIONS = [
    {},
    {"deep_output": True},
    {"layers": 3, "attention_layer": "first", "deep_output": True, "dropout": 0.3, "residual": True},
    {"layers": 2, "attention": Choice("additive"), "dropout": 0.2},
]
SHAPES = [(5, 6, 4), (5, 6, 4), (4, 8, 6), (17, 9, 9), (17, 9, 9)]
"""Rows, source positions and steps."""


def made(unroll: engines.Unroll, cell: str = "lstm", **options: object) -> RecurrentDecoder:
    torch.manual_seed(1)
    embedding = TokenEmbedding(12, 4)
    return RecurrentDecoder(
        embedding, unroll, 8, cell=Choice(cell), hidden_size=8, input_feeding=True, **options
    ).double()


def source(rows: int = 3, positions: int = 5, dtype: torch.dtype = torch.float64) -> Encoded:
    generator = torch.Generator().manual_seed(4)
    lengths = positions - torch.arange(rows) % positions
    mask = torch.arange(positions) < lengths[:, None]
    states = torch.randn(rows, positions, 8, generator=generator, dtype=dtype) * mask[..., None]
    states.requires_grad_()
    return Encoded(states, mask, lengths, states[:, 0])


def target(rows: int = 3, steps: int = 4) -> Tensor:
    return torch.randint(2, 12, (rows, steps), generator=torch.Generator().manual_seed(5))


def apart(decoder: RecurrentDecoder, shape: tuple[int, int, int] = (3, 5, 4)) -> float:
    """How far features and gradients are from those of steps one by one, the same random numbers in both."""
    rows, positions, steps = shape
    encoded, tokens = source(rows, positions), target(rows, steps)
    weights = torch.randn(rows, steps, 8, generator=torch.Generator().manual_seed(6), dtype=torch.float64)

    def results(stepwise: bool) -> Sequence[Tensor]:
        memory = decoder.prepare(encoded)
        torch.manual_seed(7)
        features = decoder.forward_stepwise(tokens, memory) if stepwise else decoder(tokens, memory)
        wanted = [encoded.states, *decoder.parameters()]
        total = (features * weights).sum()
        return [features.detach(), *torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)]

    pairs = zip(results(False), results(True), strict=True)
    return max(float((one - other).abs().max()) for one, other in pairs if one.numel())


@pytest.mark.parametrize("unroll", ["auto", "loop", "gathered"])
@pytest.mark.parametrize("name", CELLS)
def test_along_time_it_is_what_it_is_step_by_step(name: str, unroll: str) -> None:
    for options in OPTIONS:
        decoder = made(engines.ENGINES[unroll], name, **options)
        assert apart(decoder.train(bool(options.get("dropout")))) < 1e-10, options


def test_the_embeddings_part_of_the_products_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = made(engines.loop, deep_output=True)
    memory = decoder.prepare(source())
    widths = []
    linear = torch.nn.functional.linear

    def counted(xs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        widths.append((xs.dim(), weight.shape[1]))
        return linear(xs, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", counted)
    decoder(target(), memory)
    assert widths.count((3, 4)) == 2  # [B, T, E]: the cell's and the readout's
    assert (2, 12) not in widths  # [B, E + H]


def test_positions_that_are_added_to_a_memory_change_nothing() -> None:
    for name in ("additive", "general", "dot"):
        decoder = made(engines.loop, attention=Choice(name))
        memory = decoder.prepare(source())
        wide = memory.widened()
        assert (wide.keys is wide.encoded.states) is (memory.keys is memory.encoded.states)
        assert wide.keys.shape[1] == wide.encoded.mask.shape[1] == WIDTH
        assert torch.allclose(decoder(target(), wide), decoder(target(), memory), rtol=1e-12)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "AFTER", 1)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_captured_steps_give_the_same_with_every_batch(
    options: dict[str, object], soon: None, caplog: pytest.LogCaptureFixture
) -> None:
    capture = Capturing()
    decoder = made(Graphs(capture, engines.loop, device="cpu"), **options)
    for training in (False, True):
        assert max(apart(decoder.train(training), shape) for shape in SHAPES) < 1e-10
    shapes = [shape[:2] for shape in capture.shapes]
    assert shapes == [(16, 8), *[(16, 8), (32, 16)] * 2]  # the trial's, then what came twice, in each mode
    assert not caplog.records


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_compiled_steps_give_the_same_with_every_batch(
    options: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    compiler = Compiling()
    decoder = made(Compiled(compiler, engines.loop), **options)
    for training in (False, True):
        assert max(apart(decoder.train(training), shape) for shape in SHAPES) < 1e-10
    assert compiler.trials == 2
    assert compiler.calls == 2 * sum(steps for _, _, steps in SHAPES)
    assert not caplog.records


def test_compiled_steps_keep_no_batch() -> None:
    decoder = made(Compiled(Compiling(), engines.loop))
    memory = decoder.prepare(source())
    gone = weakref.ref(memory.keys)
    decoder(target(), memory)
    del memory
    gc.collect()
    assert gone() is None


class Reading(Attention):
    """Looks at the first half of each sentence, by lengths that no capture can read."""

    def __init__(self, lengths: Callable[[Tensor], Tensor]) -> None:
        super().__init__(8, 8, context_size=8)
        self.lengths = lengths

    def prepare(self, encoded: Encoded) -> Memory:
        return Memory(encoded, encoded.states)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        half = self.lengths(memory.encoded.lengths) / 2
        places = torch.arange(memory.encoded.mask.shape[1], device=query.device)
        scores = -(places - half[:, None, None]).abs().to(query.dtype).expand(*query.shape[:2], -1)
        return read(scores, memory)


@pytest.mark.parametrize("way", ["graphs", "a compiler"])
@pytest.mark.parametrize(
    "lengths",
    [
        lambda lengths: lengths.to("cpu", copy=True),
        lambda lengths: torch.from_numpy(lengths.numpy()),
        lambda lengths: torch.tensor(lengths.tolist()),
    ],
    ids=["copied", "numpy", "list"],
)
def test_steps_that_read_lengths_are_neither_captured_nor_compiled_and_it_is_said(
    way: str, lengths: Callable[[Tensor], Tensor], soon: None, caplog: pytest.LogCaptureFixture
) -> None:
    ways = {
        "graphs": Graphs(Capturing(), engines.loop, device="cpu"),
        "a compiler": Compiled(Compiling(), engines.loop),
    }
    decoder = made(ways[way])
    decoder.attention = Reading(lengths)
    assert max(apart(decoder, shape) for shape in SHAPES) < 1e-10
    assert [record.getMessage().split(": ")[0] for record in caplog.records] == [f"Feeding runs without {way}"]


def test_a_copy_of_a_decoder_reads_its_own_weights(soon: None) -> None:
    decoder = made(Graphs(Capturing(), engines.loop, device="cpu"))
    for _ in range(3):
        assert apart(decoder) < 1e-10
    copied = copy.deepcopy(decoder)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
    for _ in range(3):
        assert apart(copied) < 1e-10
    assert bool(copied(target(), copied.prepare(source())).any())
    assert copied.unroll is not decoder.unroll


@pytest.mark.skipif("NMT_SOAK" not in os.environ, reason="compiling every attention takes minutes: NMT_SOAK=1")
@pytest.mark.parametrize("precision", ["fp64", "bf16"])
@pytest.mark.parametrize("attention", sorted(available(ATTENTION).keys() - {"monotonic-chunkwise"}))  # it draws
@pytest.mark.parametrize("options", OPTIONS[:3], ids=str)
def test_torch_compiles_steps_with_every_attention(
    attention: str, options: dict[str, object], precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    reason = TorchCompiler().missing("cpu")
    if reason:
        pytest.skip(reason)
    torch._dynamo.reset()  # or versions of other tests would be counted, too
    decoder = made(engines.choose("compiled"), attention=Choice(attention), **options)
    for training in (False, True):
        decoder.train(training)
        if precision == "fp64":
            assert max(apart(decoder, shape) for shape in SHAPES) < 1e-10
        else:
            decoder.float()
            with torch.autocast("cpu", torch.bfloat16):
                decoder(target(5), decoder.prepare(source(5, 6, torch.float32)))
    said = [record.getMessage() for record in caplog.records if record.name == LOG.name]
    assert not [message for message in said if ": compiled in" not in message]
