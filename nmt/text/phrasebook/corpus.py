"""The phrasebook as a corpus of a recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import Field

from nmt.text.corpus import Corpus, Pair
from nmt.text.phrasebook.phrasebook import pairs


class PhrasebookCorpus(Corpus):
    """The embedded English-French phrasebook: everyday sentences from a grammar, and idioms written by hand.

    `split`: train, valid, test (compositions never seen in training) or test_long (the same, long sentences, no
    idioms). `size`: only so many pairs. `direction`: en-fr or fr-en.
    """

    def __init__(
        self,
        *,
        split: Literal["train", "valid", "test", "test_long"] = "train",
        size: Annotated[int, Field(gt=0)] | None = None,
        direction: Literal["en-fr", "fr-en"] = "en-fr",
    ) -> None:
        self._split = split
        self._size = size
        self._direction = direction

    def pairs(self) -> Iterator[Pair]:
        """As `Corpus.pairs`."""
        for line, (english, french) in enumerate(pairs(self._split, size=self._size), 1):
            yield Pair(english, french, line) if self._direction == "en-fr" else Pair(french, english, line)

    def fingerprint(self) -> str:
        """A hash of the options and of every file that the pairs are made from."""
        digest = hashlib.sha256(repr((self._split, self._size, self._direction)).encode())
        folder = files("nmt.text.phrasebook")
        for place in (folder, folder / "lexicon", folder / "idioms"):
            for file in sorted(place.iterdir(), key=lambda file: file.name):
                if file.name.endswith((".py", ".tsv")):
                    digest.update(file.read_bytes())
        return digest.hexdigest()

    def check(self) -> None:
        """Nothing can be missing."""
