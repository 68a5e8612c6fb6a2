"""Batches of token ids: cut from a length-sorted order, shuffled, the same for the same (seed, epoch, step)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmt import recipe
from nmt.text.store import Side, TokenStore
from nmt.text.tokenizer import Tokenizer, Tokenizers

Rows = npt.NDArray[np.int64]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Batch:
    """Sentence pairs as padded token ids."""

    source: Tensor
    """``[B, S]`` int64, each sentence with the end mark."""
    source_lengths: Tensor
    """``[B]`` int64, on the CPU, the end mark counted."""
    target: Tensor
    """``[B, T]`` int64, each sentence between the begin and end marks."""
    target_lengths: Tensor
    """``[B]`` int64, on the CPU, both marks counted."""
    lines: Rows
    """``[B]``: each pair's line in its corpus."""

    def to(self, device: torch.device) -> Batch:
        """The same with its tokens on `device`."""
        source, target = self.source.to(device, non_blocking=True), self.target.to(device, non_blocking=True)
        return Batch(source, self.source_lengths, target, self.target_lengths, self.lines)

    def pinned(self) -> Batch:
        """The same in page-locked memory, from where a GPU copies while the program goes on."""
        source, target = self.source.pin_memory(), self.target.pin_memory()
        lengths = self.source_lengths.pin_memory(), self.target_lengths.pin_memory()
        return Batch(source, lengths[0], target, lengths[1], self.lines)

    def split(self) -> tuple[Batch, Batch]:
        """Its first and its second half of sentences, each as wide as its own longest. For two sentences or more."""
        middle = len(self.lines) // 2
        return self._part(slice(None, middle)), self._part(slice(middle, None))

    def _part(self, rows: slice) -> Batch:
        source_lengths, target_lengths = self.source_lengths[rows], self.target_lengths[rows]
        source = self.source[rows, : int(source_lengths.max())]
        target = self.target[rows, : int(target_lengths.max())]
        return Batch(source, source_lengths, target, target_lengths, self.lines[rows])


class BatchPlan:
    """Which pairs make which batch in each epoch.

    Pairs are sorted by length, so that hardly any padding is needed; pairs of equal lengths change places from epoch to
    epoch, and the batches are shuffled. A batch has at most `tokens` tokens on its larger side, padding and marks
    counted (a longer single pair makes a batch of its own; subword sampling may exceed it), or `sentences` pairs.
    """

    def __init__(
        self,
        store: TokenStore,
        tokenizers: Tokenizers,
        *,
        tokens: int | None,
        sentences: int | None,
        seed: int,
        sampling: recipe.Sampling | None = None,
    ) -> None:
        self._store = store
        self._tokenizers = tokenizers
        self._seed = seed
        self._sampling = sampling
        # Pairs of equal lengths may change places without moving these bounds.
        self._bounds = _bounds(store, tokens, sentences or len(store))

    def __len__(self) -> int:
        """Batches of an epoch, the same for every epoch."""
        return len(self._bounds) + 1

    def epoch(self, epoch: int) -> list[Rows]:
        """The pairs of each batch of an epoch, in the order of training."""
        draw = np.random.default_rng([self._seed, epoch])
        batches = np.split(_by_length(self._store, draw.random(len(self._store))), self._bounds)
        return [batches[index] for index in draw.permutation(len(batches))]

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the step `start` on."""
        for step, rows in enumerate(self.epoch(epoch)[start:], start):
            if self._sampling is None:
                yield collate(self._store, self._tokenizers, rows)
            else:
                yield self._sampled(rows, self._sampling, epoch, step)

    def _sampled(self, rows: Rows, sampling: recipe.Sampling, epoch: int, step: int) -> Batch:
        seeds = np.random.default_rng([self._seed, epoch, step]).integers(2**31, size=2)
        source, target = (
            tokenizer.sample(side.texts(rows), sampling, int(seed))
            for tokenizer, side, seed in zip(
                (self._tokenizers.source, self._tokenizers.target),
                (self._store.source, self._store.target),
                seeds,
                strict=True,
            )
        )
        return _batch(_flat(source), _flat(target), self._tokenizers, self._store.lines[rows])


def ordered_batches(store: TokenStore, tokenizers: Tokenizers, *, tokens: int) -> Iterator[Batch]:
    """Every pair once, in order of length: for validation."""
    order = _by_length(store, np.arange(len(store)))
    for rows in np.split(order, _bounds(store, tokens, len(store))):
        yield collate(store, tokenizers, rows)


def collate(store: TokenStore, tokenizers: Tokenizers, rows: Rows) -> Batch:
    """The pairs of a store at the indices `rows` as a batch."""
    return _batch(_gather(store.source, rows), _gather(store.target, rows), tokenizers, store.lines[rows])


_Ragged = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Sentences one after the other in one array, and their lengths."""


