"""Vocabulary shortlists: which target pieces a sentence may use, how they are found, and which files are refused."""

import os
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nmt import recipe
from nmt.commands import data
from nmt.errors import UserError
from nmt.recipe import Recipe
from nmt.recipe_file import write_recipe
from nmt.registry import CORPUS
from nmt.search.candidates import BLOCK
from nmt.text import shortlist_building
from nmt.text.phrasebook.corpus import PhrasebookCorpus
from nmt.text.shortlist import FILE, MAX_EACH, Shortlist
from nmt.text.shortlist_building import build_shortlist
from nmt.text.store import TokenStore, build_store
from nmt.text.tokenizer import END, Tokenizer, Tokenizers, make_tokenizers

SETTINGS = recipe.Tokenizer(vocab_size=500, model_type="unigram", byte_fallback=True)
Built = tuple[TokenStore, Tokenizers]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def built() -> Built:
    """Pairs as tokens of two vocabularies."""
    corpus = PhrasebookCorpus(split="train", size=1200)
    sides = zip(*((pair.source, pair.target) for pair in corpus.pairs()), strict=True)
    tokenizers = Tokenizers(*(Tokenizer.train(side, SETTINGS) for side in sides))
    return build_store(corpus, tokenizers, max_length=None, keep_text=False, say=print), tokenizers


@pytest.fixture(scope="module")
def shortlist(built: Built) -> Shortlist:
    return build_shortlist(*built, frequent=20, each=10)


@pytest.fixture
def saved(shortlist: Shortlist, tmp_path: Path) -> Path:
    shortlist.save(tmp_path / FILE)
    return tmp_path / FILE


def sentences(tokenizer: Tokenizer, *texts: str) -> list[list[int]]:
    return tokenizer.encode_many(list(texts) or ["Good morning!", "Where is the old station?", "I have 3 cats."])


def own(shortlist: Shortlist, sentence: list[int]) -> set[int]:
    shared, further, (places,) = shortlist.candidates([sentence])
    return {*shared.tolist(), *further[places[places >= 0]].tolist()}


# --- candidates


def test_candidates_rise_fill_blocks_and_hold_the_end_mark(built: Built, shortlist: Shortlist) -> None:
    _, tokenizers = built
    target = tokenizers.target
    shared, further, places = shortlist.candidates(sentences(tokenizers.source))
    candidates = [*shared.tolist(), *further.tolist()]
    assert (shared.dtype, further.dtype, places.dtype) == (torch.int64, torch.int64, torch.int64)
    assert candidates == sorted(shared.tolist()) + sorted(further.tolist())
    assert len(set(candidates)) == len(candidates)
    assert shared.tolist() == shortlist.always.tolist()  # in every batch
    assert target.eos_id in shared
    assert not {target.pad_id, target.bos_id, target.unk_id} & set(candidates)
    assert (len(shared) + places.shape[1]) % BLOCK == 0  # so that search pads nothing
    assert len(further) % 64 == 0
    assert 0 < len(further) - len(places[places >= 0].unique()) < 64  # what only fills up is in no list


def test_a_sentences_list_does_not_depend_on_its_neighbours(built: Built, shortlist: Shortlist) -> None:
    store, _ = built
    rows = [np.split(store.source.tokens, store.source.offsets[1:-1])[index].tolist() for index in range(60)]
    shared, further, places = shortlist.candidates(rows)
    for row, sentence in enumerate(rows):
        its = places[row][places[row] >= 0]
        assert {*shared.tolist(), *further[its].tolist()} == own(shortlist, sentence)
        assert places[row].tolist() == sorted(its.tolist()) + [-1] * (places.shape[1] - len(its))
    order = random.Random(1).sample(range(60), 60)
    _, other, shuffled = shortlist.candidates([rows[index] for index in order])
    assert torch.equal(further, other)
    assert torch.equal(places[order], shuffled)


def test_marks_and_repeated_pieces_change_nothing(built: Built, shortlist: Shortlist) -> None:
    source = built[1].source
    (sentence,) = sentences(source, "Where is the station?")
    assert own(shortlist, sentence) == own(shortlist, [*sentence, *sentence, source.eos_id])


def test_no_sentences_and_empty_ones_have_the_pieces_for_every_sentence(shortlist: Shortlist) -> None:
    shared, further, places = shortlist.candidates([])
    assert (len(further), len(places)) == (0, 0)
    assert shared.tolist() == shortlist.always.tolist()
    assert own(shortlist, []) == set(shortlist.always.tolist())


def test_a_small_vocabulary_is_used_as_a_whole() -> None:
    ids = np.arange(3, 10, dtype=np.int32)
    small = Shortlist(ids, ids[:1], np.array([0, 7], np.int32), ids, "")
    shared, further, places = small.candidates([[0]])
    assert [*shared.tolist(), *further.tolist()] == ids.tolist()
    assert places[places >= 0].tolist() == list(range(len(further)))


# --- building


