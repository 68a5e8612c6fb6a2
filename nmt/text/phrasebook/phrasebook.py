"""The splits of the phrasebook: the same pairs everywhere and always."""

from __future__ import annotations

import functools
import hashlib
import random
from dataclasses import dataclass, field
from importlib.resources import files

from nmt.errors import UserError, did_you_mean
from nmt.text.phrasebook.grammar import sentence
from nmt.text.phrasebook.lexicon import rows
from nmt.text.phrasebook.nominal import Composition

SIZES = {"train": 32_000, "valid": 500, "test": 1_000, "test_long": 500}
"""Pairs of each split."""
LONG_WORDS = 14
"""English words that a pair of test_long has at least."""
HELD_OUT = 6
"""Of a hundred compositions, how many are kept out of training."""

SentencePair = tuple[str, str]


@dataclass
class _Splits:
    pairs: dict[str, list[SentencePair]] = field(default_factory=lambda: {name: [] for name in SIZES})
    english: set[str] = field(default_factory=set)
    french: dict[str, bool] = field(default_factory=dict)
    """Each French sentence, and whether it is in training."""

    def full(self, name: str) -> bool:
        return len(self.pairs[name]) >= SIZES[name]

    def add(self, name: str, pair: SentencePair) -> None:
        self.pairs[name].append(pair)
        self.english.add(pair[0].lower())
        self.french[pair[1]] = name == "train"


def pairs(split: str, *, size: int | None = None) -> list[SentencePair]:
    """The (English, French) pairs of a split, or its first `size`. Raises UserError where there are no such ones."""
    if split not in SIZES:
        raise UserError(f"the phrasebook has no split {split!r}", did_you_mean(split, SIZES))
    available = _splits()[split]
    if size is not None and size > len(available):
        raise UserError(f"the phrasebook's {split} has {len(available):,} pairs, not {size:,}", "ask for fewer")
    return available[:size]


@functools.cache
def _splits() -> dict[str, list[SentencePair]]:
    """Every split. Pairs with a held-out composition are never trained on; idioms are always."""
    splits = _Splits()
    for pair in idioms():
        if pair[0].lower() not in splits.english:
            splits.add("train", pair)
    # random() alone is the same on every version of Python, so nothing else of it is used.
    draw = random.Random(20).random
    while not all(splits.full(name) for name in SIZES):
        english, french, compositions = sentence(draw, "long" if draw() < 0.2 else "sentence")
        if english.lower() in splits.english:
            continue
        unseen = any(held_out(composition) for composition in compositions)
        # A French sentence may have two English ones, but not on both sides of the line.
        if splits.french.get(french, not unseen) == unseen:
            continue
        name = _split_of(english, unseen, splits)
        if not splits.full(name):
            splits.add(name, (english, french))
    _shuffle(splits.pairs["train"])
    return splits.pairs


def _split_of(english: str, unseen: bool, splits: _Splits) -> str:
    if not unseen:
        return "train"
    if len(english.split()) >= LONG_WORDS:
        return "test_long"
    return "valid" if not splits.full("valid") and _hash(english) % 3 == 0 else "test"


def held_out(composition: Composition) -> bool:
    """Whether a composition is kept out of training."""
    return _hash("\t".join(composition)) % 100 < HELD_OUT


def idioms() -> list[SentencePair]:
    """The hand-written pairs of all topics, in the order of the topics' names."""
    folder = files("nmt.text.phrasebook") / "idioms"
    names = sorted(topic.name for topic in folder.iterdir() if topic.name.endswith(".tsv"))
    return [(cells[0], cells[1]) for name in names for _, cells in rows(f"idioms/{name}", 2)]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _shuffle(items: list[SentencePair]) -> None:
    """Fisher and Yates, from random() alone."""
    draw = random.Random(21).random
    for last in range(len(items) - 1, 0, -1):
        other = int(draw() * (last + 1))
        items[last], items[other] = items[other], items[last]
