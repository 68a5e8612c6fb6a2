"""Promise: lines in, lines out, in order, whatever is in them and whatever the model writes."""

import contextlib
import json
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from folders import fond_of, small_model, small_recipe, write_folder

from nmt.commands import reading, translate
from nmt.text.lines import MAX_SOURCE_TOKENS

Run = Callable[..., tuple[bytes, str]]

SHORT = ("search.max_length_ratio=1.0", "search.max_length_extra=3")
MODES = {
    "greedy": ("--beam", "1"),
    "beam": ("--beam", "4"),
    "scores": ("--scores", "--alignments", "--beam", "2"),
    "n-best": ("--n-best", "3"),
    "json": ("--json", "--beam", "1"),
    "json n-best": ("--json", "--alignments", "--n-best", "2"),
    "batches of one": ("--batch-tokens", "1", "--beam", "1"),
    "large batches": ("--batch-tokens", "20000", "--beam", "1"),
}
COMMAND = [sys.executable, "-c", "import sys; from nmt.commands.translate import main; sys.exit(main())"]
DISTURBING = ["<0x0A>", "<0x0D>", "<0x00>", "<0x85>", "<0x1B>", "<0x09>", "<0xE2>", "<0x80>", "<0xA8>", "<0xC2>"]


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = small_recipe(*SHORT)
    return write_folder(tmp_path_factory.mktemp("models") / "random", recipe, small_model(recipe))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    def run_(*arguments: str | Path, given: bytes) -> tuple[bytes, str]:
        (tmp_path / "in").write_bytes(given)
        files = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["nmt-translate", *map(str, arguments), *files, "--threads", "1"])
        assert translate.main() == 0
        return (tmp_path / "out").read_bytes(), capfd.readouterr().err

    return run_


def strange_lines(count: int) -> list[bytes]:
    """Random bytes of many kinds, without line feeds."""
    draw = random.Random(5)
    kinds: list[Callable[[int], bytes]] = [
        draw.randbytes,
        lambda size: bytes(draw.choices(range(32), k=size)),
        lambda size: bytes(draw.choices(b"\x80\xbf\xc2\xe2\xf0\xff\xa8\x85", k=size)),
        lambda size: " ".join(draw.choices(("the", "cat", "sat", "0", "é", "東", "😀"), k=size)).encode(),
        lambda size: "".join(draw.choices("\u2028\u2029\x85\u200b\ufeff\u202e\u3000 \t\x1c\x0b", k=size)).encode(),
        lambda size: b" " * size,
        lambda size: b"\xef\xbb\xbf" * size,
    ]
    lines = [draw.choice(kinds)(draw.randint(0, 10)).replace(b"\n", b"") for _ in range(count)]
    return [line + draw.choice((b"", b"\r")) for line in lines]


def harmless(text: str) -> bool:
    return all(unicodedata.category(letter) not in ("Cc", "Zl", "Zp") for letter in text)


def lines_of(out: bytes, mode: str) -> Iterator[tuple[int, str]]:
    """The number of the input line and the translation, of each line of output."""
    *lines, rest = out.decode().split("\n")
    assert rest == ""
    for index, line in enumerate(lines):
        if "json" in mode:
            record = json.loads(line)
            assert harmless(line)
            for translation in record["translations"]:
                assert {"truncated", "looped"} <= translation.keys()
                yield record["line"], translation["text"]
        elif mode == "n-best":
            number, text, score = re.fullmatch(r"(\d+) \|\|\| (.*) \|\|\| (-?\d+\.\d+)", line).groups()
            assert float(score) <= 0.0
            yield int(number), text
        elif mode == "scores":
            _, text, _ = line.split("\t")
            yield index, text
        else:
            yield index, line


@pytest.mark.parametrize("mode", MODES)
def test_every_line_of_any_bytes_gives_its_line(
    run: Run, random_model: Path, mode: str, amount: Callable[[int, int], int], promise: Callable[[str, str], None]
) -> None:
    lines = strange_lines(amount(200 if mode == "batches of one" else 1000, 10_000))
    out, _ = run(random_model, *MODES[mode], given=b"\n".join(lines) + b"\n")
    found = list(lines_of(out, mode))
    numbers = [number for number, _ in found]
    assert sorted(set(numbers)) == list(range(len(lines)))
    assert numbers == sorted(numbers)
    assert all(harmless(text) for _, text in found)
    if "best" not in mode:
        assert len(found) == len(lines)
    blank = {n for n, line in enumerate(lines) if not line.strip(b" \r")}
    assert blank
    assert all(text == "" for number, text in found if number in blank)
    promise(f"lines of random bytes, {mode}", f"{len(lines):,} lines in, {len(set(numbers)):,} out, in order")