def test_a_piece_brings_its_translations_along(built: Built, shortlist: Shortlist) -> None:
    """Of what the corpus translates with, nearly all is there, and far more than frequent pieces alone would give."""
    store, _ = built
    found = known = alone = 0
    for row in range(0, len(store), 7):
        source, target = (
            side.tokens[side.offsets[row] : side.offsets[row + 1]] for side in (store.source, store.target)
        )
        wanted = target.tolist()
        mine = own(shortlist, source.tolist())
        found += sum(piece in mine for piece in wanted)
        alone += sum(piece in shortlist.always for piece in wanted)
        known += len(wanted)
    assert found > 0.95 * known
    assert alone < 0.75 * known


def test_text_that_both_vocabularies_have_can_be_copied(built: Built, shortlist: Shortlist) -> None:
    _, tokenizers = built
    known = tokenizers.target.pieces()
    marks = {"<pad>", "<unk>", "<s>", "</s>"}
    both = [piece for piece in tokenizers.source.pieces() if piece in known and piece not in marks]
    assert len(both) > 300  # every byte, and some letters
    for piece in both:
        assert known.index(piece) in own(shortlist, [tokenizers.source.pieces().index(piece)])


def test_a_piece_that_the_target_lacks_is_put_together_from_others(built: Built, shortlist: Shortlist) -> None:
    _, tokenizers = built
    known = tokenizers.target.pieces()
    lacking = [piece for piece in tokenizers.source.pieces() if piece not in known]
    assert len(lacking) > 50
    for piece in lacking:
        usable = own(shortlist, [tokenizers.source.pieces().index(piece)])
        letters = {known[index] for index in usable}
        spelt = {0}  # how far the text can be written
        for begin in range(len(piece)):
            if begin in spelt:
                spelt |= {begin + len(part) for part in letters if piece.startswith(part, begin)}
                in_bytes = {f"<0x{byte:02X}>" for byte in piece[begin].encode()}
                spelt |= {begin + 1} if in_bytes <= letters else set()
        assert len(piece) in spelt, piece


def test_digits_and_punctuation_marks_are_always_there(built: Built, shortlist: Shortlist) -> None:
    known = built[1].target.pieces()
    plain = [index for index, piece in enumerate(known) if piece.removeprefix("▁") in (*"0123456789.,?!", "")]
    assert plain
    assert set(plain) <= set(shortlist.always.tolist())


def test_it_is_the_same_whatever_the_portions(
    built: Built, shortlist: Shortlist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shortlist.save(tmp_path / "whole")
    monkeypatch.setattr(shortlist_building, "PORTION", 700)
    build_shortlist(*built, frequent=20, each=10).save(tmp_path / "portions")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "portions").read_bytes()


def test_pairs_beyond_the_bound_are_passed_over_evenly(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    store, tokenizers = built
    monkeypatch.setattr(shortlist_building, "MAX_TOKENS", 4000)
    sample = shortlist_building._sample(store, tokenizers.source.vocab_size)
    assert 2000 < len(sample.targets) <= 4400
    stride = shortlist_building._stride(store.source.lengths, store.target.lengths)
    last = (len(store) - 1) // stride * stride
    begin, end = store.target.offsets[last : last + 2]
    assert sample.targets[sample.offsets[-2] :].tolist() == store.target.tokens[begin:end].tolist()


def test_more_pieces_are_a_wider_choice(built: Built, shortlist: Shortlist) -> None:
    wider = build_shortlist(*built, frequent=40, each=30)
    for sentence in sentences(built[1].source):
        assert own(shortlist, sentence) < own(wider, sentence)


# --- the file


def loaded(path: Path, tokenizers: Tokenizers) -> Shortlist:
    sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    return Shortlist.load(path, *sizes, end=tokenizers.target.eos_id, vocabularies=tokenizers.fingerprint())


def test_what_is_saved_is_loaded(built: Built, shortlist: Shortlist, saved: Path) -> None:
    again = loaded(saved, built[1])
    for name in ("ranked", "always", "offsets", "ids"):
        assert np.array_equal(getattr(again, name), getattr(shortlist, name))
    given = sentences(built[1].source)
    for one, other in zip(again.candidates(given), shortlist.candidates(given), strict=True):
        assert torch.equal(one, other)


def test_a_shortlist_for_other_vocabularies_is_refused(built: Built, saved: Path) -> None:
    _, tokenizers = built
    other = Tokenizers(tokenizers.target, tokenizers.source)
    assert other.target.vocab_size == tokenizers.target.vocab_size
    with pytest.raises(UserError, match=r"was built for other tokenizers than the model's; build it again: nmt-data"):
        loaded(saved, other)
    source, target = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    with pytest.raises(UserError, match=f"is for {source} source pieces, not for the {source + 1} of the model"):
        Shortlist.load(saved, source + 1, target, end=tokenizers.target.eos_id)
    with pytest.raises(UserError, match=r"the vocabularies allow|the target vocabulary lacks"):
        Shortlist.load(saved, source, target - 1, end=tokenizers.target.eos_id)


HARMS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "an id too high": lambda stored: stored["ids"].fill_(100_000),
    "an id below 0": lambda stored: stored["ids"].fill_(-1),
    "a frequent piece below 0": lambda stored: stored["always"].sub_(5),
    "a falling order": lambda stored: stored.update(always=stored["always"].flip(0)),
    "a rank too high": lambda stored: stored["ranked"].add_(100_000),
    "a rank twice": lambda stored: stored["ranked"].fill_(7),
    "nothing for every sentence": lambda stored: stored.update(always=stored["always"][:0].clone()),
    "no end mark": lambda stored: stored.update(always=stored["always"][stored["always"] != END]),
    "lists that fall": lambda stored: stored["offsets"][1:-1].copy_(stored["offsets"][1:-1].flip(0)),
    "lists beyond the end": lambda stored: stored["offsets"].mul_(3),
    "lists that begin late": lambda stored: stored["offsets"][0].fill_(2),
    "too few lists": lambda stored: stored.update(offsets=stored["offsets"][:-1].clone()),
    "endless lists": lambda stored: stored.update(ids=torch.zeros(MAX_EACH * 600, dtype=torch.int32)),
    "a matrix": lambda stored: stored.update(ids=stored["ids"][None]),
    "another type": lambda stored: stored.update(ids=stored["ids"].long()),
    "weights": lambda stored: stored.update(ids=stored["ids"].float()),
    "a missing array": lambda stored: stored.pop("always"),
    "a further array": lambda stored: stored.update(more=torch.zeros(3, dtype=torch.int32)),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_faulty_file_is_refused_in_a_line(built: Built, saved: Path, harm: str) -> None:
    stored = load_file(saved)
    HARMS[harm](stored)
    save_file(stored, saved, {"shortlist": f"1 {built[1].fingerprint()}"})
    with pytest.raises(UserError) as refused:
        loaded(saved, built[1])
    assert str(refused.value).startswith(f"{saved}: ")
    assert str(refused.value).endswith("; build it again: nmt-data shortlist RUN")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"\xff" * 8 + b"{}", b"\x02\0\0\0\0\0\0\0[]", (1 << 40).to_bytes(8, "little") + b"{"],
)
def test_what_is_no_such_file_is_refused_in_a_line(built: Built, tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UserError, match=f"^{tmp_path / FILE}: [^\n]*$"):
        loaded(tmp_path / FILE, built[1])


