"""What a token brings to a decoder's step: a part of the whole product, and kept without a bit changed."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from nmt.attention.memory import Encoded
from nmt.cells import engines
from nmt.cells.elman import ElmanCell
from nmt.cells.gru import GRUCell
from nmt.cells.lstm import LSTMCell
from nmt.cells.padding import mask_of
from nmt.model import token_table
from nmt.model.embeddings import TokenEmbedding
from nmt.model.recurrent_decoder import RecurrentDecoder
from nmt.model.token_input import TokenInput
from nmt.model.token_table import BLOCK, TokenTable
from nmt.options import Choice
from nmt.products import plain


@pytest.mark.parametrize("deep_output", [False, True])
@pytest.mark.parametrize("fed_size", [0, 8])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("averaged", [True, False])
def test_what_a_token_brings_is_its_part_of_the_whole_step(
    monkeypatch: pytest.MonkeyPatch, averaged: bool, named: bool, fed_size: int, deep_output: bool
) -> None:
    if not named:
        monkeypatch.setattr(LSTMCell, "input_layer", lambda cell: None)
    torch.manual_seed(1)
    decoder = RecurrentDecoder(
        TokenEmbedding(12, 4),
        engines.loop,
        6,
        hidden_size=8,
        input_feeding=fed_size > 0,
        deep_output=deep_output,
    ).double()
    readout = decoder.readout.apart(averaged=averaged)
    inputs = TokenInput(decoder.bottom, readout.of_embedding, decoder.readout.embedded_size, fed_size)
    xs, h, context = (torch.randn(3, size, dtype=torch.float64) for size in (4, 8, 6))
    fed = tuple(torch.randn(3, size, dtype=torch.float64) for size in [fed_size] if size)
    below, added = inputs.split(inputs.project(xs))
    for features in fed:
        below = inputs.feed(below, features)
    torch.testing.assert_close(below, decoder.bottom.project(torch.cat([xs, *fed], -1)))
    mean = readout.of_value(context) if readout.of_value else context
    assert (readout.of_value is not None) == averaged
    torch.testing.assert_close(readout.features(h, mean, added), decoder.readout(h, context, xs))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"input_feeding": True, "deep_output": True},
        {"layers": 2, "attention_layer": "first", "input_feeding": True},
        {"layers": 3, "residual": True},
        {"cell": Choice("gru"), "input_feeding": True, "layers": 2},
        {"cell": Choice("elman"), "attention": Choice("additive"), "input_feeding": True},
        {"attention": Choice("none"), "deep_output": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("most", [1 << 20, 0])  # all tokens are kept, or one block of them
@pytest.mark.parametrize("named", [True, False])
def test_a_decoder_that_is_ready_for_search_takes_the_same_steps(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object], most: int, named: bool
) -> None:
    monkeypatch.setattr(token_table, "BYTES", most)
    if not named:
        for cell in (LSTMCell, GRUCell, ElmanCell):
            monkeypatch.setattr(cell, "input_layer", lambda cell: None)
    mixed = "attention_layer" not in options and options.get("attention") != Choice("none")
    mixed = mixed and (named or not options.get("input_feeding"))

    def steps(keep: bool) -> list[Tensor]:
        torch.manual_seed(1)
        decoder = RecurrentDecoder(TokenEmbedding(90, 4), engines.loop, 6, hidden_size=8, **options).eval()
        decoder.prepare_weights(plain, keep)
        lengths = torch.tensor([4, 3])
        states = torch.randn(2, 4, 6)
        memory = decoder.prepare_search(Encoded(states, mask_of(lengths, 4, states.device), lengths, states[:, 0]))
        assert (memory.products is not None) == (keep and mixed)
        state, features = decoder.initial_state(memory), []
        rows = [(0, 0, 1, 1), (0, 0, 3, 2), (1, 0, 2, 3)]  # which those of two hypotheses a sentence go on from
        for parents, tokens in zip(rows, ([2, 89, 16, 40], [41, 2, 88, 15], [5, 5, 89, 16]), strict=True):
            step, state, _ = decoder.branch(torch.tensor(tokens), state, torch.tensor(parents), memory)
            features.append(step)
        return features

    for kept, plainly in zip(steps(True), steps(False), strict=True):
        torch.testing.assert_close(kept, plainly)


class Counted:
    """Rows of two numbers for each token, and the tokens that were asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, tokens: Tensor) -> Tensor:
        self.asked.append(tokens.tolist())
        return expected(tokens)


def expected(tokens: Tensor) -> Tensor:
    return torch.stack([tokens, tokens * tokens], -1).float()


def test_a_kept_row_is_the_computed_one_and_computed_once() -> None:
    compute = Counted()
    table = TokenTable(compute, vocab_size=100)
    wanted = torch.tensor([99, 3, 3, 50, 0])
    for _ in range(2):
        assert torch.equal(table(wanted), expected(wanted))
    table(torch.tensor([48, 15]))  # of the same blocks
    _, rows = compute.asked  # the first was for the size of a row
    assert rows == [*range(16), *range(48, 64), 96, 97, 98, *[99] * 13]


def test_tokens_for_which_there_is_no_room_are_computed_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_table, "BYTES", 2 * BLOCK * 2 * 4)  # two blocks
    compute = Counted()
    table = TokenTable(compute, vocab_size=100)
    for tokens in ([1, 17], [32, 2, 99], [18], [99], [31]):
        wanted = torch.tensor(tokens)
        assert torch.equal(table(wanted), expected(wanted))
    assert compute.asked[1:] == [[*range(32)], [32, 99], [99]]


def test_two_threads_may_use_a_table_at_once() -> None:
    def slow(tokens: Tensor) -> Tensor:
        time.sleep(0.001)  # so that the other begins as well
        return expected(tokens)

    table = TokenTable(slow, vocab_size=640)

    def used(seed: int) -> bool:
        draw = torch.Generator().manual_seed(seed)
        return all(
            torch.equal(table(wanted), expected(wanted)) for wanted in torch.randint(640, (40, 5), generator=draw)
        )

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(used, range(8)))
    every = torch.arange(640)
    assert torch.equal(table(every), expected(every))
