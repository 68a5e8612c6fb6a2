"""Search: what it finds, against trying everything, and that nothing in it depends on the batch."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from nmt import recipe
from nmt.attention.memory import Encoded, Memory
from nmt.cells.state import State
from nmt.errors import RunError, UserError
from nmt.model.decoder import Decoded
from nmt.model.prepared import prepare
from nmt.model.seq2seq import Seq2Seq, build_model
from nmt.options import Choice
from nmt.products import WeightPrecision, prepare_for
from nmt.search.beam import TOGETHER, beam_search
from nmt.search.candidates import Continuations, best
from nmt.search.hypothesis import Hypothesis, Marks, normalizer
from nmt.search.limits import Limits
from nmt.search.scoring import score
from nmt.search.sentence import Sentence
from nmt.text.shortlist import Shortlist

PAD, UNKNOWN, BEGIN, END = range(4)
MARKS = Marks(BEGIN, END, (PAD, UNKNOWN, BEGIN))
SOURCE = torch.tensor([[4, 5, 6, 3], [6, 3, 0, 0], [5, 4, 3, 0], [4, 3, 0, 0], [6, 5, 5, 3]])
LENGTHS = torch.tensor([4, 2, 3, 2, 4])
NORMALIZATIONS = [("average", 1.0), ("average", 0.6), ("gnmt", 0.8), ("none", 1.0)]


def make(vocab_size: int = 7, seed: int = 5, *, encoder_size: int = 5, **decoder: object) -> Seq2Seq:
    torch.manual_seed(seed)
    settings = recipe.Model(
        embedding_size=6,
        encoder=Choice("recurrent", {"hidden_size": encoder_size}),
        decoder=Choice("recurrent", {"hidden_size": 8, **decoder}),
        initialization=recipe.Initialization(weights="uniform", scale=0.9, recurrent="same"),
    )
    return build_model(settings, vocab_size, vocab_size, shared=True).double().eval()


def encode(model: Seq2Seq, rows: list[int] | slice = slice(None)) -> Encoded:
    lengths = LENGTHS[rows]
    with torch.inference_mode():
        return model.encoder(SOURCE[rows, : int(lengths.max())], lengths)


def exhaustive(model: Seq2Seq, row: int, settings: recipe.Search, longest: int, shortest: int) -> list[Hypothesis]:
    """Every translation of up to `longest` tokens, scored by the scorer, the best first."""
    words = [token for token in range(7) if token not in (*MARKS.banned, END)]
    found = []
    for length in range(shortest, longest + 1):
        for tokens in itertools.product(words, repeat=length - 1):
            target = torch.tensor([[BEGIN, *tokens, END]])
            (log_p,) = score(
                model,
                SOURCE[row : row + 1, : LENGTHS[row]],
                LENGTHS[row : row + 1],
                target,
                torch.tensor([target.shape[1]]),
            )
            found.append(Hypothesis(tokens, log_p / normalizer(length, settings), log_p, length < longest, None))
    return sorted(found, key=lambda each: -each.score)


@pytest.mark.parametrize(("normalization", "alpha"), NORMALIZATIONS)
@pytest.mark.parametrize("minimum", [0.0, 1.0])
def test_a_beam_as_wide_as_everything_is_exhaustive_search(normalization: str, alpha: float, minimum: float) -> None:
    model = make()
    settings = recipe.Search(
        beam=200,
        normalization=normalization,
        length_penalty=alpha,
        min_length_ratio=minimum,
        max_length_ratio=0.0,
        max_length_extra=4,
        lookahead=None,
    )
    found = beam_search(model.decoder, encode(model), settings, MARKS, n_best=5)
    for row, length in enumerate(LENGTHS.tolist()):
        shortest = min(int((length - 1) * minimum) + 1, 4)
        best = exhaustive(model, row, settings, 4, shortest)[:5]
        assert [each.tokens for each in found[row]] == [each.tokens for each in best]
        for ours, theirs in zip(found[row], best, strict=True):
            assert ours.score == pytest.approx(theirs.score, rel=1e-10)
            assert ours.finished == theirs.finished


@pytest.mark.parametrize("beam", [1, 2, 5])
@pytest.mark.parametrize("decoder", [{}, {"input_feeding": True}, {"layers": 2, "attention_layer": "first"}], ids=str)
def test_a_sentence_is_translated_the_same_alone_and_in_any_batch(beam: int, decoder: dict) -> None:
    model = make(30, **decoder)
    settings = recipe.Search(beam=beam)
    together = beam_search(model.decoder, encode(model), settings, MARKS, n_best=beam)
    backwards = beam_search(model.decoder, encode(model, [4, 3, 2, 1, 0]), settings, MARKS, n_best=beam)[::-1]
    for row in range(5):
        alone = beam_search(model.decoder, encode(model, [row]), settings, MARKS, n_best=beam)[0]
        for each in (together[row], backwards[row]):
            assert [h.tokens for h in each] == [h.tokens for h in alone]
            assert [h.score for h in each] == pytest.approx([h.score for h in alone], rel=1e-10)


def test_a_beam_of_one_is_greedy_search() -> None:
    model = make(30)
    settings = recipe.Search(beam=1)
    found = beam_search(model.decoder, encode(model), settings, MARKS)
    for row, length in enumerate(LENGTHS.tolist()):
        tokens, longest = [BEGIN], int((length - 1) * 2.0) + 10
        while tokens[-1] != END:
            features = model(SOURCE[row : row + 1, :length], LENGTHS[row : row + 1], torch.tensor([tokens]))
            logits = model.decoder.logits(features[0, -1])
            logits[list(MARKS.banned)] = float("-inf")
            tokens.append(END if len(tokens) >= longest else int(logits.argmax()))
        assert found[row][0].tokens == tuple(tokens[1:-1])


@pytest.mark.parametrize("n_best", [1, 3])
@pytest.mark.parametrize("decoder", [{}, {"input_feeding": True}], ids=str)
def test_looking_farther_ahead_never_finds_worse(n_best: int, decoder: dict) -> None:
    for seed in range(20):
        model = make(12, seed, **decoder)
        before = [[-float("inf")] * n_best] * 5
        for lookahead in (1, 2, 5, 100, None):
            settings = recipe.Search(beam=4, lookahead=lookahead)
            found = beam_search(model.decoder, encode(model), settings, MARKS, n_best=n_best)
            scores = [[each.score for each in hypotheses] for hypotheses in found]
            assert all(a <= b for old, new in zip(before, scores, strict=True) for a, b in zip(old, new, strict=True))
            before = scores


@pytest.mark.parametrize(
    ("lookahead", "log_p", "goes_on"),
    [(1, -1.99, True), (1, -2.01, False), (2, -2.99, True), (2, -3.01, False)]
    + [(lookahead, log_p, log_p > -5.0) for lookahead in (4, 100, None) for log_p in (-4.99, -5.01)],
)
def test_search_goes_on_while_what_is_open_could_win_within_the_lookahead_and_the_length(
    lookahead: int | None, log_p: float, goes_on: bool
) -> None:
    settings = recipe.Search(beam=2, lookahead=lookahead, max_length_ratio=0.0, max_length_extra=5)
    sentence = Sentence(20, settings, 1, MARKS)
    beam = sentence.advance(None, Continuations([-1.0, log_p], [0, 0], [END, 7]))  # one has ended with a score of -1
    assert (beam is not None) == goes_on


def test_a_beam_is_narrower_by_the_hypotheses_that_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = make(12), []
    with torch.no_grad():
        model.decoder.output.bias[END] = 2.0  # so that they end at different lengths
    plain = model.decoder.output.forward
    monkeypatch.setattr(model.decoder.output, "forward", lambda xs: (rows.append(len(xs)), plain(xs))[1])
    settings = recipe.Search(beam=4, lookahead=None)
    (found,) = beam_search(model.decoder, encode(model, [0]), settings, MARKS, n_best=4)
    ended = sorted(len(each.tokens) + 1 for each in found)
    assert ended[0] < ended[-1]
    assert rows == [1] + [4 - sum(end < step for end in ended) for step in range(2, ended[-1] + 1)]


def test_a_hypothesis_that_several_go_on_from_is_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    branch, shared = model.decoder.branch, 0

    def watched(tokens: Tensor, state: State, parents: Tensor, memory: Memory) -> Decoded:
        nonlocal shared
        followed = len(parents.unique())
        assert parents.unique().tolist() == list(range(followed))
        assert len(state[0]) == (followed if followed <= TOGETHER else -(-followed // TOGETHER) * TOGETHER)
        assert len(tokens) == len(parents)
        shared += len(parents) - followed
        return branch(tokens, state, parents, memory)

    monkeypatch.setattr(model.decoder, "branch", watched)
    beam_search(model.decoder, encode(model), recipe.Search(beam=4), MARKS)
    assert shared > 0


@pytest.mark.parametrize("beam", [1, 3])
def test_the_scorer_gives_the_searchs_own_scores(beam: int) -> None:
    model = make(30)
    found = beam_search(model.decoder, encode(model), recipe.Search(beam=beam), MARKS, n_best=beam)
    for row, hypotheses in enumerate(found):
        for hypothesis in hypotheses:
            target = torch.tensor([[BEGIN, *hypothesis.tokens, END]])
            size = torch.tensor([target.shape[1]])
            (log_p,) = score(model, SOURCE[row : row + 1, : LENGTHS[row]], LENGTHS[row : row + 1], target, size)
            assert hypothesis.log_probability == pytest.approx(log_p, rel=1e-10)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_with_input_feeding_the_scorer_multiplies_in_the_precision_of_search(precision: WeightPrecision) -> None:
    model = make(30, input_feeding=True, deep_output=True).float()
    try:
        prepare(model, prepare_for(precision, torch.device("cpu"), 1))
    except UserError as error:
        pytest.skip(str(error))
    for row, (hypothesis,) in enumerate(beam_search(model.decoder, encode(model), recipe.Search(beam=3), MARKS)):
        target = torch.tensor([[BEGIN, *hypothesis.tokens, END]])
        size = torch.tensor([target.shape[1]])
        (log_p,) = score(model, SOURCE[row : row + 1, : LENGTHS[row]], LENGTHS[row : row + 1], target, size)
        assert hypothesis.log_probability == pytest.approx(log_p, abs=1e-5)


def test_no_wider_beam_is_needed_for_what_a_narrow_one_finds_first() -> None:
    model = make(30)
    for beam in (1, 2, 4, 8):
        for hypotheses in beam_search(model.decoder, encode(model), recipe.Search(beam=beam), MARKS, n_best=beam):
            assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
            assert len({h.tokens for h in hypotheses}) == len(hypotheses)


def test_lengths_are_bounded_below_and_above() -> None:
    model = make(30)
    with torch.no_grad():
        model.decoder.output.bias[END] = 20.0
    settings = recipe.Search(beam=3, min_length_ratio=2.0)
    for row, (hypothesis,) in enumerate(beam_search(model.decoder, encode(model), settings, MARKS)):
        assert len(hypothesis.tokens) == 2 * (int(LENGTHS[row]) - 1)
    with torch.no_grad():
        model.decoder.output.bias[END] = -20.0
    settings = recipe.Search(beam=3, max_length_ratio=1.0, max_length_extra=2)
    for row, (hypothesis,) in enumerate(beam_search(model.decoder, encode(model), settings, MARKS)):
        assert len(hypothesis.tokens) == int(LENGTHS[row]) - 1 + 2 - 1
        assert not hypothesis.finished


def test_marks_are_never_written() -> None:
    model = make(30)
    with torch.no_grad():
        model.decoder.output.bias[list(MARKS.banned)] = 20.0
    for hypotheses in beam_search(model.decoder, encode(model), recipe.Search(beam=4), MARKS, n_best=4):
        for hypothesis in hypotheses:
            assert not set(hypothesis.tokens) & {*MARKS.banned, END}


def test_attention_weights_are_given_for_each_token_and_the_end() -> None:
    model = make(30)
    found = beam_search(model.decoder, encode(model), recipe.Search(beam=3), MARKS, n_best=3, weights=True)
    for row, hypotheses in enumerate(found):
        for hypothesis in hypotheses:
            assert hypothesis.weights.shape == (len(hypothesis.tokens) + 1, LENGTHS[row])
            assert torch.allclose(hypothesis.weights.sum(-1), torch.ones(1, dtype=torch.double))


@pytest.mark.parametrize("beam", [1, 4])
def test_among_equals_the_choice_does_not_depend_on_the_batch(beam: int) -> None:
    model = make(30)
    with torch.no_grad():
        model.decoder.output.weight.zero_()
        model.decoder.output.bias.zero_()
    settings = recipe.Search(beam=beam, max_length_extra=3)
    together = beam_search(model.decoder, encode(model), settings, MARKS, n_best=beam)
    for row in range(5):
        alone = beam_search(model.decoder, encode(model, [row]), settings, MARKS, n_best=beam)[0]
        assert [h.tokens for h in together[row]] == [h.tokens for h in alone]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("longest", [1, 6])
def test_a_model_of_nan_is_said_to_be_broken_and_search_ends(number: float, longest: int) -> None:
    model = make(30)
    with torch.no_grad():
        model.decoder.output.bias.fill_(number)
    settings = recipe.Search(beam=3, max_length_ratio=0.0, max_length_extra=longest)
    with pytest.raises(RunError, match="no numbers but NaN"):
        beam_search(model.decoder, encode(model), settings, MARKS)


def test_scoring_a_long_target_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(30)
    target = torch.tensor([[BEGIN, *range(4, 24), END], [BEGIN, 5, 6, 7, END, *[PAD] * 17]])
    arguments = model, SOURCE[:2], LENGTHS[:2], target, torch.tensor([22, 5])
    whole = score(*arguments)
    monkeypatch.setattr("nmt.search.scoring.CHUNK", 4)
    assert score(*arguments) == pytest.approx(whole, rel=1e-12)


def test_normalisers_follow_their_formulas() -> None:
    assert normalizer(4, recipe.Search(length_penalty=0.5)) == 2.0
    assert normalizer(7, recipe.Search(normalization="gnmt", length_penalty=2.0)) == 4.0
    assert normalizer(7, recipe.Search(normalization="none")) == 1.0


@pytest.mark.parametrize("vocab_size", [5, 64, 65, 200, 640])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("count", [1, 6, 1000])
def test_the_best_continuations_are_those_of_sorting_all(vocab_size: int, width: int, count: int) -> None:
    torch.manual_seed(1)
    following, log_p = torch.randn(4, width, vocab_size), torch.randn(4, width)
    following[1] = float("-inf")
    following[1, 0, 3] = -1.0
    log_p[2, 1:] = float("-inf")  # two places that no hypothesis fills
    there = log_p.isfinite()
    rows = torch.where(there, there.flatten().cumsum(0).view_as(log_p) - 1, 0)
    total = (following + log_p[..., None]).flatten(1)
    for row, found in zip(total, best(following[there], rows, log_p, count).lists(), strict=True):
        assert found.log_p == row.sort(descending=True).values[:count].tolist()
        places = [parent * vocab_size + token for _, parent, token in zip(*found, strict=True)]
        likely = [place for place, log_p in zip(places, found.log_p, strict=True) if log_p > -math.inf]
        assert [row[place].item() for place in likely] == found.log_p[: len(likely)]
        assert len(set(likely)) == len(likely)
        assert all(0 <= token < vocab_size for token in found.tokens)


def test_nan_among_the_continuations_comes_first() -> None:
    following = torch.zeros(2, 130)
    following[1, 129] = float("nan")
    assert math.isnan(best(following, torch.tensor([[0, 1]]), torch.zeros(1, 2), 4).lists()[0].log_p[0])


@pytest.mark.parametrize("beam", [1, 4])
def test_limits_to_all_tokens_change_nothing_and_others_are_kept(beam: int) -> None:
    model, settings = make(30), recipe.Search(beam=beam)
    free = beam_search(model.decoder, encode(model), settings, MARKS, n_best=beam)
    every = Limits(torch.arange(20), torch.arange(20, 30), torch.arange(10).expand(5, 10))
    limited = beam_search(model.decoder, encode(model), settings, MARKS, n_best=beam, limits=every)
    for one, two in zip(free, limited, strict=True):
        assert [each.tokens for each in one] == [each.tokens for each in two]
        assert [each.score for each in one] == pytest.approx([each.score for each in two], rel=1e-12)
    shared, further = torch.tensor([5, 8, END]), torch.tensor([9, 20, UNKNOWN])
    few = Limits(shared, further, torch.tensor([[0, -1, -1], [1, -1, -1], [0, 1, 2], [-1, -1, -1], [2, -1, -1]]))
    usable = [{9}, {20}, {9, 20}, set(), set()]
    for row, found in enumerate(beam_search(model.decoder, encode(model), settings, MARKS, n_best=beam, limits=few)):
        for hypothesis in found:
            assert set(hypothesis.tokens) <= {5, 8} | usable[row]
    none = Limits(torch.tensor([5, 8, END]), torch.tensor([], dtype=torch.long), torch.full((5, 2), -1))
    for found in beam_search(model.decoder, encode(model), settings, MARKS, n_best=beam, limits=none):
        assert all(set(hypothesis.tokens) <= {5, 8} for hypothesis in found)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_sentence_with_a_list_of_its_own_has_the_same_bits_alone(precision: WeightPrecision) -> None:
    """Whatever tokens its neighbours bring along, and however many."""
    vocab_size, generator = 700, np.random.default_rng(1)
    ranked = generator.permutation(np.arange(END, vocab_size)).astype(np.int32)
    always = np.sort(np.append(ranked[:90][ranked[:90] != END], END)).astype(np.int32)
    sizes = [0, 0, 0, 0, 200, 5, 70]  # of the lists of the source's pieces
    ids = np.concatenate([generator.choice(ranked, size, replace=False) for size in sizes])
    shortlist = Shortlist(ranked, always, np.cumsum([0, *sizes]).astype(np.int32), ids, "")
    model, settings = make(vocab_size, hidden_size=32).float(), recipe.Search(beam=4)
    try:
        prepare(model, prepare_for(precision, torch.device("cpu"), 1))
    except UserError as error:
        pytest.skip(str(error))
    if not torch.backends.mkldnn.is_available():
        pytest.skip("without oneDNN bits depend on the batch")
    encoded, rows = encode(model), [row[:length].tolist() for row, length in zip(SOURCE, LENGTHS, strict=True)]

    def found(some: list[int]) -> list[tuple[tuple[int, ...], float]]:
        limits = Limits(*shortlist.candidates([rows[row] for row in some]))
        batch = encoded.select(torch.tensor(some))
        return [
            (each.tokens, each.score) for each, *_ in beam_search(model.decoder, batch, settings, MARKS, limits=limits)
        ]

    together = found([*range(5)])
    assert [*itertools.chain.from_iterable(found([row]) for row in range(5))] == together
    assert found([3, 1]) == [together[3], together[1]]
