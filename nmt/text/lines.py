"""What a line is, and reading files of lines.

A line ends at ``\\n`` and nowhere else: U+2028, U+0085, ``\\v``, ``\\f`` and their like are characters of the line, as
they are for every tool that counts lines. A carriage return before the end and a byte order mark at the file's
beginning are taken off.
"""

from __future__ import annotations

import gzip
import lzma
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nmt.errors import UserError

InvalidUtf8 = Literal["error", "replace", "skip"]
"""What to do with bytes that are no UTF-8: refuse the file, put U+FFFD in their place, or leave the line out."""

MAX_SOURCE_TOKENS = 1024
"""A longer sentence is cut here when it is translated, and its translation says so."""

MAX_SOURCE_CHARACTERS = 64 * MAX_SOURCE_TOKENS
"""Likewise, before it is looked at at all: the time and memory of splitting it into tokens are bounded too."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass
class InvalidLines:
    """How many lines had bytes that are no UTF-8 and were mended, or left out."""

    replaced: int = 0
    skipped: int = 0


def read_lines(path: str | Path, *, invalid: InvalidUtf8, counts: InvalidLines) -> Iterator[str | None]:
    """The lines of a plain, .gz or .xz file, one at a time; None for a line that is left out.

    Raises UserError where the file can't be read, is damaged, or (with `invalid` "error") holds other bytes than UTF-8:
    ``file:line:byte``, the byte counted from 1 within its line.
    """
    for number, raw in enumerate(_raw_lines(Path(path)), 1):
        try:
            yield raw.decode("utf-8")
        except UnicodeDecodeError as error:
            if invalid == "error":
                raise UserError(
                    f"no valid UTF-8 (byte 0x{raw[error.start]:02x})",
                    "save the file as UTF-8, or set invalid_utf8 to replace or skip",
                    place=f"{path}:{number}:{error.start + 1}",
                ) from error
            if invalid == "skip":
                counts.skipped += 1
                yield None
            else:
                counts.replaced += 1
                yield raw.decode("utf-8", errors="replace")


def _raw_lines(path: Path) -> Iterator[bytes]:
    try:
        with _opened(path) as file:
            for index, line in enumerate(file):
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                yield line.removeprefix(_BYTE_ORDER_MARK) if index == 0 else line
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise UserError(f"damaged ({error})", "fetch or pack it again", place=str(path)) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"can't be read ({reason})", "check the path", place=str(path)) from error


def _opened(path: Path) -> AbstractContextManager[Iterable[bytes]]:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    if path.suffix == ".xz":
        return lzma.open(path, "rb")
    return path.open("rb")


def decode_line(raw: bytes) -> str:
    """A line that was read as bytes, its end taken off; bytes that are no UTF-8 become U+FFFD."""
    return raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", errors="replace")


def one_line(text: str) -> str:
    """`text` without anything that could end or disturb a line: controls and line separators become single spaces."""
    if text.isprintable():
        return text
    return "".join(" " if disturbs_a_line(letter) else letter for letter in text)


def disturbs_a_line(letter: str) -> bool:
    """Whether a character is a control or a line separator."""
    return unicodedata.category(letter) in ("Cc", "Zl", "Zp")


def same_length(
    sources: Iterable[str | None], targets: Iterable[str | None], source_path: str | Path, target_path: str | Path
) -> Iterator[tuple[str | None, str | None]]:
    """Line n of both sides together.

    Raises UserError at the end of the shorter side, naming the other's first surplus line and both counts.
    """
    source_lines, target_lines = iter(sources), iter(targets)
    number = 0
    while True:
        source, target = next(source_lines, _END), next(target_lines, _END)
        if isinstance(source, _End) or isinstance(target, _End):
            break
        number += 1
        yield source, target
    if not (isinstance(source, _End) and isinstance(target, _End)):
        longer, shorter = (source_path, target_path) if isinstance(target, _End) else (target_path, source_path)
        total = number + 1 + sum(1 for _ in (source_lines if longer is source_path else target_lines))
        raise UserError(
            f"has no counterpart: {longer} has {total:,} lines, {shorter} has {number:,}",
            "line n of both must belong together; nmt-data check finds where they part",
            place=f"{longer}:{number + 1}",
        )


class _End:
    """What stands behind the last line."""


_END = _End()
