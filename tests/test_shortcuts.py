"""Who derives from a finished component and replaces what it computes is not passed over by its shortcuts."""

import pytest
import torch
from torch import Tensor

from nmt import recipe
from nmt.attention.attention import Attention
from nmt.attention.general import GeneralAttention
from nmt.attention.memory import Memory
from nmt.cells.cell import SHORTCUTS, Cell
from nmt.cells.gru import GRUCell
from nmt.cells.lstm import LSTMCell
from nmt.cells.state import Noise, State
from nmt.model.decoder import Decoded, Decoder
from nmt.model.prepared import prepare
from nmt.model.recurrent_decoder import RecurrentDecoder
from nmt.model.seq2seq import Seq2Seq, build_model
from nmt.options import Choice
from nmt.products import prepare_for
from nmt.registry import CELL, register
from nmt.search.beam import beam_search
from nmt.search.hypothesis import Marks
from nmt.search.scoring import score

SOURCE, LENGTHS = torch.tensor([[5, 6, 7, 3], [8, 3, 0, 0]]), torch.tensor([4, 2])


class Fading(LSTMCell):
    """An LSTM whose output fades, with the constructor of the one it derives from."""

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        h, state = super().step(projected, state, noise)
        return 0.5 * h, state


class Doubling(LSTMCell):
    """Another projection alone."""

    def project(self, xs: Tensor) -> Tensor:
        return super().project(2 * xs)


class Started(LSTMCell):
    """Another start alone."""

    def initial_state(self, batch_size: int) -> State:
        return tuple(tensor + 0.3 for tensor in super().initial_state(batch_size))


class HalfStep:
    """A mixin."""

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        return super().step(0.5 * projected, state, noise)


class Mixed(HalfStep, GRUCell):
    """Its step is the mixin's."""


class Own(LSTMCell):
    """Another step, and a shortcut for that."""

    def step(self, projected: Tensor, state: State, noise: Noise = ()) -> tuple[Tensor, State]:
        return super().step(projected, state, noise)

    unroll = LSTMCell.unroll


class Renamed(Fading):
    """Replaces nothing itself."""


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        (LSTMCell, {"input_layer", "unroll", "branching", "reading"}),
        (Fading, {"input_layer"}),
        (Renamed, {"input_layer"}),
        (Doubling, {"branching"}),
        (Started, {"input_layer", "unroll", "branching"}),
        (Mixed, {"input_layer"}),
        (Own, {"input_layer", "unroll"}),
    ],
)
def test_a_cell_keeps_the_shortcuts_that_rest_on_nothing_it_replaces(kind: type[Cell], kept: set[str]) -> None:
    assert {name for name in SHORTCUTS if getattr(kind, name) is not getattr(Cell, name)} == kept


def test_an_attention_with_another_step_no_longer_says_that_it_averages() -> None:
    class Halved(GeneralAttention):
        def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
            _, weights = super().forward(query, memory)
            return 0.5 * weights @ memory.encoded.states, weights

    class Keyed(GeneralAttention):
        pass

    assert (Attention.averages, GeneralAttention.averages, Halved.averages, Keyed.averages) == (
        False,
        True,
        False,
        True,
    )


def model_of(cell: str, **decoder: object) -> Seq2Seq:
    torch.manual_seed(1)
    settings = recipe.Model(
        embedding_size=8,
        encoder=Choice("recurrent", {"hidden_size": 32, "cell": Choice(cell)}),
        decoder=Choice("recurrent", {"hidden_size": 32, "cell": Choice(cell), **decoder}),
        engine="loop",
    )
    return build_model(settings, 30, 30, shared=True).eval()


@pytest.mark.parametrize("kind", [Fading, Doubling, Started, Mixed, LSTMCell])
@pytest.mark.parametrize("feeding", [False, True])
def test_a_derived_cell_translates_as_it_trains(kind: type[Cell], feeding: bool) -> None:
    """The scores of search, by a model that is ready for translating, are those of the plain model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nmt.registry._registered", {})  # for this model alone
        name = f"derived-{kind.__name__.lower()}"
        register(CELL, name)(kind)
        model, ready = (model_of(name, input_feeding=feeding) for _ in range(2))
    prepare(ready, prepare_for("fp32", torch.device("cpu"), 1))
    with torch.inference_mode():
        found = beam_search(
            ready.decoder, ready.encoder(SOURCE, LENGTHS), recipe.Search(beam=3), Marks(2, 3, (0, 1, 2))
        )
    for row, (hypothesis,) in enumerate(found):
        target = torch.tensor([[2, *hypothesis.tokens, 3]])
        given = SOURCE[row : row + 1, : LENGTHS[row]], LENGTHS[row : row + 1], target, torch.tensor([target.shape[1]])
        assert score(model, *given) == pytest.approx([hypothesis.log_probability], abs=1e-4)


def test_a_derived_decoder_searches_by_its_own_step() -> None:
    class Blind(RecurrentDecoder):
        def step(self, tokens: Tensor, state: State, memory: Memory, noise: Noise = ()) -> Decoded:
            return super().step(tokens, state, Memory(memory.encoded, 0.0 * memory.keys), noise)

    class Renamed(RecurrentDecoder):
        pass

    assert Blind.branch is Decoder.branch
    assert Blind.prepare_search is Decoder.prepare_search
    assert Renamed.branch is RecurrentDecoder.branch
