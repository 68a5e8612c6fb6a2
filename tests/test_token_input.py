"""What a token brings to a decoder's step: a part of the whole product, and kept without a bit changed."""

import pytest
import torch
from torch import Tensor

from nmt.cells import engines
from nmt.cells.lstm import LSTMCell
from nmt.model import token_table
from nmt.model.embeddings import TokenEmbedding
from nmt.model.recurrent_decoder import RecurrentDecoder
from nmt.model.token_input import TokenInput
from nmt.model.token_table import BLOCK, TokenTable


@pytest.mark.parametrize("deep_output", [False, True])
@pytest.mark.parametrize("fed_size", [0, 8])
@pytest.mark.parametrize("named", [True, False])
def test_what_a_token_brings_is_its_part_of_the_whole_step(
    monkeypatch: pytest.MonkeyPatch, named: bool, fed_size: int, deep_output: bool
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
    inputs = TokenInput(decoder.bottom, decoder.readout, fed_size)
    xs, h, context = (torch.randn(3, size, dtype=torch.float64) for size in (4, 8, 6))
    fed = tuple(torch.randn(3, size, dtype=torch.float64) for size in [fed_size] if size)
    below, read = inputs.begin(inputs.project(xs), fed)
    torch.testing.assert_close(below, decoder.bottom.project(torch.cat([xs, *fed], -1)))
    torch.testing.assert_close(read(h, context), decoder.readout(h, context, xs))


class Counted:
    """Rows of two numbers for each token, and the tokens that were asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, tokens: Tensor) -> Tensor:
        self.asked.append(tokens.tolist())
        return torch.stack([tokens, tokens * tokens], -1).float()


def test_a_kept_row_is_the_computed_one_and_computed_once() -> None:
    compute = Counted()
    table = TokenTable(compute, vocab_size=100)
    wanted = torch.tensor([99, 3, 3, 50, 0])
    for _ in range(2):
        assert torch.equal(table(wanted), torch.stack([wanted, wanted * wanted], -1).float())
    table(torch.tensor([48, 15]))  # of the same blocks
    _, rows = compute.asked  # the first was for the size of a row
    assert rows == [*range(16), *range(48, 64), 96, 97, 98, *[99] * 13]


def test_a_table_that_is_full_begins_anew_and_what_never_fits_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_table, "BYTES", 2 * BLOCK * 2 * 4)  # two blocks
    compute = Counted()
    table = TokenTable(compute, vocab_size=100)
    for tokens in ([1, 17], [33, 2], [18], [1, 40, 80], [1], [99]):
        wanted = torch.tensor(tokens)
        assert torch.equal(table(wanted), torch.stack([wanted, wanted * wanted], -1).float())
    assert [len(tokens) for tokens in compute.asked] == [1, 32, 32, 16, 3, 16, 16]
