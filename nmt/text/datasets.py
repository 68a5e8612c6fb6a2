"""Sentence pairs through Hugging Face's `datasets`: from its hub, or from local csv, json lines and parquet files."""

from __future__ import annotations

import csv
import json
import os
import re
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from nmt.errors import UserError, did_you_mean
from nmt.text.corpus import Corpus, Pair
from nmt.text.lines import one_line

_BUILDERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}


class DatasetsCorpus(Corpus):
    """A split of a dataset.

    `path` is an id on the hub (``wmt/wmt14``), or a local .csv, .tsv, .jsonl, .json or .parquet file. `name` is the
    dataset's configuration (``fr-en``), `revision` a version on the hub. `source` and `target` are column names; a
    dot leads into a column of translations (``translation.en``). `limit`: only so many pairs from the beginning.
    Line ends within a field become spaces: a sentence is one line. Pairs are counted by their row, from 1.
    """

    def __init__(
        self,
        *,
        path: str,
        name: str | None = None,
        split: str = "train",
        revision: str | None = None,
        source: str = "translation.en",
        target: str = "translation.fr",
        limit: Annotated[int, Field(gt=0)] | None = None,
    ) -> None:
        self._path, self._name, self._split, self._revision = path, name, split, revision
        self._source, self._target = source, target
        self._limit = limit

    def pairs(self) -> Iterator[Pair]:
        """As `Corpus.pairs`."""
        for number, row in enumerate(self._rows(), 1):
            if self._limit is not None and number > self._limit:
                return
            yield Pair(self._text(row, self._source, number), self._text(row, self._target, number), number)

    def fingerprint(self) -> str:
        """The dataset's own fingerprint and the columns."""
        return repr((self._load()._fingerprint, self._source, self._target, self._limit))

    def check(self) -> None:
        """A local file must be there. A hub is not asked."""
        if self._is_file() and not Path(self._path).is_file():
            raise UserError("can't be read (no such file)", "check the path", place=self._path)

    def _is_file(self) -> bool:
        return Path(self._path).suffix in _BUILDERS

    def _load(self) -> Any:
        """The dataset, memory-mapped. Raises UserError where it can't be had."""
        self.check()
        offline = not self._is_file() and not _hub_has_a_name()
        if offline:
            os.environ["HF_HUB_OFFLINE"] = "1"  # otherwise each file is asked for six times, for 24 s
        import datasets
        import huggingface_hub

        if offline:  # and where they were imported before, they have read the environment already
            datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
        datasets.disable_progress_bars()
        datasets.logging.set_verbosity(datasets.logging.CRITICAL)
        try:
            if self._is_file():
                return self._load_file(datasets)
            return datasets.load_dataset(self._path, self._name, split=self._split, revision=self._revision)
        except Exception as error:  # the library raises whatever its backends do, so there is no closer net
            cause = error.__cause__ or error
            reason = str(cause).strip().splitlines() or ["no reason given"]
            problem = f"the dataset can't be loaded ({type(cause).__name__}: {reason[0]})"
            if self._is_file():
                raise _in_its_line(Path(self._path), problem) from error
            remedy = "check its path, name and split; a hub id needs the network, or a copy in the cache"
            raise UserError(problem, remedy, place=self._path) from error

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        """One after the other, as they are decoded. Raises UserError where the next can't be."""
        rows = iter(self._load())
        number = 0
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except UnicodeDecodeError as error:
                problem = f"no valid UTF-8 (byte 0x{error.object[error.start]:02x})"
                if self._is_file():
                    raise _in_its_line(Path(self._path), f"row {number + 1} holds {problem}") from error
                raise UserError(problem, "name another dataset", place=f"{self._path}:{number + 1}") from error
            number += 1
            yield row

    def _load_file(self, datasets: Any) -> Any:
        suffix = Path(self._path).suffix
        options: dict[str, Any] = {}
        if _BUILDERS[suffix] == "csv":
            with Path(self._path).open(encoding="utf-8-sig", newline="") as file:
                header = next(csv.reader(file, "excel-tab" if suffix == ".tsv" else "excel"), [])
            # Every cell is text: else "NA" and "null" become nothing, and "007" a number.
            options["features"] = datasets.Features({name: datasets.Value("string") for name in header})
            options["keep_default_na"] = False
        if suffix == ".tsv":
            options |= {"sep": "\t", "quoting": csv.QUOTE_NONE}  # a quotation mark is a character of the sentence
        files = {self._split.partition("[")[0]: self._path}
        return datasets.load_dataset(_BUILDERS[suffix], data_files=files, split=self._split, **options)

    def _text(self, row: Mapping[str, Any], column: str, number: int) -> str:
        value: Any = row
        for part in [column] if column in row else column.split("."):
            if not isinstance(value, Mapping) or part not in value:
                known = value.keys() if isinstance(value, Mapping) else ()
                raise UserError(f"no column {column!r}", did_you_mean(part, known), place=f"{self._path}:{number}")
            value = value[part]
        if value is None:
            return ""
        if not isinstance(value, str):
            problem = f"the column {column!r} holds {type(value).__name__}, not text"
            raise UserError(problem, "name a column of sentences", place=f"{self._path}:{number}")
        return one_line(value)


def _in_its_line(path: Path, problem: str) -> UserError:
    """The error for a local file that the library can't read: with the line that is wrong, if that can be told."""
    if path.suffix == ".parquet":
        return UserError(problem, "write it again", place=str(path))
    empty = True
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            place = f"{path}:{number}"
            empty = empty and not line.strip()
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if path.suffix == ".jsonl" and text.strip():
                    json.loads(text)
            except UnicodeDecodeError as error:
                found = f"no valid UTF-8 (byte 0x{line[error.start]:02x})"
                return UserError(found, "save the file as UTF-8", place=f"{place}:{error.start + 1}")
            except ValueError as error:
                return UserError(f"no JSON ({error})", "put one object on each line", place=place)
    if empty:
        return UserError("holds no rows", "look whether it was written to its end", place=str(path))
    line_told = re.search(r"\bline (\d+)", problem)  # as the reader of csv files does
    place = f"{path}:{line_told[1]}" if line_told else str(path)
    return UserError(problem, "mend the file, or check which split is asked for", place=place)


def _hub_has_a_name() -> bool:
    """Whether the hub's host can be looked up, or a proxy would do that."""
    host = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname
    try:
        return bool(urllib.request.getproxies()) or bool(socket.getaddrinfo(host, 443))
    except OSError:
        return False
