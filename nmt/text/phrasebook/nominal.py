"""Noun phrases in both languages: determiners, numbers, adjectives, pronouns."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from nmt.text.phrasebook.french import Agreement, agree, starts_with_vowel
from nmt.text.phrasebook.lexicon import Adjective, Noun, Word, adjectives, words

Random = Callable[[], float]
Composition = tuple[str, str]
"""Two words that stand in a construction: an adjective and its noun, a verb and its object."""


@dataclass(frozen=True)
class Nominal:
    """Something that can be a subject or an object, as text in both languages."""

    english: str
    french: str
    agreement: Agreement
    noun: str
    """The French noun, what a composition is made with; empty for pronouns and names."""
    english_any: str = ""
    """As the object of a negation, where that is different: any bread."""
    french_any: str = ""
    """As the object of a negation, where that is different: de pain."""
    compositions: tuple[Composition, ...] = ()
    human: bool = False

    def pronoun_object(self) -> tuple[str, str]:
        """The object pronoun that stands for it: it / le."""
        if self.agreement.plural:
            return "them", "les°"
        if not self.human:
            return "it", "la°" if self.agreement.feminine else "le°"
        return ("her", "la°") if self.agreement.feminine else ("him", "le°")

    def pronoun_subject(self) -> Nominal:
        """The subject pronoun that stands for it: it / il."""
        feminine = self.agreement.feminine
        french = ("elles" if feminine else "ils") if self.agreement.plural else ("elle" if feminine else "il")
        one = ("she" if feminine else "he") if self.human else "it"
        return Nominal("they" if self.agreement.plural else one, french, self.agreement, "", human=self.human)


PRONOUNS = (
    Nominal("I", "je", Agreement(0, False, False), "", human=True),
    Nominal("you", "vous", Agreement(4, False, False), "", human=True),
    Nominal("he", "il", Agreement(2, False, False), "", human=True),
    Nominal("she", "elle", Agreement(2, True, False), "", human=True),
    Nominal("we", "nous", Agreement(3, False, True), "", human=True),
    Nominal("they", "ils", Agreement(5, False, True), "", human=True),
)

# English, then before a masculine, a feminine and a plural noun in French.
_POSSESSIVES = {
    "my": ("mon", "ma", "mes"),
    "your": ("votre", "votre", "vos"),
    "his": ("son", "sa", "ses"),
    "her": ("son", "sa", "ses"),
    "our": ("notre", "notre", "nos"),
    "their": ("leur", "leur", "leurs"),
}
_DEFINITE = ("le", "la", "les")
_INDEFINITE = ("un", "une", "des")
_DEMONSTRATIVE = ("ce", "cette", "ces")


def pronoun(random: Random) -> Nominal:
    """A subject pronoun."""
    return PRONOUNS[int(random() * len(PRONOUNS))]


def name(random: Random) -> Nominal:
    """A person's name."""
    entries = words()["name"]
    word = entries[int(random() * len(entries))]
    return Nominal(word.english, word.french, Agreement(2, word.note == "f", False), "", human=True)


def definite(noun: Noun, *, plural: bool = False) -> Nominal:
    """The noun with the definite article and nothing else."""
    return _phrase(noun, plural, "the", _DEFINITE, None)


def possessed(noun: Noun, owner: str, *, plural: bool = False) -> Nominal:
    """The noun with a possessive, by its English form: my."""
    return _phrase(noun, plural, owner, _POSSESSIVES[owner], None)


def owner_of(nominal: Nominal) -> str:
    """The English possessive that refers back to a subject."""
    by_person = {0: "my", 3: "our", 4: "your", 5: "their"}
    return by_person.get(nominal.agreement.person, "her" if nominal.agreement.feminine else "his")


def owners(noun: Noun) -> tuple[str, ...]:
    """The English possessives that a noun can have: none where one doesn't have such a thing."""
    if "person" in noun.classes:
        if "women-have" in noun.classes:
            return "your", "her"
        if "men-have" in noun.classes:
            return "my", "your", "his"
        return tuple(_POSSESSIVES) if {"kin", "relation"} & set(noun.classes) else ()
    return () if {"place", "scheduled"} & set(noun.classes) else tuple(_POSSESSIVES)


def plural_is_usual(noun: Noun) -> bool:
    """Whether one speaks of several: not of bread, not of fathers (one has one), not of the town's one post office."""
    return not noun.mass and not {"parent", "workplace"} & set(noun.classes)


