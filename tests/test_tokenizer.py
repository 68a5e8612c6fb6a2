"""Tokenizers: what goes in comes out, always as one line, and the same seed draws the same tokens."""

import math
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt import recipe
from nmt.errors import UserError
from nmt.text import tokenizer
from nmt.text.corpus import Corpus, Pair
from nmt.text.lines import one_line
from nmt.text.tokenizer import BEGIN, END, PAD, UNKNOWN, Tokenizer, Tokenizers, make_tokenizers
from nmt.text.vocabulary import Vocabulary

ONSETS, VOWELS = [*"bcdfglmnprstv", "ch", "tr", "pl"], [*"aeiouyé", "ou"]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Made-up sentences of made-up words."""
    draw = random.Random(seed)
    words = ["".join(draw.choice(ONSETS) + draw.choice(VOWELS) for _ in range(draw.randint(1, 4))) for _ in range(300)]
    return [" ".join(draw.choices(words, k=draw.randint(1, 12))) for _ in range(count)]


class Listed(Corpus):
    """A corpus of given pairs."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def pairs(self) -> Iterator[Pair]:
        for number, (source, target) in enumerate(self._pairs, 1):
            yield Pair(source, target, number)

    def fingerprint(self) -> str:
        return repr(self._pairs)

    def check(self) -> None:
        pass


TEXTS = sentences(600)
UNIGRAM = Tokenizer.train(TEXTS, recipe.Tokenizer(vocab_size=420))
BPE = Tokenizer.train(TEXTS, recipe.Tokenizer(vocab_size=420, model_type="bpe"))
CHAR = Tokenizer.train(TEXTS, recipe.Tokenizer(vocab_size=420, model_type="char"))
ALL = pytest.mark.parametrize("tokenizer", [UNIGRAM, BPE, CHAR], ids=["unigram", "bpe", "char"])
SAMPLING = pytest.mark.parametrize("tokenizer", [UNIGRAM, BPE], ids=["unigram", "bpe"])
ANY_TEXT = st.text(st.one_of(st.sampled_from("\n\r\t\0\u2028\u2581\u00a0 aé"), st.characters(codec="utf-8")))


def letters(text: str) -> str:
    """`text` without spaces, controls, and the sign that stands for a space."""
    return "".join(one_line(text).replace("\u2581", "").split())


@ALL
def test_a_trained_model_has_its_marks_in_their_places(tokenizer: Tokenizer) -> None:
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id) == (PAD, UNKNOWN, BEGIN, END)
    assert len(tokenizer.pieces()) == tokenizer.vocab_size
    assert len(set(tokenizer.pieces())) == tokenizer.vocab_size


@ALL
def test_a_text_comes_out_as_it_went_in(tokenizer: Tokenizer) -> None:
    for text in [*TEXTS[:50], "L’œuvre\u00a0: « 你好 » 😀 ﬁ ½ Å", "<s> </s> <unk> <pad>", "a\u200bb"]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert not {PAD, BEGIN, END, UNKNOWN} & set(ids)


@ALL
@settings(max_examples=100, deadline=None)
@given(text=ANY_TEXT)
def test_any_text_is_encoded_and_comes_out_as_one_line_up_to_spaces(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert all(0 <= token < tokenizer.vocab_size for token in ids)
    decoded = tokenizer.decode(ids)
    assert len(f"{decoded}.".splitlines()) == 1
    assert letters(decoded) == letters(text)
    assert tokenizer.encode_many([text, "a"]) == [ids, tokenizer.encode("a")]


@ALL
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_tokens_are_decoded_to_one_line(tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    assert len(f"{tokenizer.decode(ids)}.".splitlines()) == 1


def test_marks_are_left_out_of_a_translation() -> None:
    ids = UNIGRAM.encode(TEXTS[0])
    assert UNIGRAM.decode([BEGIN, *ids, END, PAD, PAD]) == TEXTS[0]


def test_a_text_of_nothing_but_spaces_has_no_tokens() -> None:
    assert UNIGRAM.encode("") == UNIGRAM.encode("   ") == []


@SAMPLING
def test_the_same_seed_draws_the_same_tokens_whatever_was_drawn_before(tokenizer: Tokenizer) -> None:
    sampling = recipe.Sampling(alpha=0.2)
    first = tokenizer.sample(TEXTS[:20], sampling, 7)
    for seed in (1, 2, 3):
        tokenizer.sample(TEXTS[20:40], sampling, seed)
    assert tokenizer.sample(TEXTS[:20], sampling, 7) == first
    assert tokenizer.sample(TEXTS[:20], sampling, 8) != first


@SAMPLING
def test_threads_that_draw_at_once_do_not_disturb_each_other(tokenizer: Tokenizer) -> None:
    sampling = recipe.Sampling(alpha=0.2)
    alone = [tokenizer.sample(TEXTS[:50], sampling, seed) for seed in range(8)]
    together: dict[int, list[list[int]]] = {}

    def draw(seed: int) -> None:
        together[seed] = tokenizer.sample(TEXTS[:50], sampling, seed)

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[seed] for seed in range(8)] == alone


@SAMPLING
def test_another_process_draws_the_same_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "a.model")
    code = (
        "import sys; from nmt import recipe; from nmt.text.tokenizer import Tokenizer\n"
        "print(Tokenizer.load(sys.argv[1]).sample(sys.argv[2:], recipe.Sampling(alpha=0.2), 7))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.model"), *TEXTS[:20]]
    drawn = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert drawn.strip() == str(tokenizer.sample(TEXTS[:20], recipe.Sampling(alpha=0.2), 7))


