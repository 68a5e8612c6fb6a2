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
    return tuple(adjective for adjective in adjectives() if classes & set(adjective.classes))


def _noun(random: Random, *classes: str) -> Noun:
    return _pick(random, _of_class(*classes))


def _subject(random: Random) -> Nominal:
    chance = random()
    if chance < 0.55:
        return nominal.pronoun(random)
    return nominal.name(random) if chance < 0.7 else _person(random)


def _third(random: Random) -> Nominal:
    return nominal.name(random) if random() < 0.35 else _person(random)


def _person(random: Random) -> Nominal:
    noun = _noun(random, "person")
    plural = random() < 0.2
    if {"kin", "relation"} & set(noun.classes):
        # One has a single father: parents have no plural.
        owner = _pick(random, ("my", "your", "his", "her", "our", "their"))
        return nominal.possessed(noun, owner, plural=plural and "parent" not in noun.classes)
    return nominal.definite(noun, plural=plural)


def _the_person(random: Random) -> Nominal:
    fitting = [noun for noun in _of_class("person") if "kin" not in noun.classes]
    return nominal.definite(_pick(random, fitting), plural=random() < 0.2)


def _the(random: Random, noun: Noun) -> Nominal:
    """Definite or possessed: something that a pronoun can stand for."""
    plural = random() < 0.2 and not noun.mass
    if "kin" in noun.classes or (random() < 0.3 and "place" not in noun.classes):
        owner = _pick(random, ("my", "your", "his", "her", "our", "their"))
        return nominal.possessed(noun, owner, plural=plural and "parent" not in noun.classes)
    return nominal.definite(noun, plural=plural)


def _thing(random: Random) -> Nominal:
    return _the(random, _noun(random, "thing", "clothing", "vehicle"))


def _verb_of(random: Random, frame: str) -> Verb:
    return _pick(random, _framed(frame))


def _verb_named(random: Random, infinitive: str) -> Verb:
    return next(verb for verb in verbs() if verb.french == infinitive)


def _accepting(random: Random, phrase: Nominal) -> Verb:
    """A verb that the phrase can be the object of."""
    classes = _classes(phrase.noun)
    return _pick(random, [verb for verb in _framed("object") if classes & set(verb.classes)])


def _adjective(random: Random, group: str) -> Adjective:
    return _pick(random, _said_of(frozenset({group})))


def _predicate(random: Random, phrase: Nominal) -> Adjective:
    """An adjective that can be said of the phrase."""
    return _pick(random, _said_of(_classes(phrase.noun)))


def _gradable(random: Random, phrase: Nominal) -> Adjective:
    """One of which there can be more or less."""
    fitting = _said_of(_classes(phrase.noun))
    return _pick(random, [adjective for adjective in fitting if not {"color", "absolute"} & set(adjective.classes)])


def _own(random: Random, subject: Nominal, verb: Verb) -> Nominal:
    return nominal.possessed(_countable(random, verb), nominal.owner_of(subject))


def _countable(random: Random, verb: Verb) -> Noun:
    fitting = [noun for noun in _of_class(*verb.classes) if not noun.mass and "place" not in noun.classes]
    return _pick(random, fitting or _of_class(*verb.classes))


def _place(random: Random, group: str) -> Nominal:
    return nominal.definite(_noun(random, group))


def _other_place(random: Random, phrase: Nominal) -> Nominal:
    return nominal.definite(_pick(random, [noun for noun in _of_class("building") if noun.french != phrase.noun]))


def _like(random: Random, phrase: Nominal) -> Nominal:
    """Another thing of the same sort."""
    sort = _classes(phrase.noun) - {"any", "buyable", "thing"}
    fitting = [noun for noun in nouns() if (sort or {"thing"}) & set(noun.classes) and noun.french != phrase.noun]
    return nominal.definite(_pick(random, fitting), plural=phrase.agreement.plural)


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


def _one(random: Random) -> Nominal:
    """A single person, pronouns included."""
    chance = random()
    if chance < 0.3:
        return _pick(random, [each for each in nominal.PRONOUNS if not each.agreement.plural])
    return nominal.name(random) if chance < 0.6 else _single_person(random)


def _single_person(random: Random) -> Nominal:
    return nominal.possessed(_noun(random, "kin"), _pick(random, ("my", "your", "his", "her", "our", "their")))


def _country(random: Random) -> Nominal:
    word = _pick(random, words()["country"])
    return nominal.fixed(replace(word, english=f"in {word.english}"))


def _pronoun(random: Random, forms: tuple[tuple[str, str, Agreement], ...]) -> Nominal:
    english, french, agreement = _pick(random, forms)
    return Nominal(english, french, agreement, "", human=True)


KINDS: dict[str, Callable[..., Slot]] = {
    "subject": _subject,
    "third": _third,
    "person": lambda random: _person(random),
    "person-or-name": _third,
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
    "np": lambda random, groups: nominal.draw(random, _noun(random, *groups.split("+"))),
    "counted": _counted,
    "like": _like,
    "frame": _verb_of,
    "verb": _verb_named,
    "person-verb": lambda random: _pick(random, [verb for verb in verbs() if "person" in verb.classes]),
    "accepts": _accepting,
    "of": lambda random, verb: nominal.draw(random, _noun(random, *verb.classes)),
    "definite-of": lambda random, verb: _the(random, _noun(random, *verb.classes)),
    "the-of": lambda random, verb: nominal.definite(_countable(random, verb), plural=random() < 0.25),
    "the-one-of": lambda random, verb: nominal.definite(_countable(random, verb)),
    "the": lambda random, verb: nominal.definite(_noun(random, *verb.classes)),
    "own": _own,
    "place": _place,
    "other-place": _other_place,
    "country": _country,
    "adjective": _adjective,
    "predicate": _predicate,
    "gradable": _gradable,
    "manner": lambda random: _pick(random, _noted("manner")),
    "task": lambda random: _pick(random, _noted("task")),
    "skill": lambda random: _pick(random, _noted("skill")),
    "word": lambda random, kind: _pick(random, words()[kind]),
}
"""Every kind of slot: from the source of randomness and its arguments (words, or variables drawn before)."""
