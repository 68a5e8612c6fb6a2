"""Sentence pairs in text files."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import Field

from nmt.errors import UserError
from nmt.text.corpus import Corpus, Pair
from nmt.text.lines import InvalidLines, InvalidUtf8, read_lines, same_length

Paths = str | tuple[str, ...]


class FilesCorpus(Corpus):
    """Plain, .gz or .xz text files: line n of a source file belongs to line n of its target file.

    `source` and `target` name a file each, or lists of as many files, paired in order. Or `tsv` names files with both
    sides in columns (`source_column`, `target_column`, counted from 1) with a tab between. `invalid_utf8`: error,
    replace (U+FFFD in the place of bad bytes) or skip (the pair is left out). `limit`: only so many pairs from the
    beginning. Lines of several files are counted on from one file to the next.
    """

    def __init__(
        self,
        *,
        source: Paths = (),
        target: Paths = (),
        tsv: Paths = (),
        source_column: Annotated[int, Field(gt=0)] = 1,
        target_column: Annotated[int, Field(gt=0)] = 2,
        invalid_utf8: InvalidUtf8 = "error",
        limit: Annotated[int, Field(gt=0)] | None = None,
    ) -> None:
        self._sources, self._targets, self._tables = _listed(source), _listed(target), _listed(tsv)
        self._columns = source_column, target_column
        self._invalid = invalid_utf8
        self._limit = limit
        self._counts = InvalidLines()
        if bool(self._tables) == bool(self._sources or self._targets):
            raise UserError("a files corpus has either source and target, or tsv", "give one of the two")
        if len(self._sources) != len(self._targets):
            problem = f"{len(self._sources)} source files for {len(self._targets)} target files"
            raise UserError(problem, "give as many of one as of the other")

    def pairs(self) -> Iterator[Pair]:
        """As `Corpus.pairs`."""
        self._counts = InvalidLines()
        for number, (source, target) in enumerate(islice(self._rows(), self._limit), 1):
            if source is not None and target is not None:
                yield Pair(source, target, number)

    def _rows(self) -> Iterator[tuple[str | None, str | None]]:
        for source, target in zip(self._sources, self._targets, strict=True):
            yield from same_length(self._lines(source), self._lines(target), source, target)
        for table in self._tables:
            yield from self._table_rows(table)

    def _table_rows(self, table: str) -> Iterator[tuple[str | None, str | None]]:
        needed = max(self._columns)
        for number, line in enumerate(self._lines(table), 1):
            cells = None if line is None else line.split("\t")
            if cells is not None and len(cells) < needed:
                problem = f"{len(cells)} columns, column {needed} is wanted"
                raise UserError(problem, "put a tab between the columns", place=f"{table}:{number}")
            yield (None, None) if cells is None else (cells[self._columns[0] - 1], cells[self._columns[1] - 1])

    def _lines(self, path: str) -> Iterator[str | None]:
        return read_lines(path, invalid=self._invalid, counts=self._counts)

    def fingerprint(self) -> str:
        """A hash of the files' bytes and the options."""
        digest = hashlib.sha256(repr((self._columns, self._invalid, self._limit, bool(self._tables))).encode())
        self.check()
        for path in self._files():
            with Path(path).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def check(self) -> None:
        """Every file must be there and open."""
        for path in self._files():
            check_file(path)

    def notes(self) -> list[str]:
        """Lines whose bytes were no UTF-8."""
        done = {"mended": self._counts.replaced, "left out": self._counts.skipped}
        return [f"{count:,} lines that are no valid UTF-8 were {what}" for what, count in done.items() if count]

    def _files(self) -> tuple[str, ...]:
        return (*self._sources, *self._targets, *self._tables)


def check_file(path: str) -> None:
    """Raise UserError where there is no file, or one that can't be opened, or a pipe, which can't be read twice."""
    try:
        mode = Path(path).stat().st_mode
        # Asked before it is opened: opening a pipe would wait for someone to write to it.
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            problem = "is no file but a pipe or a device, and a corpus is read several times"
            raise UserError(problem, "write it to a file first", place=path)
        with Path(path).open("rb"):
            pass
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
        raise UserError(f"can't be read ({reason})", "check the path", place=path) from error


def _listed(paths: Paths) -> tuple[str, ...]:
    return (paths,) if isinstance(paths, str) else tuple(paths)
