"""Lines from a file or a pipe, as soon as they have come."""

from __future__ import annotations

import codecs
import io
import queue
import select
import sys
import threading
from collections.abc import Iterator

from nmt.errors import UserError

PATIENCE = 0.02
"""Seconds to wait for a further line before beginning with those at hand."""


def opened(path: str | None) -> io.FileIO:
    """The input, unbuffered: a buffer's lock, held by the reading thread, would not let the process end on Ctrl-C."""
    try:
        if path is not None:
            return io.FileIO(path)
        if sys.stdin is None:
            raise UserError("stdin is closed", "open it, or give --input")
        return io.FileIO(sys.stdin.fileno(), closefd=False)
    except OSError as error:
        raise _unreadable(error, path) from error


def _unreadable(error: OSError, path: str | None) -> UserError:
    reason = (error.strerror or str(error)).lower()
    return UserError(f"can't be read ({reason})", "check the path", place=path or "stdin")


class _Line:
    """A line as it comes in. No more is kept of it than is looked at, so that a line of gigabytes takes no memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.kept = bytearray()

    def add(self, part: bytes) -> None:
        """Blanks at the beginning are left out. Behind the limit one byte is kept, which shows that there was more."""
        if not self.kept:
            part = part.lstrip(b" \t")
        room = max(0, self._limit - len(self.kept))
        self.kept += part[:room]
        if len(self.kept) == self._limit:
            self.kept += part[room:].lstrip(b" \t\r")[:1]


def _lines(file: io.FileIO, limit: int) -> Iterator[bytes]:
    """The lines of a file as soon as they have come, without their ends, cut behind `limit` bytes."""
    line, any_of_it = _Line(limit), False
    while (chunk := file.read(1 << 16)) != b"":
        if chunk is None:  # nothing yet, from a pipe that its owner has set not to wait
            select.select([file], [], [])
            continue
        first, *others = chunk.split(b"\n")
        line.add(first)
        for other in others:
            yield bytes(line.kept)
            line = _Line(limit)
            line.add(other)
        any_of_it = not chunk.endswith(b"\n")
    if any_of_it:
        yield bytes(line.kept)


def _read(
    lines: Iterator[bytes], path: str | None, waiting: queue.Queue[bytes | None], failed: list[Exception]
) -> None:
    """Put the lines and, when there are no more, None into `waiting`; what went wrong is then in `failed`."""
    try:
        for index, line in enumerate(lines):
            waiting.put(line.removeprefix(codecs.BOM_UTF8) if index == 0 else line)
    except OSError as error:
        failed.append(_unreadable(error, path))
    except Exception as error:  # whatever it is, the thread that waits must hear of it
        failed.append(error)
    waiting.put(None)


def windows(file: io.FileIO, path: str | None, size: int) -> Iterator[list[str]]:
    """The lines that have come, up to `size` at a time: a pipe's reader need not wait for the pipe to end."""
    from nmt.text.lines import MAX_SOURCE_CHARACTERS, decode_line

    waiting: queue.Queue[bytes | None] = queue.Queue(size)
    limit = 4 * (MAX_SOURCE_CHARACTERS + 1)  # a character has up to four bytes
    failures: list[Exception] = []
    threading.Thread(target=_read, args=(_lines(file, limit), path, waiting, failures), daemon=True).start()
    ended = False
    while not ended:
        window: list[str] = []
        raw = waiting.get()
        while raw is not None:
            window.append(decode_line(raw))
            if len(window) == size:
                break
            try:
                raw = waiting.get(timeout=PATIENCE)
            except queue.Empty:
                break
        ended = raw is None
        if window:
            yield window
    for error in failures:
        raise error
