"""What a training tells while it runs: a bar or lines, metrics.jsonl, TensorBoard."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from nmt import checkpoints
from nmt.bounded import read_bounded, refuse_link
from nmt.errors import UserError, reason_of

Record = dict[str, Any]
"""A report, a validation or something that went wrong: `event`, `update` and what belongs to it."""

MAX_RECORDS = 1 << 28
"""Bytes of metrics.jsonl that are gone on from: a million records."""


class Progress:
    """Takes records: a bar on a terminal, else a JSON line each on stdout; always metrics.jsonl."""

    def __init__(self, run: Path, updates: int, start: int) -> None:
        self._path = run / "metrics.jsonl"
        self.seconds = self._keep_until(start)
        """Time spent training before `start`, as far as it was recorded."""
        self._bar: tqdm[Any] | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=updates, initial=start, unit="update", dynamic_ncols=True, smoothing=0.1)
        self._board = _tensorboard(run)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._board is not None:
            self._board.close()

    def advance(self) -> None:
        """An update is done."""
        if self._bar is not None:
            self._bar.update()

    def record(self, record: Record) -> None:
        """Keep a report or a validation, and show it."""
        self._keep(record)
        if self._bar is not None and record["event"] == "report":
            self._bar.set_postfix_str(_short(record))
        elif self._bar is not None:
            self._bar.write(_short(record), file=sys.stderr)
        if self._board is not None:
            for name, value in record.items():
                if isinstance(value, int | float) and name != "update":
                    self._board.add_scalar(f"{record['event']}/{name}", value, record["update"])

    def incident(self, record: Record, message: str) -> None:
        """Keep what went wrong as a record, and tell it in words."""
        self._keep(record)
        self.say(message)

    def _keep(self, record: Record) -> None:
        """A line of metrics.jsonl and, without a bar, of stdout; JSON has no NaN, so it becomes null."""
        numbers = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in record.items()}
        line = json.dumps(numbers, allow_nan=False)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self._bar is None:
            print(line, flush=True)

    def say(self, message: str) -> None:
        """A line for the person, on stderr."""
        if self._bar is not None:
            self._bar.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr, flush=True)

    def _keep_until(self, update: int) -> float:
        """Drop the records of updates that will be done again, and a line that was cut off; the last's seconds."""
        refuse_link(self._path)
        if not self._path.exists():
            return 0.0
        kept, seconds = [], 0.0
        for line in self._lines():
            try:
                record = json.loads(line)
                if record["update"] <= update:
                    kept.append(line + "\n")
                    seconds = float(record.get("seconds", seconds))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                continue
        checkpoints.write_text(self._path, "".join(kept))
        return seconds

    def _lines(self) -> list[str]:
        try:
            return read_bounded(self._path, MAX_RECORDS).decode(errors="replace").splitlines()
        except OSError as error:
            raise UserError(
                f"can't be gone on from ({reason_of(error)})", "move it away", place=str(self._path)
            ) from error


def _tensorboard(run: Path) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the extra isn't installed
        return None
    return SummaryWriter(str(run / "tensorboard"))


def _short(record: Record) -> str:
    parts = [f"{name} {value:.4g}" for name, value in record.items() if isinstance(value, float) and name != "seconds"]
    head = "" if record["event"] == "report" else f"update {record['update']} {record['event']}: "
    return head + ", ".join(parts)