@pytest.mark.parametrize("mode", ["greedy", "scores", "n-best", "json n-best"])
@pytest.mark.parametrize("pieces", [*DISTURBING[:6], DISTURBING])
def test_a_model_that_writes_line_ends_and_controls_writes_one_harmless_line(
    run: Run, tmp_path: Path, mode: str, pieces: str | list[str]
) -> None:
    recipe = small_recipe(*SHORT)
    model = fond_of(small_model(recipe), [pieces] if isinstance(pieces, str) else pieces, over_the_end=60.0)
    folder = write_folder(tmp_path / "model", recipe, model)
    out, err = run(folder, *MODES[mode], given=b"the cat sat\n\n0 1 2\n")
    found = list(lines_of(out, mode))
    assert sorted({number for number, _ in found}) == [0, 1, 2]
    assert all(harmless(text) for _, text in found)
    assert "line 1: reached the maximum length" in err


def test_json_tells_what_was_truncated_and_what_looped(run: Run, tmp_path: Path) -> None:
    recipe = small_recipe("search.max_length_extra=20")
    for pieces, looped, truncated in ((["<0x41>"], True, True), ([], False, False)):
        model = fond_of(small_model(recipe), pieces, over_the_end=5.0 if pieces else -20.0)
        folder = write_folder(tmp_path / f"fond-of-{len(pieces)}", recipe, model)
        out, err = run(folder, "--json", given=b"the cat sat\n" + b"0 " * (MAX_SOURCE_TOKENS + 1) + b"\n")
        short, long = (json.loads(line)["translations"][0] for line in out.splitlines())
        assert (short["looped"], short["truncated"]) == (looped, truncated)
        assert long["truncated"]
        assert ("line 1: the translation repeats itself" in err) == looped
        assert "line 2: reached the maximum length" in err


def test_the_time_and_length_of_very_long_lines_are_bounded(
    run: Run, random_model: Path, amount: Callable[[int, int], int], promise: Callable[[str, str], None]
) -> None:
    count = amount(1, 30)
    lines = [b"the " * 250_000, b"x" * 1_000_000, b"\x00\xff" * 500_000, b"0 1" + b" " * 1_000_000] * count
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    out, err = run(random_model, "--beam", "1", given=b"\n".join(lines))
    seconds = (time.monotonic() - began) / len(lines)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert out.count(b"\n") == len(lines)
    assert err.count("reached the maximum length") >= 3 * count
    assert seconds < 10.0
    assert grown < 500.0
    promise("lines of a megabyte", f"{len(lines)} lines, {seconds:.2f} s and at most {grown / len(lines):.1f} MB each")


def test_a_line_of_many_megabytes_is_not_kept() -> None:
    line = reading._Line(1000)
    line.add(b" " * 5000)
    for _ in range(1000):
        line.add(b"x" * 5000)
    assert bytes(line.kept) == b"x" * 1001
    line = reading._Line(1000)
    line.add(b"1")
    line.add(b" " * 5000)
    assert len(line.kept) == 1000
    line.add(b"2")
    line.add(b"3")
    assert bytes(line.kept) == b"1" + b" " * 999 + b"2"


def started(model: Path) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([*COMMAND, str(model), "--threads", "1"], stdin=pipe, stdout=pipe, stderr=pipe)


def test_a_reader_that_leaves_early_ends_it_quietly(random_model: Path) -> None:
    process = started(random_model)
    told: list[bytes] = []
    reader = threading.Thread(target=lambda: told.extend(process.stderr))  # or it would wait for room to warn in
    reader.start()
    process.stdin.write(b"the cat\n" * 600)
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    with contextlib.suppress(BrokenPipeError):
        for _ in range(10_000):
            process.stdin.write(b"a dog ran\n" * 100)
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE
    reader.join()
    assert b"Traceback" not in b"".join(told)
    for stream in (process.stdin, process.stderr):
        close(stream)


def test_a_writer_that_dies_in_the_middle_of_a_line_and_sigpipe_lose_no_line(random_model: Path) -> None:
    process = started(random_model)
    process.stdin.write(b"the cat\n")
    process.stdin.flush()
    first = process.stdout.readline()
    process.send_signal(signal.SIGPIPE)
    process.stdin.write(b"\nthe cat\nthe c")
    process.stdin.close()
    out = process.stdout.read()
    assert process.wait(timeout=60) == 0
    assert out.count(b"\n") == 3
    assert out.startswith(b"\n" + first)
    for stream in (process.stdout, process.stderr):
        close(stream)


def close(stream: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):  # what a buffer still holds has no reader
        stream.close()