def draw(random: Random, noun: Noun) -> Nominal:
    """The noun with some determiner and sometimes an adjective that suits it."""
    adjective = suiting(random, noun) if random() < 0.3 else None
    if noun.mass:
        return _mass(random, noun, adjective)
    if "kin" in noun.classes:
        plural = random() < 0.15 and plural_is_usual(noun)
        return _phrase(noun, plural, *_owned(random, noun), adjective)
    plural = random() < 0.25 and plural_is_usual(noun)
    kind = random()
    if kind < 0.4 or ("place" in noun.classes and kind < 0.8):
        return _phrase(noun, plural, "the", _DEFINITE, adjective)
    if kind < 0.6:
        return _indefinite(noun, plural, adjective)
    if kind < 0.8 and owners(noun):
        return _phrase(noun, plural, *_owned(random, noun), adjective)
    if kind < 0.92 or not plural_is_usual(noun):
        return _phrase(noun, plural, "these" if plural else "this", _DEMONSTRATIVE, adjective)
    number = words()["number"][int(random() * 8)]
    return _phrase(noun, True, number.english, (number.french,) * 3, adjective)


def serving(random: Random, noun: Noun) -> Nominal:
    """Some of it, or one or more: what one asks for at a table."""
    adjective = suiting(random, noun) if random() < 0.3 else None
    if noun.mass:
        return _some(noun, adjective)
    if random() < 0.6:
        return _indefinite(noun, False, adjective)
    number = words()["number"][int(random() * 8)]
    return _phrase(noun, True, number.english, (number.french,) * 3, adjective)


def suiting(random: Random, noun: Noun) -> Adjective | None:
    """An adjective that can stand beside a noun of this kind, if there is one."""
    fitting = _fitting(noun)
    return fitting[int(random() * len(fitting))] if fitting else None


@functools.cache
def _fitting(noun: Noun) -> tuple[Adjective, ...]:
    beside = (adjective for adjective in adjectives() if adjective.place != "predicate")
    return tuple(adjective for adjective in beside if set(adjective.classes) & set(noun.classes))


def _owned(random: Random, noun: Noun) -> tuple[str, tuple[str, str, str]]:
    possible = owners(noun)
    owner = possible[int(random() * len(possible))]
    return owner, _POSSESSIVES[owner]


def _mass(random: Random, noun: Noun, adjective: Adjective | None) -> Nominal:
    """the bread / le pain, or some bread / du pain."""
    return _phrase(noun, False, "the", _DEFINITE, adjective) if random() < 0.4 else _some(noun, adjective)


def _some(noun: Noun, adjective: Adjective | None) -> Nominal:
    whole = _phrase(noun, False, "the", _DEFINITE, adjective)
    return _with_any(
        Nominal(
            f"some {whole.english.removeprefix('the ')}",
            f"de {whole.french}",
            whole.agreement,
            whole.noun,
            compositions=whole.compositions,
        ),
        whole.english.removeprefix("the "),
        whole.french.partition(" ")[2],
    )


def _indefinite(noun: Noun, plural: bool, adjective: Adjective | None) -> Nominal:
    """a book / un livre, some books / des livres; de before an adjective in the plural: de beaux livres."""
    articles = _INDEFINITE
    if plural and adjective is not None and adjective.place in ("before", "attribute"):
        articles = ("un", "une", "de")
    phrase = _phrase(noun, plural, "some" if plural else "a", articles, adjective)
    rest = phrase.english.partition(" ")[2]
    return _with_any(phrase, rest if plural else "", phrase.french.partition(" ")[2])


def _with_any(phrase: Nominal, english_rest: str, french_rest: str) -> Nominal:
    """The phrase with its form as the object of a negation: any bread / de pain; a book / de livre."""
    return Nominal(
        phrase.english,
        phrase.french,
        phrase.agreement,
        phrase.noun,
        f"any {english_rest}" if english_rest else phrase.english,
        f"de {french_rest}",
        phrase.compositions,
        phrase.human,
    )


def _phrase(
    noun: Noun, plural: bool, english: str, determiners: tuple[str, str, str], adjective: Adjective | None
) -> Nominal:
    agreement = Agreement(5 if plural else 2, noun.feminine, plural)
    determiner = determiners[2] if plural else determiners[int(noun.feminine)]
    french_noun = noun.french_plural if plural else noun.french
    english_words = [english, noun.english_plural if plural else noun.english]
    french_words = [determiner, french_noun]
    compositions: tuple[Composition, ...] = ()
    if adjective is not None:
        english_words.insert(1, adjective.english)
        form = agree(adjective, agreement)
        if adjective.place in ("before", "attribute"):
            vowel = not plural and not noun.feminine and starts_with_vowel(french_noun)
            french_words.insert(1, adjective.before_vowel if vowel else form)
        else:
            french_words.append(form)
        compositions = ((adjective.masculine, noun.french),)
    return Nominal(
        " ".join(english_words),
        " ".join(french_words),
        agreement,
        noun.french,
        compositions=compositions,
        human="person" in noun.classes,
    )


def fixed(word: Word) -> Nominal:
    """A fixed expression, as if it were a phrase."""
    return Nominal(word.english, word.french, Agreement(2, False, False), "")
