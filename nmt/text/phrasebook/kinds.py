"""What a slot of a pattern can be filled with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from nmt.errors import UserError
from nmt.text.phrasebook import nominal
from nmt.text.phrasebook.french import Agreement
from nmt.text.phrasebook.lexicon import Adjective, Noun, Verb, Word, adjectives, nouns, verbs, words
from nmt.text.phrasebook.nominal import Composition, Nominal, Random

Item = TypeVar("Item")


@dataclass(frozen=True)
class Clause:
    """Part of a sentence in both languages, its words not yet joined."""

    english: str
    french: str
    compositions: tuple[Composition, ...]


Slot = Nominal | Verb | Adjective | Word | Clause

_INDIRECT = (
    ("me", "me°", Agreement(0, False, False)),
    ("you", "vous", Agreement(4, False, False)),
    ("him", "lui", Agreement(2, False, False)),
    ("her", "lui", Agreement(2, True, False)),
    ("us", "nous", Agreement(3, False, True)),
    ("them", "leur", Agreement(5, False, True)),
)
_DIRECT = tuple(
    (english, {"him": "le°", "her": "la°", "them": "les°"}.get(english, french), agreement)
    for english, french, agreement in _INDIRECT
)


def _pick(random: Random, items: Sequence[Item]) -> Item:
    if not items:
        raise UserError("nothing in the lexicon can fill a slot of patterns.tsv", "add a word of its class")
    return items[int(random() * len(items))]


@functools.cache
def _of_class(*classes: str) -> tuple[Noun, ...]:
    """The nouns of any of these classes; a noun's English word is a class of its own."""
    return tuple(noun for noun in nouns() if set(classes) & {*noun.classes, noun.english})


@functools.cache
def _classes(french: str) -> frozenset[str]:
    """The classes of a noun; an empty word stands for a person."""
    return next((frozenset(noun.classes) for noun in nouns() if noun.french == french), frozenset({"person"}))


@functools.cache
def _framed(frame: str) -> tuple[Verb, ...]:
    return tuple(verb for verb in verbs() if verb.frame == frame)


@functools.cache
def _noted(note: str) -> tuple[Verb, ...]:
    return tuple(verb for verb in verbs() if note in verb.notes)


@functools.cache
def _said_of(classes: frozenset[str]) -> tuple[Adjective, ...]:
    said = (adjective for adjective in adjectives() if adjective.place != "attribute")
    return tuple(adjective for adjective in said if classes & set(adjective.classes))


def _noun(random: Random, *classes: str) -> Noun:
    return _pick(random, _of_class(*classes))


def _subject(random: Random) -> Nominal:
    chance = random()
    if chance < 0.55:
        return nominal.pronoun(random)
    return nominal.name(random) if chance < 0.7 else _person(random)


def _other(random: Random) -> Nominal:
    """Someone whom one asks about: neither I nor we."""
    chance = random()
    if chance < 0.4:
        return _pick(random, [each for each in nominal.PRONOUNS if each.agreement.person not in (0, 3)])
    return nominal.name(random) if chance < 0.65 else _person(random)


def _third(random: Random) -> Nominal:
    return nominal.name(random) if random() < 0.35 else _person(random)


def _unlike(random: Random, phrase: Nominal) -> Nominal:
    """Someone else."""
    drawn = _third(random)
    while drawn.english == phrase.english:
        drawn = _third(random)
    return drawn


def _person(random: Random) -> Nominal:
    noun = _noun(random, "person")
    plural = random() < 0.2 and nominal.plural_is_usual(noun)
    possible = nominal.owners(noun)
    return (
        nominal.possessed(noun, _pick(random, possible), plural=plural)
        if possible
        else nominal.definite(noun, plural=plural)
    )


def _the_person(random: Random) -> Nominal:
    fitting = [noun for noun in _of_class("person") if "kin" not in noun.classes]
    return nominal.definite(_pick(random, fitting), plural=random() < 0.2)


def _the(random: Random, noun: Noun) -> Nominal:
    """Definite or possessed: something that a pronoun can stand for."""
    plural = random() < 0.2 and nominal.plural_is_usual(noun)
    possible = nominal.owners(noun)
    if "kin" in noun.classes or (possible and random() < 0.3):
        return nominal.possessed(noun, _pick(random, possible), plural=plural)
    return nominal.definite(noun, plural=plural)


def _thing(random: Random, *groups: str) -> Nominal:
    return _the(random, _noun(random, *(groups or ("thing", "clothing", "vehicle"))))


@functools.cache
def _owning() -> tuple[Verb, ...]:
    """The verbs some of whose objects everyone can own."""
    return tuple(
        verb
        for verb in _framed("object")
        if any(len(nominal.owners(noun)) == 6 and not noun.mass for noun in _of_class(*verb.classes))
    )


def _verb_of(random: Random, frame: str) -> Verb:
    return _pick(random, _framed(frame))


def _verb_named(random: Random, infinitive: str) -> Verb:
    return next(verb for verb in verbs() if verb.french == infinitive)


def _adjective(random: Random, group: str) -> Adjective:
    return _pick(random, _said_of(frozenset({group})))


def _predicate(random: Random, phrase: Nominal) -> Adjective:
    """An adjective that can be said of the phrase."""
    return _pick(random, _said_of(_classes(phrase.noun)))


