"""Where an inspection's lines come from: two files, whatever state they are in, or a recipe's corpora."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import zip_longest

from nmt.recipe_file import read_recipe
from nmt.registry import CORPUS
from nmt.text.corpus import Corpus
from nmt.text.files import check_file
from nmt.text.inspection.gathering import Row
from nmt.text.inspection.inspection import PairSet
from nmt.text.lines import InvalidLines, read_lines

EXCERPT = 80
"""Characters of a line that are shown."""


def files_as_set(source: str, target: str) -> PairSet:
    """Two files, of one length or not; bytes that are no UTF-8 are read as U+FFFD. Raises UserError for no file."""
    for path in (source, target):
        check_file(path)

    def rows() -> Iterator[Row]:
        counts = InvalidLines()
        sides = (read_lines(path, invalid="replace", counts=counts) for path in (source, target))
        for line, (one, other) in enumerate(zip_longest(*sides), 1):
            yield line, one, other

    return PairSet(source, rows)


def recipe_as_sets(path: str) -> list[PairSet]:
    """The sets of a recipe, read as training reads them, the training set first. Raises UserError as that does."""
    data = read_recipe(path).data
    choices = {"train": data.train, "valid": data.valid, "test": data.test}
    sets = []
    for name, choice in choices.items():
        if choice is not None:
            corpus = choice.build(CORPUS)
            corpus.check()
            sets.append(PairSet(name, functools.partial(_rows, corpus)))
    return sets


def excerpts(pair_set: PairSet, lines: Iterable[int]) -> dict[int, tuple[str, str]]:
    """What stands in some lines of a set, each side cut short and safe to print."""
    wanted, found = set(lines), {}
    for line, source, target in pair_set.rows() if wanted else ():
        if line in wanted:
            wanted.remove(line)
            found[line] = (excerpt(source or ""), excerpt(target or ""))
            if not wanted:
                break
    return found


def excerpt(text: str) -> str:
    """The beginning of a line; what would not be seen, or would disturb a terminal, is written as its code."""
    shown = "".join(letter if _is_seen(letter) else f"\\u{ord(letter):04x}" for letter in text[:EXCERPT])
    return shown + "…" * (len(text) > EXCERPT)


def _is_seen(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"


def _rows(corpus: Corpus) -> Iterator[Row]:
    return ((pair.line, pair.source, pair.target) for pair in corpus.pairs())