@SAMPLING
def test_a_drawn_segmentation_spells_the_same_text(tokenizer: Tokenizer) -> None:
    drawn = tokenizer.sample(TEXTS[:100], recipe.Sampling(alpha=0.2), 1)
    assert [tokenizer.decode(ids) for ids in drawn] == TEXTS[:100]
    assert drawn != tokenizer.encode_many(TEXTS[:100])


@SAMPLING
@settings(max_examples=60, deadline=None)
@given(text=ANY_TEXT, seed=st.integers(0, 2**64))
def test_any_text_can_be_sampled(tokenizer: Tokenizer, text: str, seed: int) -> None:
    ids = tokenizer.sample([text, TEXTS[0]], recipe.Sampling(alpha=0.3), seed)
    assert tokenizer.decode(ids[0]) == tokenizer.decode(tokenizer.encode(text))
    assert tokenizer.decode(ids[1]) == TEXTS[0]


@settings(max_examples=100, deadline=None)
@given(text=ANY_TEXT)
def test_bpe_dropout_of_nothing_is_plain_encoding(text: str) -> None:
    assert BPE.sample([text, *TEXTS[:5]], recipe.Sampling(alpha=0.0), 1) == BPE.encode_many([text, *TEXTS[:5]])


def test_bpe_dropout_leaves_out_each_merge_with_its_probability() -> None:
    assert len(BPE.sample(["tradou"], recipe.Sampling(alpha=1.0), 1)[0]) == len("\u2581tradou")
    whole = next(piece for piece in BPE.pieces() if len(piece) == 2 and piece[0] == "\u2581" and piece[1] in "abcd")
    drawn = BPE.sample([whole[1]] * 4000, recipe.Sampling(alpha=0.3), 1)
    assert sum(len(ids) == 2 for ids in drawn) / 4000 == pytest.approx(0.3, abs=0.03)


def test_unigram_segmentations_of_a_sentence_are_drawn_by_their_likelihood(tmp_path: Path) -> None:
    UNIGRAM.save(tmp_path / "a.model")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "a.model"))
    for text in (TEXTS[0], "你 ba ty", "ba"):
        candidates = processor.NBestEncodeAsIds(text, nbest_size=6)
        weights = [math.exp(0.5 * sum(processor.GetScore(token) for token in ids)) for ids in candidates]
        drawn = UNIGRAM.sample([text] * 5000, recipe.Sampling(alpha=0.5, nbest=6), 1)
        assert {tuple(ids) for ids in drawn} <= {tuple(ids) for ids in candidates}
        for ids, weight in zip(candidates, weights, strict=True):
            assert drawn.count(ids) / 5000 == pytest.approx(weight / sum(weights), abs=0.03)


