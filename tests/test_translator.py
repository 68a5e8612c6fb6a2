"""The translator: sentences in, sentences out."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nmt.errors import UserError
from nmt.model.seq2seq import assemble
from nmt.model.weights import load_weights, named_weights
from nmt.recipe import Search
from nmt.recipe_file import read_run
from nmt.search.translation import Translation
from nmt.text.lines import MAX_SOURCE_CHARACTERS, MAX_SOURCE_TOKENS
from nmt.text.shortlist import Shortlist
from nmt.text.tokenizer import Tokenizer, Tokenizers
from nmt.translator import Translator


@pytest.fixture(scope="module")
def translator(copier: Path) -> Translator:
    return Translator.load(copier, device="cpu", threads=1)


def sentences(count: int) -> list[str]:
    draw = random.Random(1)
    return [" ".join(str(draw.randrange(10)) for _ in range(draw.randint(1, 12))) for _ in range(count)]


def test_it_gives_a_line_for_each_sentence_in_their_order(translator: Translator) -> None:
    given = ["1 2 3", "", "9 8 7 6", "  ", "4 4 4"]
    assert translator.translate(given) == ["1 2 3", "", "9 8 7 6", "", "4 4 4"]
    assert translator.translate([]) == []


def scored(translator: Translator, lines: list[str], **options: object) -> list[tuple[str, float]]:
    return [(found[0].text, found[0].score) for found in translator.translations(lines, **options)]


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_translations_and_scores_are_equal_to_the_last_bit_in_any_batch_and_number_of_threads(
    copier: Path, precision: str, beam: int
) -> None:
    given, search = sentences(40), Search(beam=beam)
    found = []
    try:
        for threads in (1, 2):
            translator = loaded(copier, precision, threads)
            for size in (1, 3, 40):
                found.append(scored(translator, given, search=search, batch_sentences=size))
            found.append(scored(translator, given[::-1], search=search, batch_tokens=40)[::-1])
    finally:
        torch.set_num_threads(1)
    assert all(other == found[0] for other in found[1:])


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("bf16", 0.02), ("int8", 0.05)])
def test_prepared_weights_give_the_scores_of_plain_ones(copier: Path, precision: str, tolerance: float) -> None:
    lines = sentences(30)
    run = read_run(copier)
    tokenizers = Tokenizers.load(copier)
    sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    model = assemble(run.model, *sizes, shared=run.tokenizer.shared).eval()
    (best,) = (copier / "best").read_text().split()
    load_weights(named_weights(model), copier / best / "model.safetensors")
    plain = Translator(model, tokenizers, run.search, torch.device("cpu")).score(lines, lines)
    prepared = loaded(copier, precision).score(lines, lines)
    assert [tokens for _, tokens in prepared] == [tokens for _, tokens in plain]
    for (log_p, tokens), (expected, _) in zip(prepared, plain, strict=True):
        assert log_p / tokens == pytest.approx(expected / tokens, abs=tolerance)


def loaded(run: Path, precision: str, threads: int = 1) -> Translator:
    try:
        return Translator.load(run, device="cpu", threads=threads, precision=precision)
    except UserError as error:
        if precision == "fp32":
            raise
        pytest.skip(f"not on this processor: {error}")


def test_with_a_shortlist_a_translation_has_only_pieces_of_its_own_list(copier: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(copier, run)
    with pytest.raises(UserError, match="there is none; build it: nmt-data shortlist"):
        Translator.load(run, device="cpu", threads=1, shortlist=True)
    tokenizers = Tokenizers.load(run)
    pieces = range(4, tokenizers.target.vocab_size)
    copies = {piece: [piece] for piece in pieces}
    Shortlist(
        ranked=np.array([tokenizers.target.eos_id, *pieces], np.int32),
        always=np.array([tokenizers.target.eos_id], np.int32),
        offsets=np.cumsum(
            [0] + [len(copies.get(piece, ())) for piece in range(tokenizers.source.vocab_size)], dtype=np.int32
        ),
        ids=np.array(list(pieces), np.int32),
        vocabularies=tokenizers.fingerprint(),
    ).save(run / "shortlist.safetensors")
    limited = Translator.load(run, device="cpu", threads=1, shortlist=True)
    given = sentences(20)
    whole = Translator.load(run, device="cpu", threads=1)
    assert limited.translate(given) == whole.translate(given)
    for (found,) in (limited.translations(given[:1], n_best=8), limited.translations(given, n_best=8)[:1]):
        for translation in found:
            assert set(translation.target_pieces) <= set(translation.source_pieces)
    alone = [limited.translations([line])[0][0].text for line in given]
    assert alone == limited.translate(given)


def test_the_n_best_are_different_and_come_best_first(translator: Translator) -> None:
    (found,) = translator.translations(["1 2 3 4"], n_best=7)
    assert len(found) == 7
    assert len({each.target_pieces for each in found}) == 7
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


def test_the_alignment_of_a_copy_is_a_diagonal(translator: Translator) -> None:
    ((best,),) = translator.translations(["1 2 3 4 5"], weights=True)
    assert best.weights.shape == (len(best.target_pieces) + 1, len(best.source_pieces) + 1)
    on_digits = [(s, t) for s, t in best.alignment() if best.target_pieces[t].strip("▁")]
    near = sum(abs(s - t) <= 1 for s, t in on_digits)
    assert near >= len(on_digits) - 1
    assert translator.translations(["1"])[0][0].alignment() == ()


def test_without_attention_there_is_no_alignment() -> None:
    pieces = ("a", "b")
    assert Translation("a b", 0.0, 0.0, False, False, pieces, pieces, torch.zeros(3, 3)).alignment() == ()
    weights = torch.tensor([[0.1, 0.7, 0.2], [0.4, 0.0, 0.6], [0.0, 0.0, 1.0]])  # the end marks last
    assert Translation("a b", 0.0, 0.0, False, False, pieces, pieces, weights).alignment() == ((1, 0), (0, 1))


def test_a_line_of_any_spaces_is_blank(translator: Translator) -> None:
    blank = ["", " ", "\t", "\u00a0", "\u3000 \u2003", "\x00", "\u2028"]
    assert translator.translate(blank) == [""] * len(blank)


def test_megabytes_on_a_line_are_cut_before_they_are_split_into_tokens(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    encode_many = Tokenizer.encode_many

    def measured(self: Tokenizer, texts: list[str]) -> list[list[int]]:
        seen.extend(len(text) for text in texts)
        return encode_many(self, texts)

    monkeypatch.setattr(Tokenizer, "encode_many", measured)
    search = Search(beam=1, max_length_ratio=0.0, max_length_extra=2)
    given = ["1 2" * 1_000_000, "1" + " " * 1_000_000 + "2", " " * 1_000_000 + "1 2" + " " * 1_000_000]
    first, second, third = translator.translations(given, search=search)
    assert max(seen) == MAX_SOURCE_CHARACTERS
    assert len(first[0].source_pieces) == MAX_SOURCE_TOKENS
    assert first[0].truncated
    assert second[0].truncated
    assert third[0].source_pieces == translator.translations(["1 2"], search=search)[0][0].source_pieces


def test_a_very_long_sentence_is_cut_and_says_so(translator: Translator) -> None:
    ((best,),) = translator.translations(["1 " * MAX_SOURCE_TOKENS], search=Search(beam=1, max_length_ratio=0.01))
    assert best.truncated
    assert len(best.source_pieces) == MAX_SOURCE_TOKENS


def test_scores_are_those_of_the_search_and_count_the_end_mark(translator: Translator) -> None:
    given = sentences(10)
    found = translator.translations(given)
    scores = translator.score(given, [each[0].text for each in found])
    for (log_p, tokens), each in zip(scores, found, strict=True):
        assert log_p == pytest.approx(each[0].log_probability, abs=1e-4)
        assert tokens == len(each[0].target_pieces) + 1
    assert translator.score(given[:3], given[:3], batch_tokens=1) == [
        (pytest.approx(log_p, abs=1e-5), tokens) for log_p, tokens in translator.score(given[:3], given[:3])
    ]


def test_long_targets_do_not_share_a_batch_with_many_short_ones(translator: Translator) -> None:
    shapes = []
    model = translator._model
    sources, targets = ["1 2"] * 100 + ["1 " * 60], ["1 2"] * 99 + ["1 " * 300] * 2
    with model.register_forward_pre_hook(lambda _, given: shapes.append((given[0].shape, given[2].shape))):
        translator.score(sources, targets, batch_tokens=200)
    assert sum(source[0] for source, _ in shapes) == 101
    for source, target in shapes:
        assert source[0] == 1 or source[0] * max(source[1], target[1]) <= 200


def test_scoring_takes_empty_sentences(translator: Translator) -> None:
    assert [tokens for _, tokens in translator.score(["", "1"], ["1", ""])] == [3, 1]


def test_a_folder_without_a_model_or_an_unknown_device_is_refused(copier: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no model"):
        Translator.load(tmp_path)
    for device in ("abacus", "meta"):
        with pytest.raises(UserError, match=f"the device '{device}' can't be used"):
            Translator.load(copier, device=device)


def test_graphs_are_refused_without_cuda_and_with_a_shortlist(copier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no CUDA graphs on cpu; leave graphs out, or name a CUDA device"):
        Translator.load(copier, device="cpu", graphs=True)
    monkeypatch.setattr("nmt.translator.choose_device", torch.device)  # before anything is done on it
    with pytest.raises(UserError, match="leave graphs out, or the shortlist"):
        Translator.load(copier, device="cuda", graphs=True, shortlist=True)


def test_a_checkpoint_folder_is_a_model_too(copier: Path) -> None:
    name = (copier / "best").read_text().strip()
    assert Translator.load(copier / name).translate(["1 2 3"]) == ["1 2 3"]
