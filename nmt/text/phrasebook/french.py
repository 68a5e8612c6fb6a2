"""French morphology: conjugation, agreement, verb groups, and what words do to each other where they meet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nmt.text.phrasebook.lexicon import Adjective, Verb, irregular

IMPERFECT = ("ais", "ais", "ait", "ions", "iez", "aient")
FUTURE = ("ai", "as", "a", "ons", "ez", "ont")

_VOWELS = "aeiouyhàâäéèêëîïôöùûüœ"
_ELIDED = {"le": "l'", "la": "l'", "le°": "l'", "la°": "l'", "de": "d'", "que": "qu'", "ne": "n'", "je": "j'"} | {
    "me°": "m'",
    "ce°": "c'",
}
_CONTRACTED = {("à", "le"): "au", ("à", "les"): "aux", ("de", "le"): "du", ("de", "les"): "des"}
_BEFORE_VOWEL = {"ma": "mon", "ta": "ton", "sa": "son", "ce": "cet"}


@dataclass(frozen=True)
class Agreement:
    """What others agree with: the grammatical person (0 je … 5 ils), gender and number."""

    person: int
    feminine: bool
    plural: bool


def starts_with_vowel(word: str) -> bool:
    """Whether a word elides the one before it; ``*`` marks an h or y that doesn't."""
    return word[:1].lower() in _VOWELS and bool(word)


def agree(adjective: Adjective, agreement: Agreement) -> str:
    """The adjective's form for a gender and number."""
    if agreement.feminine:
        return adjective.feminine_plural if agreement.plural else adjective.feminine
    return adjective.masculine_plural if agreement.plural else adjective.masculine


def participle(infinitive: str) -> str:
    """The past participle, masculine singular."""
    if infinitive in irregular():
        return irregular()[infinitive].participle
    return infinitive[:-2] + {"er": "é", "ir": "i", "re": "u"}[infinitive[-2:]]


def agree_participle(form: str, agreement: Agreement) -> str:
    """A participle's form for a gender and number."""
    form = "du" if form == "dû" and (agreement.feminine or agreement.plural) else form
    form += "e" if agreement.feminine else ""
    return form if form.endswith("s") or not agreement.plural else f"{form}s"


def conjugate(infinitive: str, tense: str, person: int) -> str:
    """A form of the present, imperfect or future; `person` 0 (je) to 5 (ils)."""
    forms = irregular().get(infinitive)
    if tense == "present":
        return forms.present[person] if forms else _regular_present(infinitive, person)
    if tense == "imperfect":
        stem = forms.imperfect if forms else _regular_present(infinitive, 3).removesuffix("ons")
        # The c and g of -cer and -ger verbs are soft before i by themselves.
        if IMPERFECT[person].startswith("i"):
            stem = infinitive[:-2] if infinitive.endswith(("cer", "ger")) else stem
        return stem + IMPERFECT[person]
    stem = forms.future if forms else _regular_future(infinitive)
    return stem + FUTURE[person]


def _regular_present(infinitive: str, person: int) -> str:
    stem, ending = infinitive[:-2], infinitive[-2:]
    if ending == "ir":
        return stem + ("is", "is", "it", "issons", "issez", "issent")[person]
    if ending == "re":
        return stem + ("s", "s", "", "ons", "ez", "ent")[person]
    if person not in (3, 4):
        stem = _silent_stem(stem)
    if person == 3:
        stem = re.sub("c$", "ç", re.sub("g$", "ge", stem))
    return stem + ("e", "es", "e", "ons", "ez", "ent")[person]


def _silent_stem(stem: str) -> str:
    """The stem of an -er verb before a silent e."""
    if stem.endswith(("jet", "pel")):
        return stem + stem[-1]  # jeter, appeler: jette, appelle
    if stem.endswith("y"):
        return stem[:-1] + "i"  # nettoyer, payer: nettoie, paie
    accented = re.fullmatch("(.*)[eé]([^aeiouyé])", stem)
    if accented and not stem.endswith(("er", "ess")):
        return f"{accented[1]}è{accented[2]}"  # acheter, préférer: achète, préfère
    if re.fullmatch(".*ér", stem):
        return stem[:-2] + "èr"
    return stem


def _regular_future(infinitive: str) -> str:
    if infinitive.endswith("re"):
        return infinitive[:-1]
    if infinitive.endswith("er"):
        stem = infinitive[:-2]
        # préférer keeps its é in the future (préférera), acheter and jeter do as in the present.
        return (stem if "é" in stem[-2:] else _silent_stem(stem)) + "er"
    return infinitive


def verb_group(
    verb: Verb,
    tense: str,
    subject: Agreement,
    *,
    negative: bool = False,
    clitic: str = "",
    preceding: Agreement | None = None,
) -> str:
    """The verb with its auxiliary, negation and clitic pronoun, in order: ``ne° la° ai pas vue``.

    `tense`: present (progressive is the same), past (passé composé), imperfect, future, or going (futur proche).
    `preceding` is the direct object that stands before the verb, with which a participle after avoir agrees.
    """
    tense = "present" if tense == "progressive" else tense
    before, after = (("ne",), ("pas",)) if negative else ((), ())
    pronoun = (clitic,) if clitic else ()
    if tense == "past":
        agreement = subject if verb.auxiliary == "être" else preceding
        form = participle(verb.french)
        form = agree_participle(form, agreement) if agreement else form
        finite = conjugate(verb.auxiliary, "present", subject.person)
        return " ".join((*before, *pronoun, finite, *after, form))
    if tense == "going":
        return " ".join((*before, conjugate("aller", "present", subject.person), *after, *pronoun, verb.french))
    return " ".join((*before, *pronoun, conjugate(verb.french, tense, subject.person), *after))


def join(tokens: Sequence[str]) -> str:
    """Words as they stand in a sentence: elision, contraction, mon amie, cet homme. Marks of the words are dropped."""
    words = list(tokens)
    for index in range(len(words) - 2, -1, -1):
        word, following = words[index], words[index + 1]
        if word == "si" and following in ("il", "ils"):
            words[index : index + 2] = [f"s'{following}"]
        elif starts_with_vowel(following):
            if word in _BEFORE_VOWEL:
                words[index] = _BEFORE_VOWEL[word]
            elif word in _ELIDED:
                words[index : index + 2] = [_ELIDED[word] + following]
    for index in range(len(words) - 2, -1, -1):
        contracted = _CONTRACTED.get((words[index], words[index + 1]))
        if contracted:
            words[index : index + 2] = [contracted]
    return " ".join(words).replace("*", "").replace("°", "")


def sentence(text: str) -> str:
    """A template's words as a sentence: joined, with a capital, a full stop or comma close, a space before ? and !."""
    tokens = re.sub(r"([,.?!])", r" \1", text).split()
    joined = re.sub(r" ([,.])", r"\1", join(tokens))
    return re.sub(r"(?:^|[.?!] )\w", lambda start: start[0].upper(), joined)