def test_a_pipe_and_an_unknown_format_are_refused(built: Built, saved: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match=f"^{path}: damaged or unreadable "):
            loaded(path, built[1])
    save_file(load_file(saved), saved, {"shortlist": f"2 {built[1].fingerprint()}"})
    with pytest.raises(UserError, match="no shortlist of this version of nmt"):
        loaded(saved, built[1])


# --- nmt-data shortlist


@pytest.fixture
def run_folder(tmp_path: Path, small_recipe: Callable[..., Recipe]) -> Path:
    """What `nmt-data shortlist` needs of a run."""
    folder, settings = tmp_path / "run", small_recipe()
    folder.mkdir()
    (folder / "recipe.yaml").write_text(write_recipe(settings))
    make_tokenizers(settings.data.train.build(CORPUS), settings.tokenizer).save(folder)
    return folder


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`nmt-data shortlist` in this process: its exit code, its output and its complaints."""

    def command_(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nmt-data", "shortlist", *map(str, arguments)])
        try:
            code = data.main()
        except SystemExit as left:
            code = left.code
        return code, *capsys.readouterr()

    return command_


def test_the_command_writes_one_file_into_the_runs_folder(command: Command, run_folder: Path) -> None:
    before = {path: path.read_bytes() for path in run_folder.iterdir()}
    code, out, err = command(run_folder, "--frequent", 5, "--each", 3)
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"{run_folder / FILE}: \d+ target pieces for every sentence, \d\.\d for .* of \d+\n", out)
    after = {path: path.read_bytes() for path in run_folder.iterdir()}
    assert after.keys() - before.keys() == {run_folder / FILE}
    assert {path: after[path] for path in before} == before
    tokenizers = Tokenizers.load(run_folder)
    (digits,) = sentences(tokenizers.source, "1 2 3")
    assert set(digits) <= own(loaded(run_folder / FILE, tokenizers), digits)
    assert command(run_folder, "--frequent", 5, "--each", 3)[0] == 0
    assert (run_folder / FILE).read_bytes() == after[run_folder / FILE]


def test_the_command_refuses_what_is_no_run(command: Command, tmp_path: Path) -> None:
    problem = f"nmt-data: {tmp_path}: is no run: it has no recipe.yaml; name a folder that nmt-train made\n"
    assert command(tmp_path) == (2, "", problem)
    assert command(tmp_path, "--each", 5000)[0] == 2


def test_an_unknown_action_is_answered_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["nmt-data", "shortlists", "run"])
    with pytest.raises(SystemExit, match="2"):
        data.main()
    assert "no action 'shortlists'; did you mean shortlist?" in capsys.readouterr().err
