"""Corpora: which pairs they give, what they refuse, and when their fingerprints change."""

import gzip
import json
import lzma
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nmt.errors import UserError
from nmt.options import Choice
from nmt.registry import CORPUS
from nmt.text.corpus import Corpus, Pair
from nmt.text.datasets import DatasetsCorpus
from nmt.text.digits import DigitsCorpus
from nmt.text.files import FilesCorpus

Write = Callable[[str, str | bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write_


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the datasets library keeps what it converts."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def texts(corpus: Corpus) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in corpus.pairs()]


def refusal(corpus: Corpus) -> str:
    with pytest.raises(UserError) as caught:
        list(corpus.pairs())
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_line_n_of_the_source_belongs_to_line_n_of_the_target(write: Write) -> None:
    corpus = FilesCorpus(source=write("a", "one\u2028\n\nthree\n"), target=write("b", "un\r\ndeux\r\ntrois"))
    assert list(corpus.pairs()) == [Pair("one\u2028", "un", 1), Pair("", "deux", 2), Pair("three", "trois", 3)]
    assert list(corpus.pairs()) == list(corpus.pairs())


def test_several_files_are_paired_in_order_and_counted_on(write: Write) -> None:
    sources = (write("a1", "1\n"), write("a2.gz", gzip.compress(b"2\n3\n")))
    targets = (write("b1.xz", lzma.compress(b"I\n")), write("b2", "II\nIII\n"))
    assert list(FilesCorpus(source=sources, target=targets).pairs()) == [
        Pair("1", "I", 1),
        Pair("2", "II", 2),
        Pair("3", "III", 3),
    ]


def test_each_file_must_be_as_long_as_its_own_counterpart(write: Write) -> None:
    sources = (write("a1", "1\n2\n"), write("a2", "3\n"))
    targets = (write("b1", "I\n"), write("b2", "II\nIII\n"))
    assert refusal(FilesCorpus(source=sources, target=targets)).startswith(f"{sources[0]}:2: has no counterpart")


def test_a_table_gives_the_columns_asked_for(write: Write) -> None:
    table = write("table.tsv.gz", gzip.compress(b'id\tun "mot\t\tone\n'))
    assert texts(FilesCorpus(tsv=table, source_column=4, target_column=2)) == [("one", 'un "mot')]
    assert texts(FilesCorpus(tsv=(table, table), source_column=1, target_column=3)) == [("id", "")] * 2


def test_a_table_with_too_few_columns_is_refused_by_its_line(write: Write) -> None:
    table = write("table.tsv", "a\tb\njust one\n")
    assert refusal(FilesCorpus(tsv=table)).startswith(f"{table}:2: 1 columns, column 2 is wanted")


@pytest.mark.parametrize(
    "options",
    [{}, {"source": "a"}, {"target": "b"}, {"source": "a", "target": ("b", "c")}, {"source": "a", "tsv": "t"}],
    ids=str,
)
def test_options_that_name_no_pairs_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UserError):
        FilesCorpus(**options)


def test_a_line_left_out_takes_its_counterpart_with_it_and_is_counted(write: Write) -> None:
    source, target = write("a", b"one\n\xff\nthree\n"), write("b", b"un\ndeux\n\xfe\n")
    skipping = FilesCorpus(source=source, target=target, invalid_utf8="skip")
    assert list(skipping.pairs()) == [Pair("one", "un", 1)]
    assert skipping.notes() == ["2 lines that are no valid UTF-8 were left out"]
    mending = FilesCorpus(source=source, target=target, invalid_utf8="replace")
    assert len(list(mending.pairs())) == 3
    list(mending.pairs())
    assert mending.notes() == ["2 lines that are no valid UTF-8 were mended"]
    assert refusal(FilesCorpus(source=source, target=target)).startswith(f"{source}:2:1: ")


def test_a_limit_takes_the_first_pairs(write: Write) -> None:
    corpus = FilesCorpus(source=write("a", "1\n2\n3\n"), target=write("b", "I\nII\nIII\n"), limit=2)
    assert texts(corpus) == [("1", "I"), ("2", "II")]


def test_nothing_behind_the_limit_is_looked_at(write: Write) -> None:
    source, target = write("a", b"1\n\xff\n"), write("b", "I\n")
    assert texts(FilesCorpus(source=source, target=target, limit=1)) == [("1", "I")]


def test_files_that_cannot_be_read_are_refused_before_anything_is(write: Write, tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    for corpus in (FilesCorpus(source=write("a", "1\n"), target=absent), FilesCorpus(tsv=absent)):
        for act in (corpus.check, corpus.fingerprint, lambda corpus=corpus: list(corpus.pairs())):
            with pytest.raises(UserError, match="absent: can't be read"):
                act()


def test_a_fingerprint_changes_with_the_content_and_the_options_and_not_with_the_path(write: Write) -> None:
    first = FilesCorpus(source=write("a", "1\n"), target=write("b", "I\n"))
    same = FilesCorpus(source=write("c", "1\n"), target=write("d", "I\n"))
    assert first.fingerprint() == same.fingerprint()
    others = [
        FilesCorpus(source=write("e", "2\n"), target=write("f", "I\n")),
        FilesCorpus(source=write("b", "I\n"), target=write("a", "1\n")),
        FilesCorpus(source=write("a", "1\n"), target=write("b", "I\n"), limit=1),
        FilesCorpus(source=write("a", "1\n"), target=write("b", "I\n"), invalid_utf8="skip"),
        FilesCorpus(tsv=(write("a", "1\n"), write("b", "I\n"))),
    ]
    assert len({corpus.fingerprint() for corpus in (first, *others)}) == 1 + len(others)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_dataset_file_gives_its_columns(suffix: str, tmp_path: Path, cache: Path) -> None:
    import datasets

    path = tmp_path / f"data{suffix}"
    rows = {"fr": ["un", "deux mots"], "en": ["one", "two words"], "id": [1, 2]}
    dataset = datasets.Dataset.from_dict(rows)
    if suffix == ".parquet":
        dataset.to_parquet(path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in dataset))
    else:
        separator = "\t" if suffix == ".tsv" else ","
        lines = [list(rows), *([str(row[name]) for name in rows] for row in dataset)]
        path.write_text("".join(separator.join(line) + "\n" for line in lines))
    corpus = DatasetsCorpus(path=str(path), source="en", target="fr")
    assert list(corpus.pairs()) == [Pair("one", "un", 1), Pair("two words", "deux mots", 2)]
    assert texts(DatasetsCorpus(path=str(path), source="en", target="fr", limit=1)) == [("one", "un")]
    assert "no column 'frr'; did you mean fr?" in refusal(DatasetsCorpus(path=str(path), source="en", target="frr"))
    if suffix in (".jsonl", ".parquet"):
        assert "holds int, not text" in refusal(DatasetsCorpus(path=str(path), source="id", target="fr"))


def test_every_cell_of_a_table_is_text_as_it_stands(write: Write, cache: Path) -> None:
    path = write("data.csv", '\ufeffen,fr\nNA,null\n007,1.0\n"a\nb ""c""",\n')
    assert texts(DatasetsCorpus(path=path, source="en", target="fr")) == [
        ("NA", "null"),
        ("007", "1.0"),
        ('a b "c"', ""),
    ]
    path = write("data.tsv", 'en\tfr\n"Hello\tBonjour"\n"q"\tNA\n')
    assert texts(DatasetsCorpus(path=path, source="en", target="fr")) == [('"Hello', 'Bonjour"'), ('"q"', "NA")]


def test_a_split_of_a_file_may_be_a_part_of_it(write: Write, cache: Path) -> None:
    path = write("data.csv", "en,fr\n1,I\n2,II\n3,III\n")
    assert texts(DatasetsCorpus(path=path, split="train[1:]", source="en", target="fr")) == [("2", "II"), ("3", "III")]


def test_a_damaged_dataset_says_what_is_wrong_and_nothing_else(
    write: Write, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write("data.csv", b"en,fr\n\xe9,b\n")
    corpus = DatasetsCorpus(path=path, source="en", target="fr")
    assert refusal(corpus) == f"{path}:2:1: no valid UTF-8 (byte 0xe9); save the file as UTF-8"
    assert capfd.readouterr() == ("", "")


def test_a_dot_leads_into_a_column_of_translations_and_a_field_is_one_line(write: Write, cache: Path) -> None:
    rows = [{"translation": {"en": "a\u2028b", "fr": "c\nd"}}, {"translation": {"en": None, "fr": "f"}}]
    path = write("data.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    assert texts(DatasetsCorpus(path=path)) == [("a b", "c d"), ("", "f")]
    assert "did you mean fr?" in refusal(DatasetsCorpus(path=path, target="translation.fra"))


def test_a_changed_dataset_file_is_read_again(write: Write, cache: Path) -> None:
    before = DatasetsCorpus(path=write("data.csv", "en,fr\none,un\n"), source="en", target="fr")
    fingerprint = before.fingerprint()
    assert before.fingerprint() == fingerprint
    after = DatasetsCorpus(path=write("data.csv", "en,fr\ntwo,deux\n"), source="en", target="fr")
    assert after.fingerprint() != fingerprint
    assert texts(after) == [("two", "deux")]


@pytest.mark.parametrize("name", ["absent.csv", "absent.jsonl", "absent.parquet"])
def test_a_dataset_file_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    assert refusal(DatasetsCorpus(path=str(path))).startswith(f"{path}: can't be read (no such file)")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "data.jsonl",
            b'{"en": "a"}\n{"en": "a", "fr":\xff',
            ":2:18: no valid UTF-8 (byte 0xff); save the file as UTF-8",
        ),
        (
            "data.jsonl",
            b'{"translation.en": "a", "translation.fr": "b"}\n{"translation.en": "a\xc0", "translation.fr": "b"}\n',
            ":2:22: no valid UTF-8 (byte 0xc0); save the file as UTF-8",
        ),
        ("data.jsonl", b'{"en": "a"}\n\n{"en"\n', ":3: no JSON ("),
        ("data.csv", b"en,fr\na,b\na,b,c\n", ":3: the dataset can't be loaded ("),
        ("data.tsv", b"\n", ": holds no rows; "),
        ("data.parquet", b"PAR1", ": the dataset can't be loaded ("),
    ],
)
def test_a_damaged_dataset_file_is_one_line(name: str, content: bytes, message: str, write: Write, cache: Path) -> None:
    path = write(name, content)
    assert refusal(DatasetsCorpus(path=path)).startswith(f"{path}{message}")


