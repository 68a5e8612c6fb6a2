"""Bad data: planted faults are found, sound pairs are left alone, and no file ends in a traceback."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from random import Random

import faulty
import pytest
from planted import PLANTS, Planted

from nmt.errors import UserError
from nmt.options import Choice
from nmt.recipe import Tokenizer
from nmt.registry import CORPUS
from nmt.text.inspection.inspection import Inspected, PairSet, inspect
from nmt.text.inspection.reading import files_as_set
from nmt.text.lines import InvalidLines, read_lines
from nmt.text.phrasebook.phrasebook import pairs as phrasebook
from nmt.text.store import build_store
from nmt.text.tokenizer import make_tokenizers
from nmt.training.run import train

Amount = Callable[[int, int], int]
Promise = Callable[[str, str], None]
Texts = list[str]

RECALL, FALSE_ALARMS = 0.95, 0.01
SLICE = 2500
PATIENCE = 30
"""Seconds that one corpus may take at most."""


def pair_set(name: str, sources: Texts, targets: Texts) -> PairSet:
    return PairSet(name, lambda: ((n, s, t) for n, (s, t) in enumerate(zip_longest(sources, targets), 1)))


def inspected(planted: Planted) -> Inspected:
    """What is found in the set that the faults were planted in."""
    sets = [pair_set("train", planted.sources, planted.targets)]
    if planted.test:
        sets.append(pair_set("test", *planted.test))
    return inspect(sets, show=1)[-1]


def flagged(result: Inspected) -> set[int]:
    """Every line that any finding is about, but for the surplus lines of a longer side, which are no pairs."""
    return {line for kind in result.found.totals if kind != "unequal" for line in result.found.lines_of(kind).tolist()}


def repetitions(sources: Texts, targets: Texts) -> set[int]:
    """The lines of pairs that have been there before."""
    seen, lines = set(), set()
    for line, pair in enumerate(zip(sources, targets, strict=False), 1):
        if pair in seen:
            lines.add(line)
        seen.add(pair)
    return lines


def found_and_false(
    plant: Callable[[Random, Texts, Texts], Planted], parts: Iterator[tuple[Texts, Texts]]
) -> list[int]:
    """Planted lines found, planted lines, sound lines flagged and sound lines, over all parts of a corpus.

    A planted line is found if a finding of its own kind is about it. A sound one is flagged by any finding at all, also
    by one that a reader would agree with; only what the corpus really has twice, to the letter, is not counted.
    """
    sums = [0, 0, 0, 0]
    for seed, (sources, targets) in enumerate(parts):
        planted = plant(Random(seed), sources, targets)
        result = inspected(planted)
        found = set(result.found.lines_of(planted.kind).tolist())
        repeated = repetitions(*(planted.test or (planted.sources, planted.targets)))
        count = result.source_lines
        numbers = (
            len(found & planted.lines),
            len(planted.lines),
            len(flagged(result) - planted.lines - repeated),
            count - len(planted.lines),
        )
        sums = [total + number for total, number in zip(sums, numbers, strict=True)]
    return sums


def report(promise: Promise, corpus: str, fault: str, sums: list[int]) -> None:
    found, planted, false, sound = sums
    recall, alarms = found / planted, false / max(1, sound)
    promise(
        f"planted in {corpus}: {fault}", f"{recall:.1%} of {planted:,} found, {alarms:.2%} false alarms in {sound:,}"
    )
    assert recall >= RECALL
    assert alarms <= FALSE_ALARMS


def slices(sources: Texts, targets: Texts, count: int) -> Iterator[tuple[Texts, Texts]]:
    for index in range(count):
        part = slice(index * SLICE, (index + 1) * SLICE)
        yield sources[part], targets[part]


@pytest.mark.parametrize("fault", PLANTS)
def test_faults_planted_in_the_phrasebook_are_found(fault: str, amount: Amount, promise: Promise) -> None:
    count = amount(1, 6)
    english, french = map(list, zip(*phrasebook("train", size=count * SLICE), strict=True))
    report(promise, "the phrasebook", fault, found_and_false(PLANTS[fault], slices(english, french, count)))


@pytest.fixture(scope="module", params=["multi30k", "tatoeba-en-fr"])
def real(request: pytest.FixtureRequest, corpora: Path) -> tuple[str, Texts, Texts]:
    """A real corpus: its name and its two sides."""
    paths = (corpora / request.param / f"train.{language}.xz" for language in ("en", "fr"))
    sides = ([line or "" for line in read_lines(path, invalid="replace", counts=InvalidLines())] for path in paths)
    return (request.param, *sides)


@pytest.mark.parametrize("fault", PLANTS)
def test_faults_planted_in_real_corpora_are_found(
    fault: str, real: tuple[str, Texts, Texts], amount: Amount, promise: Promise
) -> None:
    name, sources, targets = real
    report(promise, name, fault, found_and_false(PLANTS[fault], slices(sources, targets, amount(1, 7))))


def test_sound_real_corpora_raise_no_alarm(real: tuple[str, Texts, Texts], amount: Amount, promise: Promise) -> None:
    name, sources, targets = real
    size = amount(10_000, len(sources))
    (result,) = inspect([pair_set(name, sources[:size], targets[:size])], show=1)
    false = flagged(result) - repetitions(sources[:size], targets[:size])
    promise(f"{name} as it is", f"{len(false):,} of {size:,} pairs flagged ({len(false) / size:.3%})")
    assert len(false) <= FALSE_ALARMS * size


# --- the fuzzer


@contextmanager
def patience() -> Iterator[None]:
    """Whatever hangs is an error."""

    def too_long(*_: object) -> None:
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def made(seed: int, folder: Path, kind: str) -> Choice:
    """A recipe's choice of a faulty corpus."""
    make = {"files": faulty.files, "table": faulty.table, "datasets": faulty.dataset}[kind]
    options = make(Random(seed), folder, list(phrasebook("train", size=40)))
    return Choice("datasets" if kind == "datasets" else "files", options)


