"""The token store: what is kept and counted, what the cache knows again, and memory that doesn't grow."""

import errno
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmt import recipe
from nmt.errors import RunError, UserError
from nmt.text import store as store_module
from nmt.text.cache import cache_folder, forget_unused
from nmt.text.corpus import Corpus, Pair
from nmt.text.files import FilesCorpus
from nmt.text.store import TokenStore, build_store
from nmt.text.tokenizer import Tokenizer, Tokenizers

TEXTS = ["one two three four five six seven eight nine ten", "un deux trois quatre cinq six sept huit neuf dix"]
TOKENIZER = Tokenizer.train(TEXTS, recipe.Tokenizer(vocab_size=300, model_type="char"))
OTHER = Tokenizer.train(TEXTS, recipe.Tokenizer(vocab_size=280, model_type="bpe"))
SHARED = Tokenizers(TOKENIZER, TOKENIZER)


class Listed(Corpus):
    """A corpus of given pairs, which counts how often it is read."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs
        self.readings = 0

    def pairs(self) -> Iterator[Pair]:
        self.readings += 1
        for number, (source, target) in enumerate(self._pairs, 1):
            yield Pair(source, target, number)

    def fingerprint(self) -> str:
        return repr(self._pairs)

    def check(self) -> None:
        pass

    def notes(self) -> list[str]:
        return ["a note"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NMT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def silent(message: str) -> None:
    pass


def build(
    pairs: list[tuple[str, str]] | Corpus,
    *,
    tokenizers: Tokenizers = SHARED,
    max_length: int | None = None,
    keep_text: bool = False,
    say: Callable[[str], None] = silent,
) -> TokenStore:
    corpus = pairs if isinstance(pairs, Corpus) else Listed(pairs)
    return build_store(corpus, tokenizers, max_length=max_length, keep_text=keep_text, say=say)


def row(side: store_module.Side, index: int) -> list[int]:
    return side.tokens[side.offsets[index] : side.offsets[index + 1]].tolist()


WORDS = st.text(st.sampled_from("onetwux \u00a0\u2028\t"), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(pairs=st.lists(st.tuples(WORDS, WORDS), max_size=12), max_length=st.none() | st.integers(1, 10))
def test_every_pair_is_kept_as_its_tokens_or_counted(pairs: list[tuple[str, str]], max_length: int | None) -> None:
    kept, empty, too_long = [], 0, 0
    for line, (source, target) in enumerate(pairs, 1):
        ids = TOKENIZER.encode(source), TOKENIZER.encode(target)
        if not (source.strip() and target.strip()):
            empty += 1
        elif max_length is not None and max(map(len, ids)) > max_length:
            too_long += 1
        else:
            kept.append((line, *ids))
    if not kept:
        with pytest.raises(UserError, match="no usable pair"):
            build(pairs, max_length=max_length)
        return
    built = build(pairs, max_length=max_length)
    assert [(line, row(built.source, i), row(built.target, i)) for i, line in enumerate(built.lines)] == kept
    assert built.source.lengths.tolist() == [len(source) for _, source, _ in kept]
    assert built.target.lengths.tolist() == [len(target) for _, _, target in kept]
    assert (built.counts.kept, built.counts.empty, built.counts.too_long) == (len(kept), empty, too_long)
    assert len(built) == len(kept)


def test_pairs_keep_their_order_over_the_chunks_they_are_encoded_in(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    pairs = [(" ".join(draw.choices(TEXTS[0].split(), k=draw.randint(0, 5))), "un") for _ in range(500)]
    whole = build(pairs)
    monkeypatch.setattr(store_module, "CHUNK", 7)
    monkeypatch.setattr(store_module, "FORMAT", -1)
    chunked = build(pairs)
    assert chunked.lines.tolist() == whole.lines.tolist() == [i for i, pair in enumerate(pairs, 1) if pair[0]]
    assert chunked.source.tokens.tolist() == whole.source.tokens.tolist()
    assert chunked.source.offsets.tolist() == whole.source.offsets.tolist()


def test_sentences_are_kept_where_asked_for() -> None:
    pairs = [("one", "un"), ("", "x"), ("two \u2028é😀", "deux"), ("three", "trois")]
    built = build(pairs, keep_text=True)
    assert built.source.texts(np.array([2, 0, 1])) == ["three", "one", "two \u2028é😀"]
    assert built.target.texts(np.array([1, 1])) == ["deux", "deux"]


def test_what_is_left_out_is_said_as_are_the_corpus_s_notes() -> None:
    said: list[str] = []
    build([("one", "un"), ("", "x"), ("x", " "), ("two two", "deux")], max_length=4, say=said.append)
    assert said == ["a note", "1 pairs, left out 2 with an empty side and 1 too long"]


def test_no_usable_pair_is_one_line_that_says_why(cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        build([("", "x"), ("one", "un un un")], max_length=4)
    assert "left out 1 with an empty side and 1 too long" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


def test_the_same_again_is_not_encoded_again_and_says_the_same() -> None:
    corpus = Listed([("one", "un"), ("", "x")])
    said: list[str] = []
    first = build(corpus, say=said.append)
    again = build(corpus, say=said.append)
    assert corpus.readings == 1
    assert again.source.tokens.tolist() == first.source.tokens.tolist()
    assert again.counts == first.counts
    assert said == said[: len(said) // 2] * 2


@pytest.mark.parametrize(
    "change",
    [
        {"pairs": [("one", "deux")]},
        {"tokenizers": Tokenizers(OTHER, TOKENIZER)},
        {"tokenizers": Tokenizers(TOKENIZER, OTHER)},
        {"max_length": 100},
        {"keep_text": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_corpus_tokenizer_or_setting_is_encoded_anew(change: dict[str, object], cache: Path) -> None:
    build([("one", "un")])
    build(**{"pairs": [("one", "un")], **change})
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("name", ["store.json", "lines", "source.tokens", "target.offsets", "source.text"])
@pytest.mark.parametrize("harm", ["removed", "cut short", "emptied", "longer"])
def test_a_damaged_cache_is_made_again(name: str, harm: str, cache: Path) -> None:
    corpus = Listed([("one two", "un deux"), ("three", "trois")])
    build(corpus, keep_text=True)
    path = next(cache.iterdir()) / name
    content = path.read_bytes()
    path.write_bytes({"cut short": content[:-8], "emptied": b"", "longer": content + bytes(8)}.get(harm, b""))
    if harm == "removed":
        path.unlink()
    again = build(corpus, keep_text=True)
    assert corpus.readings == 2
    assert row(again.source, 1) == TOKENIZER.encode("three")
    assert again.target.texts(np.array([0])) == ["un deux"]
    assert path.read_bytes() == content


def test_an_interrupted_encoding_leaves_nothing_behind(cache: Path) -> None:
    class Broken(Listed):
        def pairs(self) -> Iterator[Pair]:
            yield Pair("one", "un", 1)
            raise UserError("it breaks off")

    with pytest.raises(UserError, match="it breaks off"):
        build(Broken([]))
    assert list(cache.iterdir()) == []


def test_two_runs_that_encode_the_same_at_once_both_have_it(cache: Path) -> None:
    inner = Listed([("one", "un")])

    class Slow(Listed):
        """While it is read, another run is faster."""

        def pairs(self) -> Iterator[Pair]:
            build(inner)
            yield from super().pairs()

    slow = build(Slow([("one", "un")]))
    assert row(slow.source, 0) == TOKENIZER.encode("one")
    assert len(list(cache.iterdir())) == 1


def test_a_cache_that_cannot_be_made_gives_way_to_a_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NMT_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    assert cache_folder().parent == tmp_path / "temporary"
    assert len(build([("one", "un")])) == 1


def grow_old(path: Path, days: float) -> None:
    then = time.time() - days * 86_400
    for each in (*path.rglob("*"), path):
        os.utime(each, (then, then))


def unused(cache: Path) -> Path:
    """The only store there, which nobody has used for a month."""
    build([("one", "un")])
    (entry,) = cache.iterdir()
    grow_old(entry, 31)
    return entry


def test_what_nobody_has_used_for_a_month_makes_room_for_what_is_new(cache: Path) -> None:
    pairs = {name: [(name, "un")] for name in ("unused", "used", "new")}
    still_read = build(pairs["unused"])
    (first,) = cache.iterdir()
    build(pairs["used"])
    (second,) = set(cache.iterdir()) - {first}
    for entry in (first, second):
        grow_old(entry, 31)
    build(pairs["used"])
    assert {first, second} == set(cache.iterdir())
    build(pairs["new"])
    assert first not in set(cache.iterdir()) > {second}
    assert row(still_read.source, 0) == TOKENIZER.encode("unused")  # who still reads it goes on


def test_what_a_killed_process_left_half_made_goes_after_a_day(cache: Path) -> None:
    for name, days in (("dead", 1.1), ("alive", 0.9)):
        folder = cache / f".partial-{name}" / "store"
        folder.mkdir(parents=True)
        (folder / "lines").touch()
        grow_old(folder.parent, days)
    grow_old(cache / ".partial-alive", 2)
    (cache / ".partial-alive" / "store" / "lines").write_bytes(b"just written")
    build([("one", "un")])
    assert [path.name for path in cache.glob(".partial-*")] == [".partial-alive"]


def test_nothing_foreign_is_deleted_from_the_cache(cache: Path, tmp_path: Path) -> None:
    for file in (
        "corpora/store.json",
        "f" * 31 + "/store.json",
        "0" * 32 + "/photos",
        "1" * 32 + "/store.json/inside",
        ".partial-thesis/chapter",
        ".partial-mine/store/thesis.txt",
        ".partial-other/lines",
        "notes.txt",
    ):
        (cache / file).parent.mkdir(parents=True, exist_ok=True)
        (cache / file).touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "store.json").touch()
    (cache / ("a" * 32)).symlink_to(elsewhere)
    before = set(cache.iterdir())
    for entry in before:
        grow_old(entry, 1000)
    build([("one", "un")])
    assert before < set(cache.iterdir())
    assert (elsewhere / "store.json").exists()


def test_what_was_only_half_deleted_goes_the_next_time(cache: Path) -> None:
    entry = unused(cache)
    (entry / "store.json").unlink()
    grow_old(entry, 31)
    build([("two", "deux")])
    assert not entry.exists()


def test_what_is_unused_makes_room_before_something_new_is_written(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = unused(cache)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module, "_write", full)
    with pytest.raises(RunError, match="make room"):
        build([("two", "deux")])
    assert not entry.exists()


def test_what_can_not_be_deleted_or_listed_stays_and_stops_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = unused(cache)

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("nmt.text.cache.shutil.rmtree", refused)
        forget_unused(cache)
        patch.setattr(Path, "iterdir", refused)
        forget_unused(cache)
    assert entry.exists()
    forget_unused(cache)
    assert not entry.exists()


def test_tokens_are_stored_in_the_smallest_type_that_holds_them(cache: Path) -> None:
    built = build([("one", "un")])
    assert built.source.tokens.dtype == np.uint16
    described = json.loads(next(cache.iterdir()).joinpath("store.json").read_text())
    assert described["source_vocab_size"] == TOKENIZER.vocab_size


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path, cache: Path) -> None:
    TOKENIZER.save(tmp_path / "a.model")
    draw = random.Random(1)
    lines = [" ".join(draw.choices(TEXTS[0].split(), k=8)) for _ in range(1000)]
    code = (
        "import resource, sys; from nmt.text.files import FilesCorpus; from nmt.text.store import build_store\n"
        "from nmt.text.tokenizer import Tokenizer, Tokenizers\n"
        "tokenizer = Tokenizer.load(sys.argv[1])\n"
        "files = FilesCorpus(source=sys.argv[2], target=sys.argv[2])\n"
        "store = build_store(files, Tokenizers(tokenizer, tokenizer), max_length=100, keep_text=True, say=print)\n"
        "print(len(store), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = {}
    for thousands in (10, 100):
        path = tmp_path / f"text-{thousands}"
        path.write_text("\n".join(lines * thousands) + "\n")
        command = [sys.executable, "-c", code, str(tmp_path / "a.model"), str(path)]
        pairs, kilobytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert int(pairs) == 1000 * thousands
        peaks[thousands] = int(kilobytes)
    # As lists of Python integers the larger corpus would take 80 MB more, as text in memory 10 MB for each side.
    assert peaks[100] - peaks[10] < 15_000


def test_a_store_of_files_keeps_their_line_numbers(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\n\nbad \xff\ntwo\n")
    (tmp_path / "b").write_bytes(b"un\nx\ny\ndeux\n")
    said: list[str] = []
    files = FilesCorpus(source=str(tmp_path / "a"), target=str(tmp_path / "b"), invalid_utf8="skip")
    built = build(files, say=said.append)
    assert built.lines.tolist() == [1, 4]
    assert said == [
        "1 lines that are no valid UTF-8 were left out",
        "2 pairs, left out 1 with an empty side",
    ]
