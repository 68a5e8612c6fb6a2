"""The grammar: sentence patterns over slots that agree, drawn at random.

``patterns.tsv`` holds the patterns; README.md beside it explains their notation.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

from nmt.errors import UserError, did_you_mean
from nmt.text.phrasebook import english, french
from nmt.text.phrasebook.kinds import KINDS, Clause, Slot
from nmt.text.phrasebook.lexicon import Adjective, Verb, rows
from nmt.text.phrasebook.nominal import Composition, Nominal, Random

SLOT = re.compile(r"\{([^}]*)\}")


@dataclass(frozen=True)
class Pattern:
    """A sentence (or a part of one) in both languages, with the variables of its slots in the order of drawing."""

    category: str
    english: str
    french: str
    variables: tuple[tuple[str, str, tuple[str, ...]], ...]
    """Name, kind and arguments."""


@functools.cache
def patterns() -> dict[str, tuple[tuple[float, Pattern], ...]]:
    """The patterns of each category with their running sums of weights."""
    found: dict[str, list[tuple[float, Pattern]]] = {}
    for place, (weight, category, in_english, in_french, declared) in rows("patterns.tsv", 5):
        variables = tuple(_variable(place, item) for item in declared.split())
        pattern = Pattern(category, in_english, in_french, variables)
        _check(place, pattern)
        entries = found.setdefault(category, [])
        entries.append(((entries[-1][0] if entries else 0.0) + float(weight), pattern))
    return {category: tuple(entries) for category, entries in found.items()}


def _variable(place: str, item: str) -> tuple[str, str, tuple[str, ...]]:
    name, _, kind = item.partition("=")
    head, *arguments = kind.split(":")
    if head not in KINDS and head != "clause":
        raise UserError(f"no kind of slot named {head!r}", did_you_mean(head, [*KINDS, "clause"]), place=place)
    return name, head, tuple(arguments)


def _check(place: str, pattern: Pattern) -> None:
    names = {name for name, _, _ in pattern.variables}
    for slot in SLOT.findall(f"{pattern.english} {pattern.french}"):
        form, *arguments = slot.split()
        used = [form] if not arguments else [word for word in arguments if word not in TENSES]
        if arguments and form not in FORMS:
            raise UserError(f"no form named {form!r}", did_you_mean(form, FORMS), place=place)
        for name in used:
            if name not in names:
                raise UserError(f"{{{slot}}} uses {name}, which is no variable", "declare it", place=place)


def sentence(random: Random, category: str) -> tuple[str, str, frozenset[Composition]]:
    """A sentence of a category in English and French, and the compositions in it."""
    clause = draw(random, category)
    return english.sentence(clause.english), french.sentence(clause.french), frozenset(clause.compositions)


def draw(random: Random, category: str) -> Clause:
    """A pattern of the category with its slots filled; its words are not yet joined."""
    entries = patterns()[category]
    mark = random() * entries[-1][0]
    pattern = next(pattern for bound, pattern in entries if mark < bound)
    values: dict[str, Slot] = {}
    for name, kind, arguments in pattern.variables:
        if kind == "clause":
            values[name] = draw(random, f"clause-{arguments[0]}")
        else:
            values[name] = KINDS[kind](random, *(values.get(argument, argument) for argument in arguments))
    compositions = tuple(c for value in values.values() for c in _compositions(value, values))
    return Clause(
        SLOT.sub(lambda slot: _fill(slot[1], values, 0), pattern.english),
        SLOT.sub(lambda slot: _fill(slot[1], values, 1), pattern.french),
        compositions,
    )


def _compositions(value: Slot, values: dict[str, Slot]) -> tuple[Composition, ...]:
    """What the noun of a slot stands in construction with: its own adjective, the pattern's verbs and adjectives."""
    if isinstance(value, Clause):
        return value.compositions
    if not isinstance(value, Nominal) or not value.noun:
        return ()
    others = [v for v in values.values() if isinstance(v, Verb | Adjective)]
    names = [v.french if isinstance(v, Verb) else v.masculine for v in others]
    return (*value.compositions, *((name, value.noun) for name in names if name not in ("être", "avoir")))