def kind_of(seed: int) -> str:
    """Two in three are pairs of files, the others tables and what the datasets library reads."""
    return ("files", "table", "files", "files", "datasets", "files", "table", "files", "files")[seed % 9]


def is_a_line(message: str, folder: Path) -> bool:
    """`file:line: what; what to do`, with the line where there is one."""
    place = rf"({re.escape(str(folder))}/[^\n]*?(:\d+)*|data\.train): "
    return re.fullmatch(rf"({place})?[^\n]+; [^\n]+", message) is not None


@pytest.fixture(autouse=True)
def _own_datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


def test_every_faulty_corpus_is_read_and_counted_or_refused_in_a_line(
    tmp_path: Path, amount: Amount, promise: Promise
) -> None:
    count, outcomes = amount(200, 2000), Counter[str]()
    for seed in range(count):
        folder = tmp_path / str(seed)
        folder.mkdir()
        choice = made(seed, folder, kind_of(seed))
        with patience():
            try:
                corpus = choice.build(CORPUS)
                corpus.check()
                said: list[str] = []
                tokenizers = make_tokenizers(corpus, Tokenizer(vocab_size=400))
                store = build_store(corpus, tokenizers, max_length=128, keep_text=seed % 2 == 0, say=said.append)
            except UserError as error:
                assert is_a_line(str(error), folder), (seed, str(error))
                outcomes["refused"] += 1
                continue
        counts = store.counts
        pairs = sum(1 for _ in corpus.pairs())
        assert counts.kept == len(store) > 0, seed
        assert counts.kept + counts.empty + counts.too_long == pairs, seed
        assert bool(said) == bool(counts.empty or counts.too_long or corpus.notes()), seed
        outcomes["read and counted"] += 1
    assert min(outcomes.values()) > count // 10, outcomes
    promise(f"faulty corpora, {count:,}", ", ".join(f"{number:,} {what}" for what, number in sorted(outcomes.items())))


def test_every_pair_of_faulty_files_is_checked_or_refused_in_a_line(
    tmp_path: Path, amount: Amount, promise: Promise
) -> None:
    count, outcomes = amount(40, 600), Counter[str]()
    for seed in range(count):
        folder = tmp_path / str(seed)
        folder.mkdir()
        options = made(seed, folder, "files").options
        with patience():
            try:
                (result,) = inspect([files_as_set(options["source"], options["target"])], show=5)
                outcomes["with findings" if result.found.anything else "without"] += 1
            except UserError as error:
                assert is_a_line(str(error), folder), (seed, str(error))
                outcomes["refused"] += 1
    assert len(outcomes) == 3
    promise(f"nmt-data on faulty files, {count:,}", ", ".join(f"{n:,} {what}" for what, n in sorted(outcomes.items())))


def test_training_on_a_faulty_corpus_leaves_no_half_made_folder(
    tmp_path: Path, amount: Amount, promise: Promise, small_recipe: Callable[..., object]
) -> None:
    count, outcomes = amount(6, 150), Counter[str]()
    for seed in range(count):
        folder = tmp_path / str(seed)
        folder.mkdir()
        choice = made(seed, folder, ("files", "table")[seed % 2])
        recipe = small_recipe("train.updates=1", "tokenizer.vocab_size=400")
        data = recipe.data.model_copy(update={("train", "valid")[seed // 2 % 2]: choice})
        with patience():
            try:
                train(recipe.model_copy(update={"data": data}), out=folder / "run")
            except UserError as error:
                assert is_a_line(str(error), folder), (seed, str(error))
                assert not (folder / "run").exists()
                outcomes["refused"] += 1
                continue
        assert (folder / "run" / "recipe.yaml").exists()
        outcomes["trained"] += 1
    assert len(outcomes) == 2
    promise(f"training begun on faulty corpora, {count:,}", ", ".join(f"{n:,} {what}" for what, n in outcomes.items()))


@pytest.mark.parametrize("fault", ["pipe", "bytes"])
def test_the_command_itself_refuses_in_a_line_without_a_traceback(fault: str, tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    target.write_text("1\n2\n")
    if fault == "pipe":
        os.mkfifo(source)
    else:
        source.write_bytes(b"1\n\xff2\n")
    code = "import sys; from nmt.commands.train import main; sys.exit(main())"
    recipe = Path(__file__).parents[2] / "recipes" / "copy.yaml"
    data = f"data.train={{corpus: files, source: {source}, target: {target}}}"
    command = [sys.executable, "-c", code, str(recipe), data, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert re.fullmatch(rf"nmt-train: {re.escape(str(source))}(:\d+)*: [^\n]+; [^\n]+\n", done.stderr), done.stderr
    assert not (tmp_path / "run").exists()
