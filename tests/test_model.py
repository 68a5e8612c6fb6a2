"""Encoders, decoders and attentions: properties that hold for every built-in combination."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nmt import recipe, registry
from nmt.attention.attention import Attention, read, stepwise
from nmt.attention.memory import Encoded, Memory
from nmt.cells.engines import mask_of
from nmt.cells.gru import GRUCell
from nmt.cells.state import State
from nmt.errors import UserError
from nmt.model.pretrained import load_embeddings
from nmt.model.seq2seq import Seq2Seq, assemble, build_model
from nmt.model.weights import (
    Unfilled,
    load_weights,
    map_weights,
    named_weights,
    no_larger_than,
    save_weights,
    stored_shapes,
)
from nmt.options import Choice
from nmt.products import Product, plain
from nmt.registry import ATTENTION, CELL, available

SOURCE = torch.tensor([[5, 6, 7, 8, 3], [9, 3, 0, 0, 0], [4, 11, 6, 3, 0]])
LENGTHS = torch.tensor([5, 2, 4])
TARGET = torch.tensor([[2, 5, 6, 7], [2, 8, 9, 4], [2, 10, 4, 5]])
DECODERS = {
    "plain": {},
    "deep": {"layers": 3, "residual": True},
    "deep output": {"deep_output": True},
    "first": {"layers": 2, "attention_layer": "first"},
    "first with deep output": {"layers": 3, "attention_layer": "first", "deep_output": True},
    "input feeding": {"input_feeding": True},
    "first with input feeding": {"layers": 2, "attention_layer": "first", "input_feeding": True},
    "from zeros": {"start": "zeros"},
    "from the last": {"start": "last"},
    "from the mean": {"start": "mean"},
    "of a gru": {"cell": "gru", "layers": 2},
}


def make(encoder: dict | None = None, decoder: dict | None = None, **settings: object) -> Seq2Seq:
    torch.manual_seed(3)
    sizes = {"hidden_size": 4, "layers": 2, "dropout": 0.2, "embedding_dropout": 0.2}
    settings = recipe.Model(
        embedding_size=6,
        encoder=Choice("recurrent", sizes | (encoder or {})),
        decoder=Choice("recurrent", {"hidden_size": 8, "dropout": 0.2} | (decoder or {})),
        **settings,
    )
    return build_model(settings, 12, 12, shared=True).double().eval()


def encoded(model: Seq2Seq) -> Encoded:
    return model.encoder(SOURCE, LENGTHS)


def close(one: Tensor, other: Tensor) -> bool:
    return bool(torch.allclose(one, other, rtol=1e-10, atol=1e-12))


@pytest.mark.parametrize(
    ("attention", "options"),
    [
        pair
        for pair in itertools.product(available(ATTENTION), DECODERS.values())
        if pair != ("none", {"start": "zeros"})
    ],
    ids=str,
)
def test_all_steps_at_once_equal_one_after_another(attention: str, options: dict) -> None:
    model = make(decoder={"attention": attention, **options})
    memory = model.decoder.prepare(encoded(model))
    whole = model.decoder(TARGET, memory)
    stepwise = model.decoder.forward_stepwise(TARGET, memory)
    assert whole.shape == (3, 4, 8)
    assert close(whole, stepwise)


@pytest.mark.parametrize("options", DECODERS.values(), ids=DECODERS)
def test_rows_of_a_beam_share_their_sentence_and_nothing_else(options: dict) -> None:
    model = make(decoder=options)
    memory = model.decoder.prepare(encoded(model))
    state = model.decoder.initial_state(memory)
    beams = tuple(tensor.repeat_interleave(2, 0) for tensor in state)
    tokens = torch.tensor([4, 5, 6, 7, 8, 9])
    features, following, weights = model.decoder.step(tokens, beams, memory)
    for row in range(6):
        alone = memory.select(torch.tensor([row // 2]))
        single = model.decoder.step(tokens[row : row + 1], tuple(t[row : row + 1] for t in beams), alone)
        assert close(features[row : row + 1], single.features)
        size = single.weights.shape[1]
        assert close(weights[row : row + 1, :size], single.weights)
        assert not weights[row, size:].any()
        assert all(close(one[row : row + 1], other) for one, other in zip(following, single.state, strict=True))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_sentence_is_encoded_the_same_alone_and_in_a_batch(bidirectional: bool) -> None:
    model = make(encoder={"bidirectional": bidirectional, "residual": True})
    together = encoded(model)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model.encoder(SOURCE[row : row + 1, :length], LENGTHS[row : row + 1])
        assert close(together.states[row : row + 1, :length], alone.states)
        assert close(together.summary[row : row + 1], alone.summary)
        assert not together.states[row, length:].any()


@pytest.mark.parametrize("name", ["additive", "dot", "general"])
def test_attention_weights_are_a_distribution_over_the_tokens(name: str) -> None:
    attention = Choice(name).build(ATTENTION, 8, 8).double()
    mask = mask_of(LENGTHS, 5, torch.device("cpu"))
    states = torch.randn(3, 5, 8, dtype=torch.double)
    source = Encoded(states, mask, LENGTHS, states[:, 0])
    contexts, weights = attention(torch.randn(3, 2, 8, dtype=torch.double), attention.prepare(source))
    assert close(weights.sum(-1), torch.ones(3, 2, dtype=torch.double))
    assert not weights.masked_select(~mask[:, None]).any()
    assert close(contexts, torch.einsum("bts,bsd->btd", weights, states))


def test_the_scores_of_attention_follow_their_formulas() -> None:
    states, query = torch.randn(1, 3, 4, dtype=torch.double), torch.randn(1, 1, 4, dtype=torch.double)
    everything = Encoded(states, torch.ones(1, 3, dtype=torch.bool), torch.tensor([3]), states[:, 0])

    def weights_of(attention: torch.nn.Module) -> Tensor:
        return attention(query, attention.prepare(everything))[1][0, 0]

    q, s = query[0, 0], states[0]
    dot = Choice("dot").build(ATTENTION, 4, 4)
    assert close(weights_of(dot), torch.softmax(torch.stack([q @ each for each in s]), 0))
    general = Choice("general").build(ATTENTION, 4, 4).double()
    assert close(weights_of(general), torch.softmax(torch.stack([q @ general.key.weight @ each for each in s]), 0))
    additive = Choice("additive", {"size": 5}).build(ATTENTION, 4, 4).double()
    u, w, b, v = additive.query.weight, additive.key.weight, additive.key.bias, additive.score.weight[0]
    scores = torch.stack([v @ torch.tanh(u @ q + w @ each + b) for each in s])
    assert close(weights_of(additive), torch.softmax(scores, 0))


class Covering(Attention):
    """score = qᵀ s - coverage, coverage' = coverage + a: less and less of what was read before."""

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__(query_size, key_size, context_size=key_size)

    def prepare(self, encoded: Encoded) -> Memory:
        return Memory(encoded, encoded.states)

    def initial_state(self, memory: Memory) -> State:
        return (torch.zeros_like(memory.encoded.mask, dtype=memory.keys.dtype),)

    def step(self, query: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        coverage = state[0][:, : memory.keys.shape[1]].view(query.shape[0], query.shape[1], -1)
        contexts, weights = read(query @ memory.keys.mT - 3 * coverage, memory)
        return contexts, weights, ((coverage + weights).flatten(0, 1),)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        return stepwise(self, query, memory)


@pytest.mark.parametrize("options", DECODERS.values(), ids=DECODERS)
def test_an_attention_that_remembers_is_carried_along_and_reordered(options: dict, monkeypatch) -> None:
    monkeypatch.setitem(registry._registered, (ATTENTION.group, "covering"), Covering)
    model = make(decoder={"attention": "covering", **options})
    memory = model.decoder.prepare(encoded(model))
    assert close(model.decoder(TARGET, memory), model.decoder.forward_stepwise(TARGET, memory))


def test_a_fixed_vector_decoder_sees_the_source_only_through_its_first_state() -> None:
    model = make(decoder={"attention": "none"})
    source = encoded(model)
    blind = Encoded(torch.zeros_like(source.states), source.mask, source.lengths, source.summary)
    assert close(
        model.decoder(TARGET, model.decoder.prepare(source)), model.decoder(TARGET, model.decoder.prepare(blind))
    )


@pytest.mark.parametrize("start", ["zeros", "learned"])
def test_a_decoder_that_would_never_see_the_source_is_refused(start: str, monkeypatch) -> None:
    class Matrix(GRUCell):
        def __init__(self, input_size: int, hidden_size: int) -> None:
            super().__init__(input_size, hidden_size)
            self.state_shapes = ((1, hidden_size),)

    monkeypatch.setitem(registry._registered, (CELL.group, "matrix"), Matrix)
    with pytest.raises(UserError, match="a decoder never sees the source; choose an attention"):
        make(decoder={"attention": "none", "start": start, "cell": "matrix"})
    assert make(decoder={"attention": "none", "start": "learned"})
    assert make(decoder={"attention": "general", "start": start, "cell": "matrix"})


def test_scheduled_sampling_with_only_gold_tokens_is_teacher_forcing() -> None:
    model = make()
    gold = torch.ones_like(TARGET, dtype=torch.bool)
    assert close(model(SOURCE, LENGTHS, TARGET, gold), model(SOURCE, LENGTHS, TARGET))


def test_scheduled_sampling_reads_the_decoders_own_best_token_where_not_gold() -> None:
    model = make()
    gold = torch.tensor([[True, False, True, False]]).expand(3, -1)
    features = model(SOURCE, LENGTHS, TARGET, gold)
    own = TARGET.clone()
    for t in (1, 3):
        own[:, t] = model.decoder.logits(model(SOURCE, LENGTHS, own))[:, t - 1].argmax(-1)
    assert not torch.equal(own, TARGET)
    assert close(features, model(SOURCE, LENGTHS, own))


def test_padding_behind_a_target_changes_nothing_before_it() -> None:
    model = make()
    longer = torch.cat([TARGET, torch.zeros(3, 2, dtype=torch.long)], 1)
    assert close(model(SOURCE, LENGTHS, longer)[:, :4], model(SOURCE, LENGTHS, TARGET))


@pytest.mark.parametrize(("tie", "tensors"), [("none", 3), ("two-way", 2), ("three-way", 1)])
def test_tying_shares_the_vocabulary_sized_matrices(tie: str, tensors: int) -> None:
    model = make(tie_embeddings=tie)
    assert sum(weight.shape[0] == 12 and weight.dim() == 2 for weight in named_weights(model).values()) == tensors
    assert model.decoder.logits(model(SOURCE, LENGTHS, TARGET)).shape == (3, 4, 12)


def test_a_three_way_tie_of_different_sizes_is_refused() -> None:
    with pytest.raises(UserError, match="three-way needs one tokenizer"):
        make(tie_embeddings="three-way", target_embedding_size=9)


@pytest.mark.parametrize("tie", ["none", "two-way", "three-way"])
@pytest.mark.parametrize("target", [30_000, 20_000])
def test_a_model_that_is_nearly_all_tokens_vectors_may_be_loaded_but_no_larger_one(
    tmp_path: Path, tie: str, target: int
) -> None:
    small, path = {"type": "recurrent", "hidden_size": 4}, tmp_path / "model.safetensors"
    settings = {"embedding_size": 64, "tie_embeddings": tie, "encoder": small, "decoder": small}
    model = build_model(recipe.Model.model_validate(settings), 30_000, target, shared=True)
    save_weights(named_weights(model), path)
    with no_larger_than(stored_shapes(path), path):
        assemble(recipe.Model.model_validate(settings), 30_000, target, shared=True)
    with pytest.raises(UserError, match="far smaller model"), no_larger_than(stored_shapes(path), path):
        assemble(recipe.Model.model_validate(settings), 150_000, target, shared=True)


@pytest.mark.parametrize("tie", ["none", "two-way", "three-way"])
def test_a_target_of_fewer_tokens_has_the_sources_first_vectors_where_they_are_tied(tie: str) -> None:
    settings = recipe.Model.model_validate({"embedding_size": 6, "tie_embeddings": tie})
    model = build_model(settings, 12, 9, shared=True).double().eval()
    source, target, tokens = model.encoder.embedding, model.decoder.embedding, TARGET.clamp(max=8)
    assert torch.equal(source(tokens), target(tokens)) == (tie == "three-way")
    features = model(SOURCE, LENGTHS, tokens)
    logits = model.decoder.logits(features)
    assert logits.shape == (3, 4, 9)
    if tie != "none":
        expected = model.decoder.output.narrow(features) @ target.weight[:9].T + model.decoder.output.bias
        assert close(logits, expected)
    logits.sum().backward()
    model.decoder.prepare_weights(plain, keep=False)
    assert close(model.decoder.logits(features), logits)


def test_sizes_of_encoder_and_decoder_may_differ_in_every_way() -> None:
    model = make(
        encoder={"hidden_size": 3, "layers": 3, "cell": "elman"},
        decoder={"hidden_size": 10, "layers": 2},
        target_embedding_size=7,
    )
    assert model(SOURCE, LENGTHS, TARGET).shape == (3, 4, 10)


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        ({"attention": "dot", "hidden_size": 5}, "dot attention needs"),
        ({"start": "last", "hidden_size": 5}, "start: last needs"),
        ({"attention_layer": "first", "layers": 1}, "needs a layer above"),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_words(decoder: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make(decoder=decoder)


def test_recurrent_matrices_start_orthogonal_gate_by_gate() -> None:
    weight = make().encoder.layers.layers[0].forwards.cell.recurrent.weight
    for gate in weight.split(4):
        assert torch.allclose(gate @ gate.T, torch.eye(4, dtype=torch.double), atol=1e-6)


def test_an_output_layer_starts_as_vectors_of_tokens_however_many_there_are() -> None:
    for size in (100, 10_000):
        settings = recipe.Model(decoder=Choice("recurrent", {"hidden_size": 64}))
        weight = build_model(settings, 20, size, shared=False).decoder.output.weight
        assert weight.std().item() == pytest.approx(2 * 64**-0.5, rel=0.05)


def test_an_output_layer_over_some_tokens_gives_their_logits_and_lays_the_shared_ones_out_once() -> None:
    settings = recipe.Model(decoder=Choice("recurrent", {"hidden_size": 64}))
    output = build_model(settings, 20, 300, shared=False).decoder.output
    nn.init.normal_(output.bias)
    features, shared = torch.randn(3, 64), torch.tensor([4, 3, 7])
    laid_out: list[int] = []

    def prepare(weight: Tensor, bias: Tensor | None) -> Product:
        laid_out.append(len(weight))
        return plain(weight, bias)

    def logits(shared: Tensor, further: list[int]) -> None:
        columns = [*shared.tolist(), *further]
        found = torch.cat(output.over(shared, torch.tensor(further, dtype=torch.long))(features), -1)
        assert torch.allclose(found, output(features)[:, columns], atol=1e-5)

    logits(shared, [0, 9])
    nn.init.normal_(output.weight)  # as long as weights aren't prepared, nothing is kept
    logits(shared, [8])
    output.prepare(prepare)
    for further in ([0, 9], [8], []):
        logits(shared.clone(), further)
    logits(torch.tensor([4, 3]), [5])
    assert laid_out == [300, 3, 2, 1, 2, 1]


def test_initialisation_keeps_the_forget_bias_and_obeys_its_scale() -> None:
    settings = recipe.Initialization(weights="uniform", recurrent="same", embeddings="uniform", scale=0.05)
    model = make(initialization=settings)
    assert model.encoder.layers.layers[0].forwards.cell.input.bias[4:8].tolist() == [1.0] * 4
    for weight in named_weights(model).values():
        if weight.dim() >= 2:
            assert 0.0 < weight.abs().max() <= 0.05


def test_the_same_seed_gives_the_same_model_whatever_ran_before() -> None:
    one = make()
    torch.rand(7)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), make().parameters(), strict=True))