TENSES = ("present", "progressive", "past", "imperfect", "future", "going")
Both = tuple[str, str]


def _fill(slot: str, values: dict[str, Slot], language: int) -> str:
    form, *arguments = slot.split()
    if arguments:
        return FORMS[form](*(values.get(argument, argument) for argument in arguments))[language]
    value = values[form]
    assert not isinstance(value, Verb | Adjective)  # these stand in forms only
    return (value.english, value.french)[language]


def _verb(verb: Verb, tense: str, subject: Nominal) -> Both:
    agreement = subject.agreement
    return english.verb_group(verb, tense, agreement), french.verb_group(verb, tense, agreement)


def _not(verb: Verb, tense: str, subject: Nominal) -> Both:
    agreement = subject.agreement
    return (
        english.verb_group(verb, tense, agreement, negative=True),
        french.verb_group(verb, tense, agreement, negative=True),
    )


def _was(verb: Verb, subject: Nominal, negative: bool = False) -> Both:
    """A state in the past: the English simple past, the French imperfect."""
    agreement = subject.agreement
    return (
        english.verb_group(verb, "past", agreement, negative=negative),
        french.verb_group(verb, "imperfect", agreement, negative=negative),
    )


def _ask(verb: Verb, tense: str, subject: Nominal) -> Both:
    return english.question(verb, tense, subject.agreement, subject.english), ""


def _with_pronoun(verb: Verb, tense: str, subject: Nominal, antecedent: Nominal, negative: bool = False) -> Both:
    in_english, in_french = antecedent.pronoun_object()
    group = english.verb_group(verb, tense, subject.agreement, negative=negative)
    # A particle that is no preposition (throw away) would want the pronoun before it; such verbs are few.
    head, _, particle = group.rpartition(" ")
    in_order = f"{head} {in_english} {particle}" if particle == "away" else f"{group} {in_english}"
    clitic = french.verb_group(
        verb, tense, subject.agreement, negative=negative, clitic=in_french, preceding=antecedent.agreement
    )
    return in_order, clitic


def _clitic(verb: Verb, tense: str, subject: Nominal, pronoun: Nominal, negative: bool = False) -> Both:
    direct = None if verb.frame == "giving" else pronoun.agreement
    return "", french.verb_group(
        verb, tense, subject.agreement, negative=negative, clitic=pronoun.french, preceding=direct
    )


def _which(verb: Verb, tense: str, subject: Nominal, antecedent: Nominal) -> Both:
    return (
        english.verb_group(verb, tense, subject.agreement),
        french.verb_group(verb, tense, subject.agreement, preceding=antecedent.agreement),
    )


def _more(adjective: Adjective, subject: Nominal) -> Both:
    form = french.agree(adjective, subject.agreement)
    better = form.replace("bon", "meilleur").replace("meilleurne", "meilleure")
    return adjective.comparative, better if adjective.masculine == "bon" else f"plus {form}"


FORMS: dict[str, Callable[..., Both]] = {
    "verb": _verb,
    "not": _not,
    "was": _was,
    "wasnot": functools.partial(_was, negative=True),
    "ask": _ask,
    "inf": lambda verb: (verb.english, verb.french),
    "any": lambda phrase: (phrase.english_any or phrase.english, phrase.french_any or phrase.french),
    "adj": lambda adjective, subject: (adjective.english, french.agree(adjective, subject.agreement)),
    "more": _more,
    "it": lambda phrase: (phrase.pronoun_subject().english, phrase.pronoun_subject().french),
    "verbit": _with_pronoun,
    "notit": functools.partial(_with_pronoun, negative=True),
    "clitic": _clitic,
    "notclitic": functools.partial(_clitic, negative=True),
    "verbwhich": _which,
}
"""What a slot of several words does with its variables, in both languages."""
