"""English morphology: verb groups, questions, and a or an."""

from __future__ import annotations

import re

from nmt.text.phrasebook.french import Agreement
from nmt.text.phrasebook.lexicon import Verb

_PRESENT_BE = ("am", "are", "is", "are", "are", "are")
_DOUBLED = ("begin", "cut", "forget", "prefer", "run", "swim")
_LONG_U = ("useful", "useless", "university", "uni")


def third_person(subject: Agreement) -> bool:
    """Whether the verb takes an s."""
    return subject.person == 2


def present(verb: Verb, subject: Agreement) -> str:
    """The simple present."""
    if verb.english == "be":
        return _PRESENT_BE[subject.person]
    if not third_person(subject) or verb.english in ("can", "must"):
        return verb.english
    head, _, tail = verb.english.partition(" ")
    if head == "have":
        head = "has"
    elif re.search("[^aeiou]y$", head):
        head = head[:-1] + "ies"
    else:
        head += "es" if head.endswith(("s", "sh", "ch", "x", "z", "o")) else "s"
    return f"{head} {tail}".strip()


def progressive(verb: Verb) -> str:
    """The form in -ing."""
    head, _, tail = verb.english.partition(" ")
    if head in _DOUBLED:
        head += head[-1]
    elif head.endswith("e") and not head.endswith("ee") and head != "be":
        head = head[:-1]
    return f"{head}ing {tail}".strip()


def past(verb: Verb, subject: Agreement) -> str:
    """The simple past."""
    if verb.english == "be":
        return "was" if subject.person in (0, 2) else "were"
    return verb.past


def verb_group(verb: Verb, tense: str, subject: Agreement, *, negative: bool = False) -> str:
    """The verb in a statement. Tenses by their French names: past is the passé composé, imperfect "used to"."""
    auxiliary, rest = _auxiliary(verb, tense, subject)
    if negative:
        if not auxiliary:
            auxiliary, rest = _do(verb, tense, subject), verb.english
        return "cannot" if auxiliary == "can" else f"{auxiliary} not {rest}".strip()
    if auxiliary:
        return f"{auxiliary} {rest}".strip()
    return past(verb, subject) if tense == "past" else present(verb, subject)


def question(verb: Verb, tense: str, subject: Agreement, text: str) -> str:
    """The verb in a question, around its subject `text`."""
    auxiliary, rest = _auxiliary(verb, tense, subject)
    if not auxiliary:
        auxiliary, rest = _do(verb, tense, subject), verb.english
    return f"{auxiliary} {text} {rest}".strip()


def _do(verb: Verb, tense: str, subject: Agreement) -> str:
    return "did" if tense == "past" else "does" if third_person(subject) else "do"


def _auxiliary(verb: Verb, tense: str, subject: Agreement) -> tuple[str, str]:
    """The auxiliary that a tense (or the verb itself) has, and what follows it; nothing for a simple form."""
    if tense == "future":
        return "will", verb.english
    if tense == "going":
        return _PRESENT_BE[subject.person], f"going to {verb.english}"
    if tense == "progressive":
        return _PRESENT_BE[subject.person], progressive(verb)
    if tense == "imperfect":
        return "used to", verb.english
    if verb.english == "be":
        return (past(verb, subject) if tense == "past" else present(verb, subject)), ""
    if verb.english in ("can", "must") and tense == "present":
        return verb.english, ""
    return "", ""


def sentence(text: str) -> str:
    """A template's words as a sentence: a or an, a capital, punctuation close."""
    words = text.split()
    for index in range(len(words) - 1):
        following = words[index + 1].lower()
        if words[index] == "a" and following.startswith(("a", "e", "i", "o", "u", "hour", "honest")):
            words[index] = "a" if following.startswith(_LONG_U) else "an"
    joined = re.sub(r" ([,.?!])", r"\1", " ".join(words))
    return re.sub(r"(?:^|[.?!] )\w", lambda start: start[0].upper(), joined)
