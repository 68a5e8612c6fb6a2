"""The contract of a corpus: where sentence pairs come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """A sentence and its translation; `line` says where they stand in their corpus, counted from 1."""

    source: str
    target: str
    line: int


class Corpus(ABC):
    """Sentence pairs in a fixed order. Keyword-only parameters of a subclass's constructor are the recipe's options."""

    @abstractmethod
    def pairs(self) -> Iterator[Pair]:
        """Every pair, one at a time; what has an empty side is given too. Raises UserError for bad data."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Text that is another whenever the pairs are: what caches go by."""

    @abstractmethod
    def check(self) -> None:
        """Raise UserError for what can be seen to be missing without reading everything."""

    def notes(self) -> list[str]:
        """What was done to the lines read so far (bytes replaced, lines left out), for people to know."""
        return []
