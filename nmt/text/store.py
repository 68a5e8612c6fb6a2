"""Sentence pairs as tokens in memory-mapped files, so that memory doesn't grow with the corpus."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from nmt.errors import UserError
from nmt.text.corpus import Corpus, Pair
from nmt.text.tokenizer import Tokenizers

Number = TypeVar("Number", bound=np.generic)

FORMAT = 1
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
        self.source = Side(folder, "source", described["source_vocab_size"])
        self.target = Side(folder, "target", described["target_vocab_size"])
        self.lines = _mapped(folder / "lines", np.dtype(np.int64))
        """``[N]``: each pair's line in its corpus."""
        self.counts = Counts(**described["counts"])
        if not len(self.lines) == len(self.source.lengths) == len(self.target.lengths) == self.counts.kept:
            raise ValueError("the files' sizes don't fit each other")

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
        temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
        try:
            _write(temporary, corpus, tokenizers, max_length, keep_text)
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        store = TokenStore(folder)
        for note in corpus.notes():
            say(note)
    if store.counts.empty or store.counts.too_long:
        say(str(store.counts))
    return store


def cache_folder() -> Path:
    """``$NMT_CACHE``, else ``nmt`` in the user's cache; a temporary folder where that can't be written to."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "nmt"
    wanted = Path(os.environ["NMT_CACHE"]) if os.environ.get("NMT_CACHE") else default
    for folder in (wanted, Path(tempfile.gettempdir()) / f"nmt-cache-{os.getuid()}"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise UserError("no folder for the cache can be written to", "set NMT_CACHE to one", place=str(wanted))


def _opened(folder: Path) -> TokenStore | None:
    """The store in the cache, or None where there is none or it is damaged."""
    try:
        return TokenStore(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None


class _SideWriter:
    """Appends sentences to one side's files."""

    def __init__(self, folder: Path, name: str, vocab_size: int, keep_text: bool) -> None:
        self._type = _token_type(vocab_size)
        self._tokens = (folder / f"{name}.tokens").open("wb")
        self._offsets = _Offsets((folder / f"{name}.offsets").open("wb"))
        self._text = (folder / f"{name}.text").open("wb") if keep_text else None
        self._text_offsets = _Offsets((folder / f"{name}.text.offsets").open("wb")) if keep_text else None

    def append(self, ids: Sequence[Sequence[int]], texts: Sequence[str]) -> None:
        self._tokens.write(np.concatenate([np.asarray(each, self._type) for each in ids]).tobytes())
        self._offsets.add(len(each) for each in ids)
        if self._text is not None and self._text_offsets is not None:
            encoded = [text.encode() for text in texts]
            self._text.write(b"".join(encoded))
            self._text_offsets.add(len(each) for each in encoded)

    def close(self) -> None:
        self._tokens.close()
        self._offsets.close()
        if self._text is not None and self._text_offsets is not None:
            self._text.close()
            self._text_offsets.close()


class _Offsets:
    """Running sums, beginning with 0, written as they come."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._last = 0
        self._file.write(array("q", [0]).tobytes())

    def add(self, lengths: Iterable[int]) -> None:
        sums = self._last + np.cumsum(np.fromiter(lengths, np.int64))
        self._last = int(sums[-1])
        self._file.write(sums.tobytes())

    def close(self) -> None:
        self._file.close()


def _write(folder: Path, corpus: Corpus, tokenizers: Tokenizers, max_length: int | None, keep_text: bool) -> None:
    counts = Counts()
    source = _SideWriter(folder, "source", tokenizers.source.vocab_size, keep_text)
    target = _SideWriter(folder, "target", tokenizers.target.vocab_size, keep_text)
    with (folder / "lines").open("wb") as lines, tqdm(unit=" pairs", desc="encoding", disable=None, leave=False) as bar:
        for pairs in _chunks(corpus.pairs()):
            bar.update(len(pairs))
            full = [pair for pair in pairs if pair.source.strip() and pair.target.strip()]
            source_ids = tokenizers.source.encode_many([pair.source for pair in full])
            target_ids = tokenizers.target.encode_many([pair.target for pair in full])
            # A side of nothing but spaces of some exotic kind has text but no tokens: it is empty as well.
            rows = [i for i in range(len(full)) if source_ids[i] and target_ids[i]]
            longest = max_length or max((len(ids) for ids in source_ids + target_ids), default=0)
            kept = [i for i in rows if len(source_ids[i]) <= longest and len(target_ids[i]) <= longest]
            counts.empty += len(pairs) - len(rows)
            counts.too_long += len(rows) - len(kept)
            counts.kept += len(kept)
            if kept:
                source.append([source_ids[i] for i in kept], [full[i].source for i in kept])
                target.append([target_ids[i] for i in kept], [full[i].target for i in kept])
                lines.write(array("q", [full[i].line for i in kept]).tobytes())
    source.close()
    target.close()
    if not counts.kept:
        raise UserError(f"the corpus has no usable pair ({counts})", "look at its files and data.max_length")
    sizes = {"source_vocab_size": tokenizers.source.vocab_size, "target_vocab_size": tokenizers.target.vocab_size}
    (folder / "store.json").write_text(json.dumps({**sizes, "counts": asdict(counts)}) + "\n")


def _chunks(pairs: Iterator[Pair]) -> Iterator[list[Pair]]:
    while chunk := list(islice(pairs, CHUNK)):
        yield chunk


def _token_type(vocab_size: int) -> np.dtype[np.generic]:
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.int32)


def _mapped(path: Path, dtype: np.dtype[Number]) -> npt.NDArray[Number]:
    return np.memmap(path, dtype, mode="r")
