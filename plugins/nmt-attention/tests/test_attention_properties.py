"""What holds of the attentions beside their formulas: the contract, what they become at the edges, and search."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nmt import recipe
from nmt.attention.attention import Attention
from nmt.attention.memory import Encoded, Memory
from nmt.cells.engines import mask_of
from nmt.errors import UserError
from nmt.model.seq2seq import Seq2Seq, build_model
from nmt.options import Choice
from nmt.registry import ATTENTION, load
from nmt.search.beam import beam_search
from nmt.search.hypothesis import Marks
from nmt.testing import check_attention

STATELESS = [
    ("scaled-dot", {}),
    ("scaled-general", {}),
    ("normed-additive", {}),
    ("normed-additive", {"size": 3}),
    ("multi-head", {}),
    ("multi-head", {"heads": 1}),
    ("local", {}),
    ("local", {"window": 1}),
]
STATEFUL = [
    ("local", {"centre": "step", "window": 1}),
    ("coverage", {}),
    ("coverage", {"fertility": 2.0, "size": 3}),
    ("coverage", {"units": 3}),
    ("location", {}),
    ("location", {"cumulative": True, "width": 1, "filters": 2}),
    ("monotonic-chunkwise", {}),
    ("monotonic-chunkwise", {"chunk": 1, "size": 3}),
    ("monotonic-chunkwise", {"chunk": 9, "noise": 0.0, "start": 1.0}),
    ("monotonic-chunkwise", {"hard": True, "start": 0.0}),
]
LENGTHS = torch.tensor([7, 2, 4, 5])


def made(name: str, options: dict[str, object] | None = None) -> Attention:
    torch.manual_seed(11)
    attention: Attention = Choice(name, options or {}).build(ATTENTION, 8, 8).double().eval()
    return attention


def some_source(lengths: Tensor = LENGTHS, dtype: torch.dtype = torch.double) -> Encoded:
    torch.manual_seed(13)
    mask = mask_of(lengths, int(lengths.max()), torch.device("cpu"))
    states = torch.randn(*mask.shape, 8, dtype=torch.double).to(dtype) * mask[..., None]
    return Encoded(states, mask, lengths, states[:, 0])


def some_queries(rows: int = len(LENGTHS), steps: int = 9) -> Tensor:
    torch.manual_seed(17)
    return torch.randn(rows, steps, 8, dtype=torch.double)


def looked(attention: Attention, source: Encoded, steps: int = 9) -> tuple[Tensor, Tensor]:
    contexts, weights = attention(some_queries(len(source.lengths), steps), attention.prepare(source))
    return contexts, weights


@pytest.mark.parametrize(("name", "options"), STATELESS + STATEFUL)
def test_it_keeps_the_contract_of_attentions(name: str, options: dict[str, object]) -> None:
    check_attention(load(ATTENTION, name), **options)


@pytest.mark.parametrize(("name", "options"), STATELESS + STATEFUL)
def test_contexts_are_the_weighted_sum_of_the_states(name: str, options: dict[str, object]) -> None:
    if name == "multi-head":
        return
    source = some_source()
    contexts, weights = looked(made(name, options), source)
    torch.testing.assert_close(contexts, (weights[..., None] * source.states[:, None]).sum(2))


@pytest.mark.parametrize(("name", "options"), STATELESS + STATEFUL)
def test_weights_are_a_distribution_unless_the_formula_says_less(name: str, options: dict[str, object]) -> None:
    _, weights = looked(made(name, options), some_source())
    totals = weights.sum(-1)
    if name == "monotonic-chunkwise" or (name == "local" and "centre" not in options):
        assert bool((totals <= 1 + 1e-12).all()) and bool((totals < 0.999).any())
    else:
        torch.testing.assert_close(totals, torch.ones_like(totals))


@pytest.mark.parametrize(("name", "options"), STATEFUL)
def test_what_it_remembers_stays_right_when_longer_sentences_leave(name: str, options: dict[str, object]) -> None:
    attention = made(name, options)
    memory, queries = attention.prepare(some_source()), some_queries(steps=6)
    state = attention.initial_state(memory)
    for t in range(3):
        _, _, state = attention.step(queries[:, t : t + 1], state, memory)
    for kept in ([1, 2, 3], [0, 1]):  # of those that are left: the one of 7 tokens goes first, then one of 5
        rows = torch.tensor(kept)
        memory, state, queries = memory.select(rows), tuple(tensor[rows] for tensor in state), queries[rows]
        t += 1
        contexts, weights, state = attention.step(queries[:, t : t + 1], state, memory)
    whole = attention(some_queries(steps=6)[[1, 2]], attention.prepare(some_source().select(torch.tensor([1, 2]))))
    torch.testing.assert_close(contexts[:, 0], whole[0][:, t])
    torch.testing.assert_close(weights[:, 0], whole[1][:, t])


@pytest.mark.parametrize(("name", "options"), STATEFUL)
def test_hypotheses_of_a_sentence_remember_apart(name: str, options: dict[str, object]) -> None:
    attention = made(name, options)
    source, queries = some_source(), some_queries(2 * len(LENGTHS), 5).unflatten(0, (-1, 2))  # [B, K, T, H]
    memory = attention.prepare(source)
    state = tuple(tensor.repeat_interleave(2, 0) for tensor in attention.initial_state(memory))
    for t in range(5):
        contexts, _, state = attention.step(queries[:, :, t], state, memory)
    for k in range(2):
        torch.testing.assert_close(contexts[:, k], attention(queries[:, k], memory)[0][:, -1])


def test_one_head_with_plain_projections_is_scaled_dot_attention() -> None:
    attention = made("multi-head", {"heads": 1})
    for parameter in attention.parameters():
        torch.nn.init.eye_(parameter)
    torch.testing.assert_close(looked(attention, some_source()), looked(made("scaled-dot"), some_source()))


def test_scaled_general_starts_as_general() -> None:
    general, scaled = made("general"), made("scaled-general")
    scaled.load_state_dict(general.state_dict() | {"gain": scaled.state_dict()["gain"]})
    torch.testing.assert_close(looked(general, some_source()), looked(scaled, some_source()))


def test_a_window_wider_than_the_source_is_general_attention() -> None:
    local = made("local", {"centre": "step", "window": 20})
    general = made("general")
    general.load_state_dict(local.state_dict())
    torch.testing.assert_close(looked(local, some_source()), looked(general, some_source()))


@pytest.mark.parametrize(
    ("name", "options"), [each for each in STATEFUL if each[0] in ("coverage", "location") and "size" not in each[1]]
)
def test_nothing_covered_is_additive_attention(name: str, options: dict[str, object]) -> None:
    attention, additive = made(name, options), made("additive")
    shared = {key: value for key, value in attention.state_dict().items() if key in additive.state_dict()}
    additive.load_state_dict(shared)
    ours, theirs = (looked(each, some_source())[1] for each in (attention, additive))
    torch.testing.assert_close(ours[:, 0], theirs[:, 0])
    assert not torch.allclose(ours[0, 1], theirs[0, 1], atol=1e-4)


def test_a_monotonic_place_never_moves_back() -> None:
    attention = made("monotonic-chunkwise", {"hard": True, "start": 2.0, "chunk": 1})
    with torch.no_grad():
        attention.stop.gain.mul_(10)
    _, weights = looked(attention, some_source(), 20)
    for row in weights:
        places = [int(step.argmax()) for step in row if step.any()]
        assert places == sorted(places)
    assert len({int(step.argmax()) for step in weights[0] if step.any()}) > 1


def test_what_has_run_past_the_end_never_comes_back() -> None:
    _, weights = looked(made("monotonic-chunkwise"), some_source())
    totals = weights.sum(-1)
    assert bool((totals[:, 1:] <= totals[:, :-1] + 1e-12).all())
    assert bool((totals[:, -1] < totals[:, 0]).all())


def test_noise_is_drawn_in_training_alone() -> None:
    torch.manual_seed(1)
    with_noise, without = made("monotonic-chunkwise"), made("monotonic-chunkwise", {"noise": 0.0})
    expected = looked(without, some_source())
    torch.testing.assert_close(looked(with_noise, some_source()), expected)
    torch.testing.assert_close(looked(without.train(), some_source()), expected)
    assert not torch.allclose(looked(with_noise.train(), some_source())[0], expected[0])


@pytest.mark.parametrize("start", [-12.0, -4.0, 0.0, 6.0])
def test_expected_places_are_exact_in_float32_over_long_sources(start: float) -> None:
    attention = made("monotonic-chunkwise", {"start": start})
    with torch.no_grad():
        attention.stop.gain.mul_(30)
    lengths = torch.tensor([400, 257])
    _, weights = looked(attention, some_source(lengths), 30)
    source = some_source(lengths, torch.float)
    single = attention.float()
    contexts, near = single(some_queries(2, 30).float(), single.prepare(source))
    torch.testing.assert_close(near.double(), weights, rtol=2e-3, atol=1e-6)
    contexts.square().sum().backward()
    assert all(bool(p.grad is not None and p.grad.isfinite().all()) for p in single.parameters())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("multi-head", {"heads": 3}, "3 heads don't divide"),
        ("location", {"width": 4}, "choose an odd width"),
        ("coverage", {"fertility": 2.0, "units": 3}, "give one of them"),
    ],
)
def test_options_that_do_not_fit_are_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(name, options)


def test_scaled_dot_needs_equal_sizes() -> None:
    with pytest.raises(UserError, match="not 4 and 8; use scaled-general"):
        Choice("scaled-dot").build(ATTENTION, 4, 8)


def model_with(name: str, options: dict[str, object]) -> Seq2Seq:
    torch.manual_seed(5)
    settings = recipe.Model(
        embedding_size=6,
        encoder=Choice("recurrent", {"hidden_size": 4}),
        decoder=Choice("recurrent", {"hidden_size": 8, "attention": Choice(name, options)}),
        initialization=recipe.Initialization(weights="uniform", scale=0.9, recurrent="same"),
    )
    return build_model(settings, 7, 7, shared=True).double().eval()


@pytest.mark.parametrize(("name", "options"), STATELESS + STATEFUL)
def test_a_beam_finds_the_same_alone_and_in_a_batch(name: str, options: dict[str, object]) -> None:
    model, marks = model_with(name, options), Marks(2, 3, (0, 1, 2))
    search = recipe.Search(beam=5, max_length_extra=4)
    source = torch.tensor([[4, 5, 6, 4, 4, 3], [6, 3, 0, 0, 0, 0], [5, 4, 6, 3, 0, 0], [6, 5, 5, 4, 3, 0]])
    lengths = torch.tensor([6, 2, 4, 5])

    def found(rows: list[int]) -> list[tuple[tuple[int, ...], float]]:
        with torch.inference_mode():
            encoded: Encoded = model.encoder(source[rows, : int(lengths[rows].max())], lengths[rows])
        best = beam_search(model.decoder, encoded, search, marks)
        return [(hypothesis.tokens, pytest.approx(hypothesis.score, rel=1e-10)) for (hypothesis,) in best]

    assert found([0, 1, 2, 3]) == [best for row in range(4) for best in found([row])]


def test_a_memory_holds_no_more_than_its_sentences() -> None:
    memory: Memory = made("monotonic-chunkwise").prepare(some_source())
    assert memory.keys.shape == (4, 7, 16)
    assert made("monotonic-chunkwise", {"chunk": 1}).prepare(some_source()).keys.shape == (4, 7, 8)
