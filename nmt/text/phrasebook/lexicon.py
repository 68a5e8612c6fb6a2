"""The words: what the tables in ``lexicon/`` hold."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from nmt.errors import UserError

FRAMES = (
    *("object", "state", "giving", "preferring", "having", "copula"),
    *("motion", "origin", "location", "interior", "residence", "entry", "alone"),
    *("modal", "skill", "saying", "telling", "hoping"),
)
"""What can stand with a verb; the head of verbs.tsv explains each."""


@dataclass(frozen=True)
class Noun:
    """A noun in both languages. `french` may begin with ``*``: an h (or y) that takes no elision."""

    english: str
    english_plural: str
    french: str
    feminine: bool
    french_plural: str
    classes: tuple[str, ...]

    @property
    def mass(self) -> bool:
        """Whether it can't be counted."""
        return "mass" in self.classes


@dataclass(frozen=True)
class Adjective:
    """An adjective in both languages, with its four French forms and the masculine before a vowel."""

    english: str
    comparative: str
    masculine: str
    feminine: str
    masculine_plural: str
    feminine_plural: str
    before_vowel: str
    place: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Verb:
    """A verb in both languages. `frame` says what stands with it, `classes` what its objects may be."""

    english: str
    past: str
    participle: str
    french: str
    auxiliary: str
    frame: str
    classes: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Irregular:
    """The forms of a French verb that no rule gives."""

    present: tuple[str, ...]
    imperfect: str
    future: str
    participle: str


@dataclass(frozen=True)
class Word:
    """A fixed expression in both languages."""

    english: str
    french: str
    note: str


def rows(name: str, columns: int) -> Iterator[tuple[str, list[str]]]:
    """``(file:line, cells)`` of a table; short rows are filled up with empty cells. Lines with ``#`` are comments."""
    path = files("nmt.text.phrasebook") / name
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        place = f"{name}:{number}"
        if len(cells) > columns or not cells[0]:
            raise UserError(f"{len(cells)} columns, not {columns}", "put one tab between columns", place=place)
        yield place, cells + [""] * (columns - len(cells))


def _one_of(place: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UserError(f"{value!r} is none of {', '.join(known)}", "choose one of them", place=place)
    return value


@functools.cache
def nouns() -> tuple[Noun, ...]:
    """Every noun."""
    found = []
    for place, (english, plural, french, gender, french_plural, classes) in rows("lexicon/nouns.tsv", 6):
        feminine = _one_of(place, gender, ("m", "f")) == "f"
        french_plural = french_plural or f"{french}s"
        found.append(Noun(english, plural or f"{english}s", french, feminine, french_plural, ("any", *classes.split())))
    return tuple(found)


@functools.cache
def adjectives() -> tuple[Adjective, ...]:
    """Every adjective; feminine and plural by rule where the table leaves them empty."""
    found = []
    for place, row in rows("lexicon/adjectives.tsv", 8):
        english, comparative, masculine, feminine, plural, vowel, where, classes = row
        _one_of(place, where, ("before", "after", "attribute", "predicate"))
        feminine = feminine or (masculine if masculine.endswith("e") else f"{masculine}e")
        plural = plural or (masculine if masculine.endswith(("s", "x")) else f"{masculine}s")
        feminine_plural = feminine if " " in feminine else f"{feminine}s"
        comparative = comparative or f"more {english}"
        found.append(
            Adjective(
                english,
                comparative,
                masculine,
                feminine,
                plural,
                feminine_plural,
                vowel or masculine,
                where,
                tuple(classes.split()),
            )
        )
    return tuple(found)


@functools.cache
def verbs() -> tuple[Verb, ...]:
    """Every verb."""
    found = []
    for place, row in rows("lexicon/verbs.tsv", 8):
        english, past, participle, french, auxiliary, frame, classes, notes = row
        _one_of(place, auxiliary, ("avoir", "être"))
        _one_of(place, frame, FRAMES)
        found.append(
            Verb(english, past, participle, french, auxiliary, frame, tuple(classes.split()), tuple(notes.split()))
        )
    return tuple(found)


@functools.cache
def irregular() -> dict[str, Irregular]:
    """The irregular French verbs by their infinitive."""
    found = {}
    for place, (infinitive, present, imperfect, future, participle) in rows("lexicon/irregular_verbs.tsv", 5):
        if len(present.split()) != 6:
            raise UserError("the present needs six forms", "je tu il nous vous ils", place=place)
        found[infinitive] = Irregular(tuple(present.split()), imperfect, future, participle)
    return found


@functools.cache
def words() -> dict[str, tuple[Word, ...]]:
    """The fixed expressions by their kind."""
    found: dict[str, list[Word]] = {}
    for _, (kind, english, french, note) in rows("lexicon/words.tsv", 4):
        found.setdefault(kind, []).append(Word(english, french, note))
    return {kind: tuple(entries) for kind, entries in found.items()}
