"""Translating in several processes, each with a model and threads of its own.

A worker is this module, started as a program with the command's options. It tells its parent that it is ready, and from
then on answers each request, some lines, with what is to be written for them. Requests and answers are JSON, one to a
line, over its stdin and stdout. It ends when its stdin does: where the parent was killed, after the request it is at.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any

from nmt.commands.command import run
from nmt.errors import RunError, UserError

Lines = tuple[int, list[str]]
"""The number of the first, from 0, and the lines."""
Answer = tuple[str, list[str]]
"""What is to be written for some lines, and what is to be told about them."""
Answering = Callable[[int, list[str]], Answer]
Task = tuple["Future[Answer]", Lines]

PROGRAM = ("-P", "-m", "nmt.commands.workers")
"""What the interpreter is started with."""
FEWEST = 16
"""Lines that a worker is given, if there are as many: fewer make poor batches."""
PATIENCE = 10.0
"""Seconds for a worker that has closed its output to end."""


@contextlib.contextmanager
def workers(arguments: argparse.Namespace, folder: Path) -> Iterator[Callable[[Iterable[Lines]], Iterator[Answer]]]:
    """As many workers as the options say, with the model in `folder`, until the context ends.

    Gives a function that answers lines in their order, up to two tasks a worker ahead of what is asked for. Raises
    UserError where the model can't be loaded, and RunError where a worker dies.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.ExitStack() as held:
            options = {**vars(arguments), "model": str(_pinned(folder, held)), "threads": arguments.threads or 1}
            started = [stack.enter_context(_started(options)) for _ in range(arguments.workers)]
            for worker in started:
                worker.wait_until_ready()
        tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        threads = [threading.Thread(target=_work, args=(worker, tasks), daemon=True) for worker in started]
        for thread in threads:
            thread.start()
        try:
            yield lambda portions: _answers(portions, tasks, 2 * len(started))
        finally:
            for worker in started:
                worker.kill()  # it has nothing to lose
                tasks.put(None)
            for thread in threads:
                thread.join()


def portions(windows: Iterable[list[str]], count: int) -> Iterator[Lines]:
    """The lines of each window in `count` parts, as far as none gets too small."""
    first = 0
    for window in windows:
        size = max(FEWEST, -(-len(window) // count))
        for start in range(0, len(window), size):
            yield first + start, window[start : start + size]
        first += len(window)


def _pinned(folder: Path, held: contextlib.ExitStack) -> Path:
    """The best checkpoint of a run as it is now, held: training may find a better one before all have loaded it."""
    from nmt.checkpoints import MODEL, reading_best

    return held.enter_context(reading_best(folder, MODEL)) if (folder / "recipe.yaml").is_file() else folder


def _answers(lines: Iterable[Lines], tasks: queue.SimpleQueue[Task | None], ahead: int) -> Iterator[Answer]:
    """Hand the lines out as they come, and give the answers in their order."""
    pending: queue.Queue[Future[Answer] | None] = queue.Queue(ahead)
    threading.Thread(target=_hand_out, args=(lines, tasks, pending), daemon=True).start()
    while (future := pending.get()) is not None:
        yield future.result()


def _hand_out(
    lines: Iterable[Lines], tasks: queue.SimpleQueue[Task | None], pending: queue.Queue[Future[Answer] | None]
) -> None:
    try:
        for portion in lines:
            future: Future[Answer] = Future()
            pending.put(future)
            tasks.put((future, portion))
    except Exception as error:  # whatever it is, the thread that waits must hear of it
        failed: Future[Answer] = Future()
        failed.set_exception(error)
        pending.put(failed)
    pending.put(None)


def _work(worker: _Worker, tasks: queue.SimpleQueue[Task | None]) -> None:
    while (task := tasks.get()) is not None:
        future, (first, lines) = task
        try:
            future.set_result(worker.ask(first, lines))
        except Exception as error:
            future.set_exception(error)


class _Worker:
    """A worker's process, seen by its parent."""

    def __init__(self, process: subprocess.Popen[bytes], requests: IO[bytes], answers: IO[bytes]) -> None:
        self._process = process
        self._requests = requests
        self._answers = answers

    def wait_until_ready(self) -> None:
        """Raise UserError where it isn't going to be."""
        self._read()

    def ask(self, first: int, lines: list[str]) -> Answer:
        """Have these lines answered."""
        with contextlib.suppress(BrokenPipeError):  # it has died, which reading tells better
            self._requests.write(json.dumps({"first": first, "lines": lines}).encode() + b"\n")
            self._requests.flush()
        answer = self._read()
        return answer["output"], answer["warnings"]

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def _read(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        if "problem" in answer:
            kind = RunError if answer["exit_code"] == RunError.exit_code else UserError
            raise kind(answer["problem"], answer["remedy"], place=answer["place"])
        return answer

    def _ended(self) -> RunError:
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return RunError("a worker closed its output")
        if code < 0:
            problem = f"a worker was killed by {signal.Signals(-code).name}"
            return RunError(problem, "if memory was short, use fewer --workers")
        return RunError(f"a worker ended too early, with exit code {code}")


@contextlib.contextmanager
def _started(options: Mapping[str, object]) -> Iterator[_Worker]:
    """A worker, which imports what this process would import, and hears nothing of the terminal's Ctrl-C."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    process = subprocess.Popen(
        [sys.executable, *PROGRAM, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        process_group=0,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield _Worker(process, process.stdin, process.stdout)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # a request that was not taken any more
                pipe.close()


# --- in the worker


def main() -> int:
    """A worker's program."""
    arguments = argparse.Namespace(**json.loads(sys.argv[1]))
    return run("nmt-translate", lambda: _serve(arguments), plugins=not arguments.no_plugins)


def _serve(arguments: argparse.Namespace) -> int:
    from nmt.commands.translate import answering

    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever else is printed must not stand among the answers
        try:
            answer = answering(arguments, Path(arguments.model))
            _say(answers, {"ready": True})
            for line in sys.stdin.buffer:
                request = json.loads(line)
                output, warnings = answer(request["first"], request["lines"])
                _say(answers, {"output": output, "warnings": warnings})
        except UserError as error:
            told = {"problem": error.problem, "remedy": error.remedy, "place": error.place}
            _say(answers, {**told, "exit_code": error.exit_code})
            return error.exit_code
    return 0


def _say(answers: IO[str], answer: Mapping[str, object]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main())