def test_a_parquet_file_whose_text_is_no_utf8_is_one_line_with_its_row(tmp_path: Path, cache: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    words = pyarrow.array([b"one", b"two\xc0"], pyarrow.binary()).view(pyarrow.string())
    path = str(tmp_path / "data.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"en": words, "fr": ["un", "deux"]}), path)
    found = refusal(DatasetsCorpus(path=path, source="en", target="fr"))
    assert found == f"{path}: row 2 holds no valid UTF-8 (byte 0xc0); write it again"


def test_a_pipe_is_no_corpus_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: is no file but a pipe or a device"):
        FilesCorpus(tsv=str(tmp_path / "pipe")).check()


def test_a_hub_that_cannot_be_reached_is_one_line_within_seconds(tmp_path: Path) -> None:
    code = (
        "import datasets\n"
        "from nmt.errors import UserError\nfrom nmt.text.datasets import DatasetsCorpus\n"
        "try: list(DatasetsCorpus(path='nobody/nothing').pairs())\n"
        "except UserError as error: print(error)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": "https://hub.invalid", "HF_HOME": str(tmp_path)}
    began = time.monotonic()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert time.monotonic() - began < 20
    assert len(run.stdout.splitlines()) == 1
    assert run.stdout.startswith("nobody/nothing: the dataset can't be loaded (")
    assert "Traceback" not in run.stderr
    assert "Retrying" not in run.stderr


@pytest.mark.parametrize("task", ["copy", "reverse", "sort"])
def test_digits_are_copied_reversed_and_sorted(task: str) -> None:
    corpus = DigitsCorpus(task=task, pairs=50, shortest=2, longest=4, seed=3)
    pairs = list(corpus.pairs())
    assert [pair.line for pair in pairs] == list(range(1, 51))
    for pair in pairs:
        digits = pair.source.split(" ")
        assert 2 <= len(digits) <= 4
        assert pair.target.split(" ") == {"copy": digits, "reverse": digits[::-1], "sort": sorted(digits)}[task]
    assert {len(pair.source.split(" ")) for pair in pairs} == {2, 3, 4}
    assert list(corpus.pairs()) == pairs
    assert list(DigitsCorpus(task=task, pairs=50, shortest=2, longest=4, seed=4).pairs()) != pairs


def test_digits_of_no_length_are_refused() -> None:
    with pytest.raises(UserError, match="shortest is 5, longest is 4"):
        DigitsCorpus(shortest=5, longest=4)


def test_a_recipe_s_choice_builds_a_corpus(write: Write) -> None:
    choice = Choice("files", {"source": [write("a", "1\n")], "target": [write("b", "I\n")]})
    assert texts(choice.build(CORPUS)) == [("1", "I")]


def test_importing_corpora_is_light() -> None:
    code = (
        "import sys, nmt.text.files, nmt.text.datasets, nmt.text.digits, nmt.text.lines\n"
        "print([name for name in ('torch', 'numpy', 'datasets', 'sentencepiece') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