def test_weights_survive_the_disk_and_others_are_refused(tmp_path: Path) -> None:
    model, path = make(tie_embeddings="three-way"), tmp_path / "model.safetensors"
    save_weights(named_weights(model), path)
    other = make(tie_embeddings="three-way")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    load_weights(named_weights(other), path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    with pytest.raises(UserError, match=r"lacks the weight|unknown weight"):
        load_weights(named_weights(make()), path)
    with pytest.raises(UserError, match=r"is \["):
        load_weights(named_weights(make(tie_embeddings="three-way", encoder={"hidden_size": 5})), path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        load_weights(named_weights(other), path)


class Tables(nn.Module):
    """Has all kinds of buffers, full of `number`."""

    def __init__(self, number: int) -> None:
        super().__init__()
        for kind in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.float64):
            self.register_buffer(str(kind)[6:], torch.full((3,), number, dtype=kind))


@pytest.mark.parametrize("load", [load_weights, map_weights])
def test_buffers_of_integers_and_masks_survive_the_disk(load: Callable[..., None], tmp_path: Path) -> None:
    model, other = Tables(1), Tables(0)
    save_weights(named_weights(model), tmp_path / "weights")
    load(named_weights(other), tmp_path / "weights")
    for name, tensor in named_weights(model).items():
        loaded = other.get_buffer(name)
        assert torch.equal(loaded, tensor) and loaded.dtype == tensor.dtype
    with pytest.raises(UserError, match=r"weights: int8 is torch.int8, not torch.float32; use the recipe"):
        load({**named_weights(other), "int8": torch.zeros(3)}, tmp_path / "weights")
    for name, kind in (("float64", torch.int32), ("int64", torch.int8), ("uint8", torch.bool)):
        with pytest.raises(UserError, match=rf"weights: {name} is torch.{name}, not {kind}; use the recipe"):
            load({**named_weights(other), name: torch.zeros(3, dtype=kind)}, tmp_path / "weights")


def test_pretrained_embeddings_fill_the_rows_of_known_pieces(tmp_path: Path) -> None:
    pieces, weight = ["<pad>", "▁a", "▁b"], torch.zeros(3, 2)
    text = tmp_path / "vectors.txt"
    text.write_text("2 2\n▁b 1 2\n▁unknown 3 4\n")
    assert load_embeddings(text, pieces, weight) == 1
    assert weight.tolist() == [[0, 0], [0, 0], [1, 2]]
    tensors = tmp_path / "vectors.safetensors"
    save_file({"weight": torch.ones(3, 2)}, tensors)
    assert load_embeddings(tensors, pieces, weight) == 3
    assert weight.tolist() == [[1, 1]] * 3
    save_file({"weight": torch.ones(3, 2, dtype=torch.int64)}, tensors)
    with pytest.raises(UserError, match=r"'weight' is of type I64, not one of F32, .*; use another file"):
        load_embeddings(tensors, pieces, weight)


@pytest.mark.parametrize(
    ("content", "words"),
    [("▁a 1\n", r"txt:1: 1 numbers, the model has 2"), ("▁a 1 x\n", "could not convert"), ("▁z 1 2\n", "no piece")],
)
def test_bad_embedding_files_are_refused_in_words(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        load_embeddings(path, ["▁a"], torch.zeros(1, 2))


def test_selecting_sentences_keeps_their_memory() -> None:
    model = make()
    memory = model.decoder.prepare(encoded(model))
    selected = memory.select(torch.tensor([2, 1]))
    assert isinstance(selected, Memory)
    assert selected.encoded.lengths.tolist() == [4, 2]
    assert torch.equal(selected.keys, memory.keys[[2, 1], :4])


def test_drawn_buffers_are_drawn_where_parameters_are_only_loaded(tmp_path: Path) -> None:
    class Ordered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Linear(2, 3).weight
            drawn = torch.empty(4).normal_(generator=torch.Generator().manual_seed(1))
            self.register_buffer("drawn", drawn, persistent=False)

    model = Ordered()
    save_weights(named_weights(model), tmp_path / "weights")
    with Unfilled():
        other = Ordered()
    map_weights(named_weights(other), tmp_path / "weights")
    for name in ("weight", "drawn"):
        assert torch.equal(getattr(other, name), getattr(model, name))
