"""Digits to copy, reverse or sort: made up, endless, and solved by any model that is put together rightly."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from nmt.errors import UserError
from nmt.text.corpus import Corpus, Pair

Positive = Annotated[int, Field(gt=0)]


class DigitsCorpus(Corpus):
    """Sequences of digits, and the same sequences copied, reversed or sorted.

    `task`: copy, reverse or sort. `pairs`: how many. `shortest`, `longest`: digits in a sequence. `seed`: another one
    gives other sequences; with sequences long enough, sets of different seeds have next to nothing in common.
    """

    def __init__(
        self,
        *,
        task: Literal["copy", "reverse", "sort"] = "copy",
        pairs: Positive = 4000,
        shortest: Positive = 3,
        longest: Positive = 10,
        seed: Annotated[int, Field(ge=0)] = 1,
    ) -> None:
        if shortest > longest:
            raise UserError(f"shortest is {shortest}, longest is {longest}", "make longest the larger one")
        self._options = (task, pairs, shortest, longest, seed)

    def pairs(self) -> Iterator[Pair]:
        """As `Corpus.pairs`."""
        task, pairs, shortest, longest, seed = self._options
        draw = random.Random(seed).random
        for number in range(1, pairs + 1):
            length = shortest + int(draw() * (longest - shortest + 1))
            source = [str(int(draw() * 10)) for _ in range(length)]
            target = {"copy": source, "reverse": source[::-1], "sort": sorted(source)}[task]
            yield Pair(" ".join(source), " ".join(target), number)

    def fingerprint(self) -> str:
        """The options."""
        return repr(self._options)

    def check(self) -> None:
        """Nothing can be missing."""