def _gather(side: Side, rows: Rows) -> _Ragged:
    lengths = side.lengths[rows].astype(np.int64)
    # The position of every wanted token: each sentence's offset, and on from there.
    ends = np.cumsum(lengths)
    index = np.arange(ends[-1]) + np.repeat(side.offsets[rows] - (ends - lengths), lengths)
    return side.tokens[index].astype(np.int64), lengths


def _flat(sentences: list[list[int]]) -> _Ragged:
    lengths = np.array([len(ids) for ids in sentences], np.int64)
    return np.fromiter((token for ids in sentences for token in ids), np.int64, int(lengths.sum())), lengths


def _batch(source: _Ragged, target: _Ragged, tokenizers: Tokenizers, lines: npt.NDArray[np.generic]) -> Batch:
    source_tokens, source_lengths = _padded(source, tokenizers.source, begin=False)
    target_tokens, target_lengths = _padded(target, tokenizers.target, begin=True)
    return Batch(source_tokens, source_lengths, target_tokens, target_lengths, np.asarray(lines, np.int64))


def _padded(sentences: _Ragged, tokenizer: Tokenizer, *, begin: bool) -> tuple[Tensor, Tensor]:
    """``[B, T]`` with the end mark and, where asked for, the begin mark, and the lengths with them."""
    tokens, lengths = sentences
    first = int(begin)
    padded = np.full((len(lengths), int(lengths.max()) + first + 1), tokenizer.pad_id, np.int64)
    columns = np.arange(padded.shape[1])
    padded[(columns >= first) & (columns < first + lengths[:, None])] = tokens
    padded[np.arange(len(lengths)), first + lengths] = tokenizer.eos_id
    if begin:
        padded[:, 0] = tokenizer.bos_id
    return torch.from_numpy(padded), torch.from_numpy(lengths + first + 1)


def _widths(store: TokenStore) -> npt.NDArray[np.int32]:
    """``[N]``: the columns that each pair's larger side takes, marks counted."""
    return np.maximum(store.source.lengths + 1, store.target.lengths + 2)


def _by_length(store: TokenStore, ties: npt.NDArray[np.generic]) -> Rows:
    """The pairs in the order of their larger sides; where those are equal, of how much larger; then of `ties`.

    How much larger runs up and down by turns, so that neighbours are alike where the larger sides grow too. Against the
    order of (source, target) lengths that makes 3 % fewer batches of 1600 tokens from 29,000 captions, and 25 % fewer
    batches of 8192 tokens from 10,000 sentences of mixed kinds.
    """
    widths = _widths(store)
    difference = store.source.lengths - store.target.lengths
    return np.lexsort((ties, np.where(widths % 2 == 0, difference, -difference), widths))


def _bounds(store: TokenStore, tokens: int | None, sentences: int) -> list[int]:
    """Where to cut the pairs in the order of their lengths into batches of at most so many tokens and sentences."""
    widths = np.sort(_widths(store))
    bounds: list[int] = []
    start = 0
    while start < len(widths):
        count = sentences
        if tokens is not None:
            window = widths[start : start + min(sentences, max(1, tokens // int(widths[start])))]
            fits = window * np.arange(1, len(window) + 1) <= tokens
            count = min(sentences, max(1, int(fits.sum())))
        start += count
        bounds.append(start)
    return bounds[:-1]


@dataclass(frozen=True)
class _Ended:
    """What stands behind the last item: the error that ended them, if one did."""

    error: BaseException | None


def prefetch(items: Iterator[Item], depth: int = 2) -> Generator[Item, None, None]:
    """The same items, made up to `depth` ahead by a thread in the background; an error there is raised here."""
    ready: queue.Queue[Item | _Ended] = queue.Queue(depth)
    closed = threading.Event()
    thread = threading.Thread(target=_produce, args=(items, ready, closed), daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if not isinstance(item, _Ended):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                return
    finally:
        closed.set()
        thread.join()


def _produce(items: Iterator[Item], ready: queue.Queue[Item | _Ended], closed: threading.Event) -> None:
    """Put the items into the queue, and an _Ended behind them, until the reader has gone."""

    def offer(item: Item | _Ended) -> None:
        while not closed.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    ended = _Ended(None)
    try:
        for item in items:
            offer(item)
            if closed.is_set():
                return
    except BaseException as error:
        ended = _Ended(error)
    offer(ended)