def test_of_one_segmentation_the_best_is_drawn_and_up_to_512_can_be_asked_for() -> None:
    assert UNIGRAM.sample(TEXTS[:50], recipe.Sampling(nbest=1), 1) == UNIGRAM.encode_many(TEXTS[:50])
    assert len(UNIGRAM.sample(TEXTS[:5], recipe.Sampling(nbest=512), 1)) == 5


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_a_user_symbol_and_the_bytes_of_a_letter_stay_what_they_are_in_sampling(model_type: str) -> None:
    options = recipe.Tokenizer(vocab_size=420, user_symbols=("<2fr>",), model_type=model_type)
    tokenizer = Tokenizer.train(TEXTS, options)
    symbol, text = tokenizer.pieces().index("<2fr>"), f"ba<2fr>bé你{TEXTS[0].split()[0]} <2fr>"
    for ids in tokenizer.sample([text] * 200, recipe.Sampling(alpha=0.05 if model_type == "unigram" else 0.5), 1):
        assert ids.count(symbol) == 2
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_a_model_whose_pieces_span_words_is_sampled_from_too(model_type: str, tmp_path: Path) -> None:
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(["to be or not to be"] * 50),
        model_prefix=str(tmp_path / "spanning"),
        model_type=model_type,
        vocab_size=30,
        hard_vocab_limit=False,
        split_by_whitespace=False,
        minloglevel=3,
    )
    tokenizer = Tokenizer.load(tmp_path / "spanning.model")
    assert any("\u2581" in piece[1:] for piece in tokenizer.pieces())
    drawn = tokenizer.sample(["to be or not to be"] * 50, recipe.Sampling(alpha=0.3), 1)
    assert {tokenizer.decode(ids) for ids in drawn} == {"to be or not to be"}
    assert len({tuple(ids) for ids in drawn}) > 1


def test_a_seed_of_any_size_is_a_seed() -> None:
    sampling = recipe.Sampling()
    for seed in (0, 2**32 - 1, 2**63):
        assert UNIGRAM.sample(TEXTS[:20], sampling, seed) == UNIGRAM.sample(TEXTS[:20], sampling, seed)


def test_sampling_from_a_model_that_cannot_is_refused() -> None:
    with pytest.raises(UserError, match="sampl"):
        CHAR.sample(["a"], recipe.Sampling(), 1)


@pytest.mark.parametrize("model_type", ["unigram", "bpe", "char"])
def test_training_twice_gives_the_same_model(model_type: str) -> None:
    options = recipe.Tokenizer(vocab_size=330, model_type=model_type)
    first = Tokenizer.train(TEXTS[:200], options)
    assert Tokenizer.train(TEXTS[:200], options).fingerprint() == first.fingerprint()
    assert Tokenizer.train(TEXTS[:199], options).fingerprint() != first.fingerprint()


def test_a_user_symbol_stays_one_token() -> None:
    tokenizer = Tokenizer.train(TEXTS, recipe.Tokenizer(vocab_size=400, user_symbols=("<2fr>", "@@")))
    for symbol in ("<2fr>", "@@"):
        ids = tokenizer.encode(f"{symbol} {TEXTS[0]}")
        assert tokenizer.pieces().index(symbol) in ids
        assert tokenizer.decode(ids) == f"{symbol} {TEXTS[0]}"


def test_character_coverage_leaves_rare_letters_to_bytes() -> None:
    texts = [*(["a b c"] * 1000), "ж"]
    whole = Tokenizer.train(texts, recipe.Tokenizer(vocab_size=300, model_type="char"))
    covered = Tokenizer.train(texts, recipe.Tokenizer(vocab_size=300, model_type="char", character_coverage=0.99))
    assert "ж" in whole.pieces()
    assert "ж" not in covered.pieces()
    assert covered.decode(covered.encode("ж")) == "ж"


def test_without_byte_fallback_an_unseen_letter_is_unknown() -> None:
    tokenizer = Tokenizer.train(TEXTS, recipe.Tokenizer(vocab_size=100, byte_fallback=False))
    assert tokenizer.unk_id in tokenizer.encode("你")
    assert len(tokenizer.decode(tokenizer.encode("你")).splitlines()) == 1


@pytest.mark.parametrize("model_type", ["unigram", "bpe", "char"])
def test_a_corpus_too_small_for_the_vocabulary_gives_what_it_can(model_type: str) -> None:
    tokenizer = Tokenizer.train(["a b c"], recipe.Tokenizer(vocab_size=8000, model_type=model_type))
    assert tokenizer.vocab_size < 300
    assert tokenizer.decode(tokenizer.encode("a b c")) == "a b c"


def test_a_vocabulary_too_small_for_its_letters_is_one_line() -> None:
    with pytest.raises(UserError, match="the tokenizer can't be trained") as caught:
        Tokenizer.train(TEXTS, recipe.Tokenizer(vocab_size=100))
    assert "\n" not in str(caught.value)
    assert "src/" not in str(caught.value)


@pytest.mark.parametrize("texts", [[], ["", "  "]], ids=["none", "spaces"])
def test_nothing_to_train_on_is_one_line(texts: list[str]) -> None:
    with pytest.raises(UserError, match="the tokenizer can't be trained") as caught:
        Tokenizer.train(texts, recipe.Tokenizer(vocab_size=300))
    assert "\n" not in str(caught.value)


