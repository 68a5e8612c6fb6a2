"""What the benchmarks share: taking turns, CPU seconds, processes with all their children, the machine, tables.

Times are CPU seconds (user and system): on one thread they hold still where other work shares the machine, which wall
time does not. Candidates take turns, so that a slow minute meets them all, and the first round warms up. Figures are
medians; ratios are medians of the ratios within a round, to the first candidate. Results are JSON lines, the machine
in each of them, and a Markdown table behind.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8", "asimd", "bf16")
"""Of the processor: those that decide how fast matrix products can be."""
SAMPLE_SECONDS = 0.5
Row = dict[str, object]


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Seconds of each candidate's call in each round, candidates taking turns; the first `warm_up` rounds don't count.

    On a GPU give the `clock` that waits for it: `clock_of("cuda")`.
    """
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + warm_up):
        for name, call in candidates.items():
            gc.collect()  # what one leaves behind is not paid for by the next
            began = clock()
            call()
            spent = clock() - began
            if number >= warm_up:
                taken[name].append(spent)
    return taken


def clock_of(device: str) -> Callable[[], float]:
    """CPU seconds; of a GPU wall time, read when it has done all that it was given."""
    if not device.startswith("cuda"):
        return time.process_time
    import torch

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


def medians(taken: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def ratios(taken: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median, over rounds, of each candidate's seconds over those of the first in the same round."""
    first = next(iter(taken.values()))
    return {
        name: statistics.median(own / base for own, base in zip(seconds, first, strict=True))
        for name, seconds in taken.items()
    }


@dataclass(frozen=True)
class Mark:
    """A line of a process's output, and what had been used when it came."""

    line: str
    wall_seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Ran:
    """A process that has ended, with all its children."""

    exit_code: int
    wall_seconds: float
    cpu_seconds: float
    peak_mebibytes: float
    """Of the processes together, memory that they share counted once (where the system tells)."""
    neighbours: float | None
    """Cores that everything else on the machine used meanwhile."""
    marks: tuple[Mark, ...] = field(repr=False)


def ran(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: Path | None = None,
    stdout: Path | None = None,
    folder: Path | None = None,
    marked: Callable[[str], bool] = lambda line: False,
    log: Path | None = None,
) -> Ran:
    """Run a command; its CPU seconds and memory are those of its whole tree of processes.

    Output goes to `stdout`, if given; the rest of it is read line by line and goes to `log`, and what is `marked`
    becomes a Mark. A line is also taken to end at a carriage return, as progress bars write it.
    """
    with (
        Neighbours() as neighbours,
        Path(stdin or os.devnull).open("rb") as source,
        Path(log or os.devnull).open("w", buffering=1, encoding="utf-8") as kept,
    ):
        began = time.perf_counter()
        process, lines = _started(command, environment, source, stdout, folder)
        memory = _Memory(process.pid)
        marks = []
        for line in _lines(lines):
            kept.write(f"{line}\n")
            if marked(line):
                marks.append(Mark(line, time.perf_counter() - began, cpu_seconds(process.pid)))
        lines.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall, cpu = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
        neighbours.own += cpu
    return Ran(process.returncode, wall, cpu, memory.peak() / 1024, neighbours.cores, tuple(marks))


def _started(
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None,
    source: IO[bytes],
    stdout: Path | None,
    folder: Path | None,
) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """The process, and the output that is read: all of it, or stderr where stdout goes to a file."""
    words = [str(word) for word in command]
    variables = {**os.environ, **(environment or {})}
    reading, writing = os.pipe()
    with contextlib.ExitStack() as stack:
        pipe = stack.enter_context(os.fdopen(writing, "wb"))
        file = stack.enter_context(stdout.open("wb")) if stdout else pipe
        process = subprocess.Popen(words, env=variables, stdin=source, stdout=file, stderr=pipe, cwd=folder)
    return process, os.fdopen(reading, "rb")


def _lines(file: IO[bytes]) -> Iterator[str]:
    for raw in file:
        yield from raw.decode("utf-8", "replace").replace("\r", "\n").splitlines()


def cpu_seconds(pid: int) -> float:
    """Of a process and all below it, those that have ended and been waited for included (Linux)."""
    ticks = sum(sum(map(int, fields[11:15])) for _, fields in _tree(pid))
    return ticks / os.sysconf("SC_CLK_TCK")


def _tree(pid: int) -> Iterator[tuple[int, list[str]]]:
    """A process and all below it, with the fields of its `stat` from the third on."""
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        process = Path(f"/proc/{current}")
        try:
            # The second field, the command in brackets, may hold blanks.
            yield current, (process / "stat").read_text().rpartition(")")[2].split()
            for task in (process / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:  # it has ended meanwhile
            continue


class _Memory:
    """Watches the memory of a tree of processes from a thread, until the first of them has ended."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak = pid, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def peak(self) -> int:
        """In KiB; ends the watch."""
        self._ended.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        began, pause = time.perf_counter(), 0.02
        while not self._ended.wait(pause):
            # A look costs time, too: seldom in a long run, often in the beginning.
            passed = time.perf_counter() - began
            pause = max(min(SAMPLE_SECONDS, passed / 4), passed / 50)
            # What n processes share counts one nth for each. Between two looks, the first one's own peak is known.
            together = sum(_kibibytes(pid, "smaps_rollup", "Pss:") for pid, _ in _tree(self._pid))
            self._peak = max(self._peak, together, _kibibytes(self._pid, "status", "VmHWM:"))


def _kibibytes(pid: int, file: str, name: str) -> int:
    """A line of a process's file in /proc; 0 where the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


class Neighbours:
    """How many cores everything but this process (and what is added to `own`) uses meanwhile; None where unknown."""

    def __enter__(self) -> Neighbours:
        self.own = 0.0
        self.cores: float | None = None
        self._began, self._busy, self._used = time.perf_counter(), _busy(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        wall, busy = time.perf_counter() - self._began, _busy()
        used = time.process_time() - self._used + self.own
        if busy is not None and self._busy is not None:
            self.cores = round(max(0.0, busy - self._busy - used) / max(wall, 1e-9), 2)


def _busy() -> float | None:
    """Seconds that all cores together have been busy since the machine started, where the system tells."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _, _, interrupt, soft, steal, *_ = map(int, path.read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + interrupt + soft + steal) / os.sysconf("SC_CLK_TCK")


def peak_mebibytes() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def machine() -> Row:
    """The processor, its cores and flags, the GPU if there is one, torch, and the precisions of nmt's own products."""
    import torch

    from nmt import native

    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    described: Row = {
        "processor": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "torch": torch.__version__,
        "products": [precision for precision in ("fp32", "bf16", "int8") if not native.missing(precision)],
    }
    if torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name()
    return described


def table(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str]) -> str:
    """Markdown: `columns` are keys of the rows and their headings; what a row hasn't is "not measured"."""
    lines = [f"| {' | '.join(columns.values())} |", f"|{' --- |' * len(columns)}"]
    lines += [f"| {' | '.join(_shown(row.get(key)) for key in columns)} |" for row in rows]
    return "\n".join(lines)


def _shown(value: object) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


class Results:
    """Rows as JSON lines on stdout and in a file as they come, with the machine; a table of them in the end."""

    def __init__(self, benchmark: str, arguments: argparse.Namespace) -> None:
        self._benchmark, self._machine = benchmark, machine()
        self._file: Path | None = arguments.results
        self._tables: bool = not arguments.json
        self.rows: list[Row] = []

    def add(self, row: Mapping[str, object]) -> None:
        self.rows.append(dict(row))
        found = {"benchmark": self._benchmark, **row, "machine": self._machine}
        line = json.dumps(found, ensure_ascii=False)
        print(line, flush=True)
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def show(self, columns: Mapping[str, str], rows: Sequence[Mapping[str, object]] | None = None) -> None:
        """The table of some rows, or of all, unless only JSON lines are wanted."""
        if self._tables:
            print(f"\n{table(self.rows if rows is None else rows, columns)}\n", flush=True)


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=5, help="turns of each candidate (default: %(default)s)")
    made.add_argument("--results", type=Path, metavar="FILE", help="append the JSON lines to this file too")
    made.add_argument("--json", action="store_true", help="JSON lines only, no tables")
    return made