@functools.cache
def _gradables(one: str, other: str) -> tuple[Adjective, ...]:
    """The adjectives by which two nouns can be compared: of which there can be more or less."""
    fitting = _said_of(_classes(one) & _classes(other))
    return tuple(adjective for adjective in fitting if not {"color", "absolute"} & set(adjective.classes))


@functools.cache
def _comparable(french: str) -> tuple[Noun, ...]:
    return tuple(noun for noun in nouns() if noun.french != french and _gradables(french, noun.french))


def _like(random: Random, phrase: Nominal) -> Nominal:
    """Another thing that it can be compared with."""
    return nominal.definite(_pick(random, _comparable(phrase.noun)), plural=phrase.agreement.plural)


def _own(random: Random, subject: Nominal, verb: Verb) -> Nominal:
    owner = nominal.owner_of(subject)
    fitting = [noun for noun in _of_class(*verb.classes) if not noun.mass and owner in nominal.owners(noun)]
    return nominal.possessed(_pick(random, fitting), owner)


def _countable(random: Random, verb: Verb) -> Noun:
    """One of several that the verb's object could be: the letter that I read."""
    fitting = [noun for noun in _of_class(*verb.classes) if not noun.mass and not {"place", "kin"} & set(noun.classes)]
    return _pick(random, fitting or _of_class(*verb.classes))


def _place(random: Random, group: str) -> Nominal:
    return nominal.definite(_noun(random, group))


def _another(random: Random, group: str, phrase: Nominal) -> Nominal:
    """A noun of the class that is not the phrase's."""
    return nominal.definite(_pick(random, [noun for noun in _of_class(group) if noun.french != phrase.noun]))


def _counted(random: Random, group: str) -> Nominal:
    noun = _pick(random, [noun for noun in _of_class(group) if "parent" not in noun.classes])
    agreement = Agreement(5, noun.feminine, True)
    return Nominal(noun.english_plural, noun.french_plural, agreement, noun.french)


def _job(random: Random) -> Nominal:
    noun = _pick(random, [noun for noun in _of_class("job") if not noun.feminine])
    return Nominal(noun.english, noun.french, Agreement(2, False, False), noun.french)


def _man(random: Random) -> Nominal:
    word = _pick(random, [word for word in words()["name"] if word.note == "m"])
    return Nominal(word.english, word.french, Agreement(2, False, False), "", human=True)


def _one(random: Random, group: str) -> Nominal:
    """A single person, pronouns included."""
    chance = random()
    if chance < 0.3:
        return _pick(random, [each for each in nominal.PRONOUNS if not each.agreement.plural])
    if chance < 0.6:
        return nominal.name(random)
    noun = _noun(random, group)
    return nominal.possessed(noun, _pick(random, nominal.owners(noun)))


def _country(random: Random) -> Nominal:
    word = _pick(random, words()["country"])
    return nominal.fixed(replace(word, english=f"in {word.english}"))


def _pronoun(random: Random, forms: tuple[tuple[str, str, Agreement], ...]) -> Nominal:
    english, french, agreement = _pick(random, forms)
    return Nominal(english, french, agreement, "", human=True)


KINDS: dict[str, Callable[..., Slot]] = {
    "subject": _subject,
    "other": _other,
    "third": _third,
    "you": lambda random: nominal.PRONOUNS[1],
    "person": lambda random: _person(random),
    "person-or-name": _third,
    "unlike": _unlike,
    "the-person": _the_person,
    "who": lambda random: Nominal("who", "qui", Agreement(2, False, False), ""),
    "singular-person": _one,
    "man-name": _man,
    "job": _job,
    "me": lambda random: _pronoun(random, _DIRECT),
    "recipient": lambda random: _pronoun(random, _INDIRECT),
    "thing": _thing,
    "thing-scheduled": lambda random: nominal.definite(_noun(random, "scheduled")),
    "singular": lambda random, group: nominal.definite(_noun(random, group)),
    "serving": lambda random, groups: nominal.serving(random, _noun(random, *groups.split("+"))),
    "counted": _counted,
    "like": _like,
    "frame": _verb_of,
    "verb": _verb_named,
    "noted": lambda random, note: _pick(random, _noted(note)),
    "person-verb": lambda random, frame: _pick(random, [v for v in _framed(frame) if "person" in v.classes]),
    "of": lambda random, verb: nominal.draw(random, _noun(random, *verb.classes)),
    "definite-of": lambda random, verb: _the(random, _noun(random, *verb.classes)),
    "the-of": lambda random, verb: nominal.definite(_countable(random, verb), plural=random() < 0.25),
    "the-one-of": lambda random, verb: nominal.definite(_countable(random, verb)),
    "the": lambda random, verb: nominal.definite(_noun(random, *verb.classes)),
    "owning": lambda random: _pick(random, _owning()),
    "own": _own,
    "place": _place,
    "another": _another,
    "country": _country,
    "adjective": _adjective,
    "predicate": _predicate,
    "gradable": lambda random, one, other: _pick(random, _gradables(one.noun, other.noun)),
    "word": lambda random, kind: _pick(random, words()[kind]),
}
"""Every kind of slot: from the source of randomness and its arguments (words, or variables drawn before)."""
