"""One reading of a set of pairs: numbers for what needs the whole set, findings for what a pair shows by itself."""

from __future__ import annotations

import functools
import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt

from nmt.text.inspection import marks
from nmt.text.inspection.scripts import main_script

Row = tuple[int, str | None, str | None]
"""A line's number in its set and what both sides have there; None behind the end of the shorter side."""

MAX_VOCABULARY = 500_000
"""Words that get a number, the first ones: it bounds the memory."""
MAX_WORDS = 24
"""Words of a line, the first ones, by which it is recognised."""
LONG = 2000
"""Characters of a line that are looked at for words."""

# Scripts that put no spaces between words: each of their letters stands for itself.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


@dataclass(frozen=True)
class Side:
    """One side of a set of N lines, in numbers."""

    words: npt.NDArray[np.int32]
    """The first words of all lines, one line after the other; -1 for a word without a number."""
    offsets: npt.NDArray[np.int64]
    """``[N + 1]``: where each line's words begin."""
    lengths: npt.NDArray[np.int32]
    """``[N]``, in characters."""
    keys: npt.NDArray[np.int64]
    """``[N]``: a hash of the words, case and punctuation left out; 0 for none."""
    scripts: npt.NDArray[np.int8]
    """``[N]``: the number of the script of most letters; 0 for none."""

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class Gathered:
    """A set of pairs in numbers: 58 bytes for a pair, and 4 for each of its first words."""

    source: Side
    target: Side
    lines: npt.NDArray[np.int64]
    """Each row's number in its corpus."""
    pairs: npt.NDArray[np.int64]
    """A hash of each pair as it stands, but for spaces at its ends."""
    found: dict[str, list[tuple[int, str]]]
    """What pairs showed by themselves: kind -> (row, what is wrong)."""

    def __len__(self) -> int:
        """Rows that have both sides."""
        return min(len(self.source), len(self.target))


class Numbers:
    """Words and scripts as numbers, the same for all sets."""

    def __init__(self) -> None:
        self._words: defaultdict[str, int] = defaultdict(count().__next__)
        self._scripts: dict[str, int] = {"": 0}

    def __len__(self) -> int:
        return len(self._words)

    def words(self) -> Callable[[str], int]:
        """From a word to its number; new words get one while there is room."""
        if len(self._words) < MAX_VOCABULARY:
            return self._words.__getitem__
        return functools.partial(_known, self._words)

    def script(self, text: str) -> int:
        """The number of the script of most letters."""
        return self._scripts.setdefault(main_script(text), min(len(self._scripts), 127))

    def script_names(self) -> list[str]:
        """The scripts by their numbers."""
        return [name.lower() for name in self._scripts]


def _known(words: defaultdict[str, int], word: str) -> int:
    return words.get(word, -1)


class _Filling:
    """A side as it grows."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._words, self._offsets = array("i"), array("q", [0])
        self._lengths, self._keys, self._scripts = array("i"), array("q"), array("b")

    def add(self, text: str) -> list[str]:
        """Take the next line; its words."""
        words = split_words(text)
        self._words.extend(map(self._numbers.words(), words[:MAX_WORDS]))
        self._offsets.append(len(self._words))
        self._lengths.append(len(text))
        # Python's hash is another in each process, which doesn't matter: keys are only compared with each other.
        self._keys.append(hash((*words, text[LONG:])) if words else 0)
        self._scripts.append(self._numbers.script(text))
        return words

    def done(self) -> Side:
        return Side(
            np.array(self._words, np.int32),
            np.array(self._offsets, np.int64),
            np.array(self._lengths, np.int32),
            np.array(self._keys, np.int64),
            np.array(self._scripts, np.int8),
        )


def split_words(text: str) -> list[str]:
    """The words of a line in small letters; each letter of a script without spaces is a word."""
    return _WORDS.findall(text[:LONG].lower())


def gather(rows: Iterable[Row], numbers: Numbers) -> Gathered:
    """Read a set once."""
    source_side, target_side = _Filling(numbers), _Filling(numbers)
    lines, pairs = array("q"), array("q")
    found: dict[str, list[tuple[int, str]]] = {}
    for row, (line, source, target) in enumerate(rows):
        lines.append(line)
        source, target = source and source.strip(" \t"), target and target.strip(" \t")
        source_words = [] if source is None else source_side.add(source)
        target_words = [] if target is None else target_side.add(target)
        if source is not None and target is not None:
            pairs.append(hash((source, target)))
            for kind, problem in _problems(source, target, source_words, target_words):
                found.setdefault(kind, []).append((row, problem))
    return Gathered(source_side.done(), target_side.done(), np.array(lines), np.array(pairs, np.int64), found)


def _problems(
    source: str, target: str, source_words: Sequence[str], target_words: Sequence[str]
) -> list[tuple[str, str]]:
    """What a pair shows by itself, by kind. A pair that says nothing has no other fault."""
    empty = marks.emptiness(source, target, source_words, target_words)
    if empty:
        return [("empty", empty)]
    problems = [
        ("markup", marks.markup(source, target)),
        ("copied", marks.copied(source, target, source_words, target_words)),
    ]
    for side, text in (("source", source), ("target", target)):
        for kind, problem in (("control", marks.controls(text)), ("encoding", marks.encoding(text))):
            problems.append((kind, problem and f"the {side}: {problem}"))
    once = {kind: problem for kind, problem in problems if problem}
    return list(once.items())
