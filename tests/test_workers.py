"""nmt-translate --workers: what several processes write is what one would, and how they end."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nmt.commands import translate, workers
from nmt.commands.workers import portions

TRANSLATE = "import sys; from nmt.commands.translate import main; sys.exit(main())"

STAND_IN = """\
import json, os, sys, time
options = json.loads(sys.argv[1])
refused = {"problem": "no such thing", "remedy": "take another", "place": "here", "exit_code": 2}
print(json.dumps(refused if options["model"] == "refused" else {"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "die" in request["lines"]:
        os.kill(os.getpid(), 9)
    if "exit" in request["lines"]:
        sys.exit(3)
    time.sleep(0.05 * (request["first"] % 32 == 0))
    numbered = enumerate(request["lines"], request["first"])
    answer = {"output": "".join(f"{index} {text}\\n" for index, text in numbered), "warnings": []}
    print(json.dumps(refused if "refuse" in request["lines"] else answer), flush=True)
"""
"""A worker that loads nothing and gives each line back with its number, every other portion late."""
WITH_STAND_INS = f"from nmt.commands import workers; workers.PROGRAM = ('-c', {STAND_IN!r}); {TRANSLATE}"

Start = Callable[..., subprocess.Popen]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """`nmt-translate` over pipes, under way."""
    started = []

    def start_(code: str, *arguments: object) -> subprocess.Popen:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, **pipes))
        return started[-1]

    yield start_
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """`nmt-translate --workers 2` in this process, with stand-ins: its exit code, its output and its complaints."""
    monkeypatch.setattr(workers, "PROGRAM", ("-c", STAND_IN))
    monkeypatch.chdir(tmp_path)

    def run_(lines: list[str], *arguments: str, model: str = "model") -> tuple[int, str, str]:
        Path("given").write_text("".join(f"{line}\n" for line in lines))
        options = ("--workers", "2", "--input", "given", *arguments)
        monkeypatch.setattr(sys, "argv", ["nmt-translate", model, *options])
        code = translate.main()
        return code, *capfd.readouterr()

    return run_


def rounded(value: object) -> object:
    """What JSON holds, with some room for the last bits of its numbers."""
    if isinstance(value, float):
        return pytest.approx(value, abs=1e-5)
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def test_workers_write_what_one_process_writes(start: Start, copier: Path) -> None:
    """Output, numbers of lines and warnings, over several portions."""
    draw = random.Random(3)
    lines = [" ".join(str(draw.randrange(10)) for _ in range(draw.randint(0, 9))) for _ in range(60)]
    lines[50] = f"1 2{' ' * 70_000}3"  # cut, which stderr tells with the line's number
    given = "".join(f"{line}\n" for line in lines).encode() + b"\xff 7\n1 2"  # no UTF-8; no end
    options = (copier, "--json", "--alignments", "--n-best", 2, "--beam", 2, "--threads", 1)
    processes = [start(TRANSLATE, *options), start(TRANSLATE, *options, "--workers", 2)]
    for process in processes:
        process.stdin.write(given)
        process.stdin.close()
    outputs, told = zip(*((process.stdout.read(), process.stderr.read()) for process in processes), strict=True)
    assert [process.wait(timeout=30) for process in processes] == [0, 0]
    assert told[0] == told[1] == b"nmt-translate: line 51: reached the maximum length, the rest is missing\n"
    one, two = ([json.loads(line) for line in output.splitlines()] for output in outputs)
    assert [record["line"] for record in two] == list(range(62))
    assert two == rounded(one)


def test_lines_are_dealt_evenly_and_never_in_tiny_portions() -> None:
    def dealt(*windows: int, count: int) -> list[tuple[int, int]]:
        given = (["x"] * window for window in windows)
        return [(first, len(lines)) for first, lines in portions(given, count)]

    assert dealt(1000, 3, count=4) == [(0, 250), (250, 250), (500, 250), (750, 250), (1000, 3)]
    assert dealt(40, count=4) == [(0, 16), (16, 16), (32, 8)]
    assert dealt(512, 100, count=1) == [(0, 512), (512, 100)]
    assert dealt(count=2) == []


def test_answers_come_in_the_order_of_lines_whoever_is_faster(run: Run) -> None:
    lines = [f"line {index}" for index in range(3000)]
    code, out, err = run(lines)
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"{index} line {index}" for index in range(3000)]
    assert run([]) == (0, "", "")


@pytest.mark.parametrize(
    ("line", "code", "problem"),
    [
        ("die", 1, "a worker was killed by SIGKILL; if memory was short, use fewer --workers"),
        ("exit", 1, "a worker ended too early, with exit code 3"),
        ("refuse", 2, "here: no such thing; take another"),
    ],
)
def test_a_worker_that_fails_is_one_line_and_leaves_no_output(run: Run, line: str, code: int, problem: str) -> None:
    lines = [*map(str, range(2000)), line, "more"]
    assert run(lines, "--output", "out") == (code, "", f"nmt-translate: {problem}\n")
    assert [path.name for path in Path().iterdir()] == ["given"]


def test_what_workers_refuse_to_begin_with_is_told_once(run: Run) -> None:
    told = "nmt-translate: here: no such thing; take another\n"
    assert run(["1 2"], "--output", "out", model="refused") == (2, "", told)
    assert not Path("out").exists()


def test_an_input_that_fails_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(io.FileIO):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(io, "FileIO", Failing)
    assert run(["1 2"]) == (2, "", "nmt-translate: given: can't be read (input/output error); check the path\n")


def answered(process: subprocess.Popen, line: str) -> str:
    """What comes for one line, before there is another."""
    process.stdin.write(f"{line}\n".encode())
    process.stdin.flush()
    return process.stdout.readline().decode()


def workers_of(process: subprocess.Popen) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("the system doesn't tell a process's children")
    return [int(pid) for pid in children.read_text().split()]


def gone(pids: list[int]) -> bool:
    """Whether they all end within some seconds."""
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def leave(process: subprocess.Popen) -> None:
    """Read no more of its output, and give it another line."""
    process.stdout.close()
    process.stdin.write(b"more\n")
    process.stdin.flush()


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda process: process.stdin.close(), 0),
        (leave, 141),
        (lambda process: process.send_signal(signal.SIGINT), 130),
        (lambda process: process.kill(), -9),
    ],
    ids=["end of input", "nobody reads", "Ctrl-C", "killed"],
)
def test_output_comes_at_once_and_no_worker_outlives_its_parent(
    start: Start, end: Callable[[subprocess.Popen], object], code: int
) -> None:
    process = start(WITH_STAND_INS, "model", "--workers", 2)
    assert answered(process, "a") == "0 a\n"
    assert answered(process, "") == "1 \n"
    pids = workers_of(process)
    assert len(pids) == 2
    assert [os.getpgid(pid) for pid in pids] == pids  # a terminal's Ctrl-C reaches the parent alone
    end(process)
    assert process.wait(timeout=30) == code
    assert process.stderr.read() == b""
    assert gone(pids)