def test_training_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    Tokenizer.train(TEXTS, recipe.Tokenizer(vocab_size=330))
    with pytest.raises(UserError):
        Tokenizer.train(TEXTS, recipe.Tokenizer(vocab_size=100))
    with pytest.raises(UserError):
        Tokenizer(b"no model")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("harm", ["absent", "empty", "text", "cut short"])
def test_a_file_that_is_no_model_is_named(harm: str, tmp_path: Path) -> None:
    path = tmp_path / "a.model"
    if harm != "absent":
        UNIGRAM.save(tmp_path / "whole")
        whole = (tmp_path / "whole").read_bytes()
        path.write_bytes({"empty": b"", "text": b"hello\n", "cut short": whole[: len(whole) // 2]}[harm])
    with pytest.raises(UserError) as caught:
        Tokenizer.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_model_without_end_marks_is_refused(tmp_path: Path) -> None:
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(TEXTS),
        model_prefix=str(tmp_path / "foreign"),
        vocab_size=100,
        eos_id=-1,
        minloglevel=3,
    )
    with pytest.raises(UserError, match="begin or end mark"):
        Tokenizer.load(tmp_path / "foreign.model")


def test_a_foreign_model_without_padding_can_be_used(tmp_path: Path) -> None:
    prefix = str(tmp_path / "foreign")
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(TEXTS), model_prefix=prefix, vocab_size=100, minloglevel=3
    )
    tokenizer = Tokenizer.load(f"{prefix}.model")
    assert 0 <= tokenizer.pad_id < tokenizer.vocab_size
    assert tokenizer.decode(tokenizer.encode(TEXTS[0])) == TEXTS[0]


def test_tokenizers_come_back_from_a_folder(tmp_path: Path) -> None:
    for pair in (Tokenizers(UNIGRAM, UNIGRAM), Tokenizers(UNIGRAM, BPE)):
        folder = tmp_path / str(pair.source is pair.target)
        folder.mkdir()
        pair.save(folder)
        loaded = Tokenizers.load(folder)
        assert loaded.source.fingerprint() == pair.source.fingerprint()
        assert loaded.target.fingerprint() == pair.target.fingerprint()
        assert (loaded.source is loaded.target) == (pair.source is pair.target)
    Tokenizers(CHAR, CHAR).save(tmp_path / "False")  # a run that was given up before it began, and begun otherwise
    assert Tokenizers.load(tmp_path / "False").target.fingerprint() == CHAR.fingerprint()


def test_a_shared_tokenizer_knows_both_sides_and_separate_ones_their_own() -> None:
    corpus = Listed([("aaa bb", "zzz yy")] * 50)
    shared = make_tokenizers(corpus, recipe.Tokenizer(vocab_size=300, model_type="char"))
    assert shared.source is shared.target
    assert {"a", "z"} <= set(shared.source.pieces())
    separate = make_tokenizers(corpus, recipe.Tokenizer(vocab_size=300, model_type="char", shared=False))
    assert "z" not in separate.source.pieces()
    assert "a" not in separate.target.pieces()


def test_a_target_may_have_its_own_pieces_alone_which_are_the_sources_first(tmp_path: Path) -> None:
    corpus = Listed([("aaa bb", "zzz bb yy")] * 50)
    settings = recipe.Tokenizer(vocab_size=300, model_type="char", byte_fallback=False, min_frequency=1)
    CHAR.save(tmp_path / "existing.model")
    existing = settings.model_copy(update={"path": str(tmp_path / "existing.model")})
    for made in (make_tokenizers(corpus, settings), make_tokenizers(corpus, existing)):
        source, target = made.source.pieces(), made.target.pieces()
        assert {"b", "y"} == {*target} & {*"abcdy"}
        assert {"a", "b", "y"} == {*source} & {*"abcdy"}
        assert source[: len(target)] == target
    apart = {"shared": False, "target_path": existing.path}
    separate = make_tokenizers(corpus, existing.model_copy(update=apart))
    assert {"a", "b"} == {*separate.source.pieces()} & {*"abcdy"}
    assert {"b", "y"} == {*separate.target.pieces()} & {*"abcdy"}


@pytest.mark.parametrize("model_type", ["unigram", "bpe", "char"])
def test_both_sides_of_a_corpus_are_cut_alike_with_and_without_the_pieces_that_nobody_uses(model_type: str) -> None:
    pairs = [(text, text[::-1]) for text in TEXTS]
    whole = recipe.Tokenizer(vocab_size=500, model_type=model_type)
    all_pieces = make_tokenizers(Listed(pairs), whole)
    fewer = make_tokenizers(Listed(pairs), whole.model_copy(update={"min_frequency": 1}))
    for source, target in pairs:
        assert pieces_of(fewer.source, source) == pieces_of(all_pieces.source, source)
        assert pieces_of(fewer.target, target) == pieces_of(all_pieces.target, target)
    assert fewer.target.vocab_size <= fewer.source.vocab_size <= all_pieces.source.vocab_size


def pieces_of(tokenizer: Tokenizer, text: str) -> tuple[str, ...]:
    return tokenizer.pieces_of(tokenizer.encode(text))


def only_used(tokenizer: Tokenizer, texts: list[str], least: int = 1) -> Tokenizer:
    return tokenizer.with_pieces(tokenizer.used_by(texts, least))


@ALL
def test_texts_have_the_same_pieces_where_those_that_they_do_not_use_are_gone(tokenizer: Tokenizer) -> None:
    for texts in (TEXTS[:1], TEXTS[:20], TEXTS):
        used = only_used(tokenizer, texts)
        assert len(texts) > 1 or used.vocab_size < tokenizer.vocab_size
        assert [pieces_of(used, text) for text in texts] == [pieces_of(tokenizer, text) for text in texts]
    assert (used.pad_id, used.unk_id, used.bos_id, used.eos_id) == (PAD, UNKNOWN, BEGIN, END)
    assert used.pieces() == [piece for piece in tokenizer.pieces() if piece in set(used.pieces())]


@ALL
def test_what_has_lost_its_pieces_is_spelt_in_others(tokenizer: Tokenizer) -> None:
    used = only_used(tokenizer, ["ba be"])
    for text in [*TEXTS[:50], "L’œuvre\u00a0: « 你好 » 😀"]:
        assert used.decode(used.encode(text)) == text
        assert used.unk_id not in used.encode(text)


@ALL
@pytest.mark.parametrize("least", [2, 20])
def test_pieces_that_are_used_too_seldom_are_left_out(
    tokenizer: Tokenizer, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmt.text.tokenizer.PORTION", 7)
    counts = Counter(piece for text in TEXTS for piece in pieces_of(tokenizer, text))
    frequent = {piece for piece, count in counts.items() if count >= least}
    kept = set(only_used(tokenizer, TEXTS, least).pieces())
    assert frequent <= kept
    others = {piece for piece in kept - frequent if not piece.startswith("<")}  # marks and bytes stay
    assert others < set(tokenizer.pieces()) - frequent
    assert all(any(part in piece for piece in frequent) for part in others)


@SAMPLING
def test_segmentations_are_drawn_from_the_pieces_that_are_left(tokenizer: Tokenizer) -> None:
    used, sampling = only_used(tokenizer, TEXTS[:30]), recipe.Sampling(alpha=0.1)
    drawn = used.sample(TEXTS[:30], sampling, seed=1)
    assert [used.decode(ids) for ids in drawn] == TEXTS[:30]
    assert drawn != used.encode_many(TEXTS[:30])


def test_what_used_pieces_are_made_of_stays_and_the_worst_piece() -> None:
    """It says what an unknown letter costs, so without it texts with such letters might be cut otherwise."""
    pieces = ["<unk>", "abc", "ab", "bc", "b", "c", "cd", "x", "y", "z" * 1000]
    vocabulary = Vocabulary("bpe", pieces, [0.0, -1, -2, -3, -4, -5, -6, -7, -9, -8], [2] + [1] * 9)
    assert vocabulary.needed({1: 1}, 1) == [0, 1, 2, 3, 4, 5, 8]
    assert vocabulary.needed({9: 1}, 1) == [0, 8, 9]
    assert vocabulary.needed({1: 2, 7: 1}, 2) == [0, 1, 2, 3, 4, 5, 7, 8]  # no bytes: what letters are used must stay
    assert vocabulary.needed({1: 1, 7: 1}, 2) == []


def test_what_is_used_too_seldom_stays_spellable_without_bytes() -> None:
    tokenizer = Tokenizer.train(TEXTS, recipe.Tokenizer(vocab_size=200, byte_fallback=False))
    used = only_used(tokenizer, TEXTS, 100)
    assert used.vocab_size < tokenizer.vocab_size
    assert not any(used.unk_id in used.encode(text) for text in TEXTS)


def test_a_users_symbols_stay_though_no_text_has_them() -> None:
    tokenizer = Tokenizer.train(TEXTS, recipe.Tokenizer(vocab_size=400, user_symbols=("<2fr>", "@@")))
    assert {"<2fr>", "@@"} <= set(only_used(tokenizer, TEXTS[:10]).pieces())


def test_pieces_of_a_foreign_model_may_be_left_out_and_what_it_said_of_them_goes_too(tmp_path: Path) -> None:
    prefix = tmp_path / "foreign"
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(TEXTS), model_prefix=str(prefix), vocab_size=100, minloglevel=3
    )
    sample = b"\x0a\x02ba\x12\x02ba"  # SelfTestData.Sample: its input, and what is expected of it
    self_test = b"\x22" + bytes([len(sample) + 2]) + b"\x0a" + bytes([len(sample)]) + sample
    foreign = Tokenizer(prefix.with_suffix(".model").read_bytes() + self_test)
    used = only_used(foreign, ["ba be"])
    assert used.vocab_size < 15
    assert pieces_of(used, "ba be") == pieces_of(foreign, "ba be")
    assert used.pieces_of([used.bos_id, used.eos_id]) == ("<s>", "</s>")
    used.save(tmp_path / "used.model")
    assert sample not in (tmp_path / "used.model").read_bytes()


def test_a_frequency_that_leaves_no_piece_is_refused_but_a_side_without_text_is_left_to_its_readers() -> None:
    settings = recipe.Tokenizer(vocab_size=300, model_type="char", min_frequency=60)
    with pytest.raises(UserError, match=r"no piece is used as often as 60 in the text of the target; lower it"):
        make_tokenizers(Listed([("aaa", "b")] * 50), settings)
    assert make_tokenizers(Listed([("aaa", " ")] * 50), settings).target.vocab_size > 256


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"target_path": "b.model"}, "tokenizer.target_path is for shared: false"),
        ({"path": "a.model", "target_path": "b.model"}, "tokenizer.target_path is for shared: false"),
        ({"shared": False, "path": "a.model"}, "needs both path and target_path"),
        ({"shared": False, "target_path": "b.model"}, "needs both path and target_path"),
    ],
)
def test_paths_of_other_models_than_are_asked_for_are_refused(options: dict[str, object], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        make_tokenizers(Listed([("a", "b")]), recipe.Tokenizer.model_validate(options))


def test_line_ends_within_a_sentence_do_not_disturb_training() -> None:
    corpus = Listed([(f"{text}\0\u2028{text}", text) for text in TEXTS[:100]])
    assert make_tokenizers(corpus, recipe.Tokenizer(vocab_size=330)).source.vocab_size > 300


def test_existing_models_take_the_place_of_training(tmp_path: Path) -> None:
    UNIGRAM.save(tmp_path / "a.model")
    BPE.save(tmp_path / "b.model")
    a, b = str(tmp_path / "a.model"), str(tmp_path / "b.model")
    nothing = Listed([])
    shared = make_tokenizers(nothing, recipe.Tokenizer(path=a))
    assert shared.source is shared.target
    separate = make_tokenizers(nothing, recipe.Tokenizer(path=a, target_path=b, shared=False))
    assert separate.source.fingerprint() == UNIGRAM.fingerprint()
    assert separate.target.fingerprint() == BPE.fingerprint()


def test_a_tokenizer_learns_from_a_fair_draw_of_a_large_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tenth of the corpus has letters of its own, so the vocabulary tells where the pairs came from."""
    letters = "abcdefghij"
    pairs = [(letters[number // 100] * 3 + f" {number}", "x" * 9000) for number in range(1000)]
    settings = recipe.Tokenizer(vocab_size=300, model_type="char", byte_fallback=False, shared=False)
    monkeypatch.setattr(tokenizer, "TRAINING_PAIRS", 100)
    drawn = make_tokenizers(Listed(pairs), settings)
    assert set(letters) <= set(drawn.source.pieces())
    assert drawn.source.fingerprint() == make_tokenizers(Listed(pairs), settings).source.fingerprint()
    monkeypatch.setattr(tokenizer, "TRAINING_PAIRS", 20)
    sizes = []
    monkeypatch.setattr(Tokenizer, "train", lambda texts, settings: sizes.append([len(text) for text in texts]))
    make_tokenizers(Listed(pairs), settings)
    assert [len(side) for side in sizes] == [20, 20]
    assert set(sizes[1]) == {4096}
