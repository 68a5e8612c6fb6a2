"""Sentence pairs as tokens in memory-mapped files, so that memory doesn't grow with the corpus."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from nmt.errors import RunError, UserError
from nmt.text.cache import PARTIAL, STORE, cache_folder, forget_unused, mark_used
from nmt.text.corpus import Corpus, Pair
from nmt.text.tokenizer import Tokenizers

Number = TypeVar("Number", bound=np.generic)

FORMAT = 2
CHUNK = 4096
"""Pairs encoded at a time."""


@dataclass
class Counts:
    """Pairs that a store was built from."""

    kept: int = 0
    empty: int = 0
    """Left out because a side was empty."""
    too_long: int = 0
    """Left out because a side had more tokens than `max_length`."""

    def __str__(self) -> str:
        left_out = [f"{self.empty:,} with an empty side"] * bool(self.empty)
        left_out += [f"{self.too_long:,} too long"] * bool(self.too_long)
        return f"{self.kept:,} pairs" + (f", left out {' and '.join(left_out)}" if left_out else "")


class Side:
    """One side of a store: each sentence's tokens, without marks, in one flat array."""

    def __init__(self, folder: Path, name: str, vocab_size: int) -> None:
        self.tokens = _mapped(folder / f"{name}.tokens", _token_type(vocab_size))
        self.offsets: npt.NDArray[np.int64] = _mapped(folder / f"{name}.offsets", np.dtype(np.int64))
        """Where each sentence begins, and the end of the last."""
        self.lengths = np.diff(self.offsets).astype(np.int32)
        """``[N]``"""
        text = folder / f"{name}.text"
        self._text = _mapped(text, np.dtype(np.uint8)) if text.exists() else None
        self._text_offsets = _mapped(folder / f"{name}.text.offsets", np.dtype(np.int64)) if text.exists() else None

    def texts(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """The sentences themselves, of a store that keeps them."""
        assert self._text is not None and self._text_offsets is not None
        bounds = zip(self._text_offsets[rows], self._text_offsets[rows + 1], strict=True)
        return [self._text[start:end].tobytes().decode("utf-8") for start, end in bounds]


class TokenStore:
    """Encoded sentence pairs on disk, read through the page cache."""

    def __init__(self, folder: Path) -> None:
        described = json.loads((folder / "store.json").read_text())
        for name, size in described["sizes"].items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{name} is not as large as it was written")
        self.source = Side(folder, "source", described["source_vocab_size"])
        self.target = Side(folder, "target", described["target_vocab_size"])
        self.lines = _mapped(folder / "lines", np.dtype(np.int64))
        """``[N]``: each pair's line in its corpus."""
        self.counts = Counts(**described["counts"])
        self.notes: list[str] = described["notes"]
        """What the corpus had to say when it was read."""

    def __len__(self) -> int:
        return len(self.lines)


def build_store(
    corpus: Corpus, tokenizers: Tokenizers, *, max_length: int | None, keep_text: bool, say: Callable[[str], None]
) -> TokenStore:
    """The corpus as tokens: from the cache where the same has been encoded before, else encoded now.

    Pairs with an empty side are left out, and pairs with a side of more than `max_length` tokens; both are counted.
    `keep_text` keeps the sentences too, for subword sampling. Raises UserError where no pair is left.
    """
    parts = (FORMAT, corpus.fingerprint(), tokenizers.source.fingerprint(), tokenizers.target.fingerprint())
    key = hashlib.sha256(repr((*parts, max_length, keep_text)).encode()).hexdigest()[:32]
    folder = cache_folder() / key
    store = _opened(folder)
    if store is None:
        forget_unused(folder.parent)  # first, for that may make the room that is needed
        store = _built(folder, corpus, tokenizers, max_length, keep_text)
    mark_used(folder)
    for note in store.notes:
        say(note)
    if store.counts.empty or store.counts.too_long:
        say(str(store.counts))
    return store


def _opened(folder: Path) -> TokenStore | None:
    """The store in the cache, or None where there is none or it is damaged."""
    try:
        return TokenStore(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _built(folder: Path, corpus: Corpus, tokenizers: Tokenizers, max_length: int | None, keep_text: bool) -> TokenStore:
    """The store, made in a temporary folder that then takes its name."""
    try:
        with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder.parent) as temporary:
            made = Path(temporary) / STORE
            made.mkdir()
            _write(made, corpus, tokenizers, max_length, keep_text)
            shutil.rmtree(folder, ignore_errors=True)
            try:
                made.rename(folder)
            except OSError:
                # Another run made the same at the same time, and was faster.
                if _opened(folder) is None:
                    raise
        return TokenStore(folder)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        remedy = "make room, or set NMT_CACHE to another folder"
        raise RunError(f"the encoded corpus can't be written ({reason})", remedy, place=str(folder)) from error


class _SideWriter:
    """Appends sentences to one side's files."""

    def __init__(self, folder: Path, name: str, vocab_size: int, keep_text: bool, files: ExitStack) -> None:
        self._type = _token_type(vocab_size)
        self._tokens = files.enter_context((folder / f"{name}.tokens").open("wb"))
        self._offsets = _Offsets(folder / f"{name}.offsets", files)
        self._keep_text = keep_text
        if keep_text:
            self._text = files.enter_context((folder / f"{name}.text").open("wb"))
            self._text_offsets = _Offsets(folder / f"{name}.text.offsets", files)

    def append(self, ids: Sequence[Sequence[int]], texts: Sequence[str]) -> None:
        self._tokens.write(np.fromiter(chain.from_iterable(ids), self._type).tobytes())
        self._offsets.add([len(each) for each in ids])
        if self._keep_text:
            encoded = [text.encode() for text in texts]
            self._text.write(b"".join(encoded))
            self._text_offsets.add([len(each) for each in encoded])


class _Offsets:
    """Running sums, beginning with 0, written as they come."""

    def __init__(self, path: Path, files: ExitStack) -> None:
        self._file = files.enter_context(path.open("wb"))
        self._last = 0
        self._file.write(array("q", [0]).tobytes())

    def add(self, lengths: Sequence[int]) -> None:
        sums = self._last + np.cumsum(np.array(lengths, np.int64))
        self._last = int(sums[-1])
        self._file.write(sums.tobytes())


def _write(folder: Path, corpus: Corpus, tokenizers: Tokenizers, max_length: int | None, keep_text: bool) -> None:
    counts = Counts()
    with ExitStack() as files:
        lines = files.enter_context((folder / "lines").open("wb"))
        source = _SideWriter(folder, "source", tokenizers.source.vocab_size, keep_text, files)
        target = _SideWriter(folder, "target", tokenizers.target.vocab_size, keep_text, files)
        bar = files.enter_context(tqdm(unit=" pairs", desc="encoding", disable=None, leave=False))
        for pairs in _chunks(corpus.pairs()):
            kept = _encoded(pairs, tokenizers, max_length, counts)
            if kept:
                source.append([ids for _, ids, _ in kept], [pair.source for pair, _, _ in kept])
                target.append([ids for _, _, ids in kept], [pair.target for pair, _, _ in kept])
                lines.write(array("q", [pair.line for pair, _, _ in kept]).tobytes())
            bar.update(len(pairs))
    if not counts.kept:
        raise UserError(f"the corpus has no usable pair ({counts})", "look at its files and data.max_length")
    described = {
        "source_vocab_size": tokenizers.source.vocab_size,
        "target_vocab_size": tokenizers.target.vocab_size,
        "counts": asdict(counts),
        "notes": corpus.notes(),
        "sizes": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    }
    (folder / "store.json").write_text(json.dumps(described) + "\n")


def _encoded(
    pairs: Sequence[Pair], tokenizers: Tokenizers, max_length: int | None, counts: Counts
) -> list[tuple[Pair, list[int], list[int]]]:
    """The pairs that are kept with the tokens of both sides, counted."""
    full = [pair for pair in pairs if pair.source.strip() and pair.target.strip()]
    source_ids = tokenizers.source.encode_many([pair.source for pair in full])
    target_ids = tokenizers.target.encode_many([pair.target for pair in full])
    # A side of nothing but spaces of some exotic kind has text but no tokens: it is empty as well.
    rows = [row for row in zip(full, source_ids, target_ids, strict=True) if row[1] and row[2]]
    kept = [row for row in rows if max_length is None or max(len(row[1]), len(row[2])) <= max_length]
    counts.empty += len(pairs) - len(rows)
    counts.too_long += len(rows) - len(kept)
    counts.kept += len(kept)
    return kept


def _chunks(pairs: Iterator[Pair]) -> Iterator[list[Pair]]:
    while chunk := list(islice(pairs, CHUNK)):
        yield chunk


def _token_type(vocab_size: int) -> np.dtype[np.generic]:
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.int32)


def _mapped(path: Path, dtype: np.dtype[Number]) -> npt.NDArray[Number]:
    return np.memmap(path, dtype, mode="r")
