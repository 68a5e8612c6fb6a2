"""The phrasebook makes sense: words go with words of their kind, and the tables hold nothing that nothing uses."""

import functools
import re
from importlib.resources import files

import pytest

from nmt.text.phrasebook import lexicon
from nmt.text.phrasebook.phrasebook import SIZES, idioms, pairs

SPECIAL = {
    "any",
    "mass",
    "parent",
    "relation",
    "kin",
    "adult",
    "women-have",
    "men-have",
    "color",
    "absolute",
    "feeling",
}
"""Classes that the grammar itself knows, or that adjectives are sorted by."""


@functools.cache
def drawn() -> tuple[tuple[str, str], ...]:
    """The pairs of every split that the grammar made."""
    by_hand = set(idioms())
    return tuple(pair for name in SIZES for pair in pairs(name) if pair not in by_hand)


def noun_classes() -> set[str]:
    return {name for noun in lexicon.nouns() for name in (*noun.classes, noun.english)}


@pytest.mark.parametrize("table", ["verbs", "adjectives"])
def test_every_class_that_a_word_goes_with_has_a_noun(table: str) -> None:
    classes = {"verbs": [v.classes for v in lexicon.verbs()], "adjectives": [a.classes for a in lexicon.adjectives()]}
    for named in classes[table]:
        assert set(named) <= noun_classes() | SPECIAL, named


def test_every_class_of_a_noun_is_used() -> None:
    text = (files("nmt.text.phrasebook") / "patterns.tsv").read_text(encoding="utf-8")
    used = SPECIAL | set(re.split(r"[:+\s]", text))
    used |= {name for verb in lexicon.verbs() for name in verb.classes}
    used |= {name for adjective in lexicon.adjectives() for name in adjective.classes}
    code = "".join(entry.read_text() for entry in files("nmt.text.phrasebook").iterdir() if entry.name.endswith(".py"))
    used |= set(re.findall(r'"([a-z-]+)"', code))
    assert not {name for noun in lexicon.nouns() for name in noun.classes} - used


def test_every_note_and_frame_of_a_verb_is_used_by_a_pattern() -> None:
    text = (files("nmt.text.phrasebook") / "patterns.tsv").read_text(encoding="utf-8")
    for verb in lexicon.verbs():
        for note in verb.notes:
            assert f"noted:{note}" in text, verb
        assert f":{verb.frame}" in text or f"verb:{verb.french}" in text, verb


def test_every_kind_of_fixed_expression_is_used_by_a_pattern() -> None:
    text = (files("nmt.text.phrasebook") / "patterns.tsv").read_text(encoding="utf-8")
    code = "".join((files("nmt.text.phrasebook") / name).read_text() for name in ("kinds.py", "nominal.py"))
    for kind in lexicon.words():
        assert f"word:{kind}" in text or f'"{kind}"' in code, kind


@pytest.mark.parametrize(
    "nonsense",
    [
        r"\b(our|their|my|his) husbands?\b|\b(our|their|her) (wife|wives)\b",
        r"\b(husbands|wives|fathers|mothers)\b",
        r"\b(empty|full) (key|map|table|door|window|passport)",
        r"\b(sweet|fresh) (salt|sugar|wine|beer)",
        r"\b(crosse[sd]|cross) the (\w+ )?(bakery|pharmacy|theater)",
        r"\b(grandfather|grandmother|father|mother) (is|will be) (five|eight|eleven|thirteen|sixteen) years",
        r"^(Did|Do|Will|Can|Why did|Why do|Where did|When will) (I|we)\b",
        r"\b(knew|loved|hated|admired) [^.]* (yesterday|this morning|last \w+|ago)\.$",
    ],
)
def test_nobody_says(nonsense: str) -> None:
    for english, _ in drawn():
        assert not re.search(nonsense, english), english


def test_one_is_at_a_public_building_and_in_a_room() -> None:
    at_work = re.compile(r"\b(worked|works|stayed|stays) at the (library|hospital|cinema|hotel|office)\b")
    found = [(english, french) for english, french in drawn() if at_work.search(english)]
    assert len(found) > 50
    for english, french in found:
        assert re.search(r"(à la bibliothèque|à l'hôpital|au cinéma|à l'hôtel|au bureau)", french), (english, french)


def test_a_state_in_the_past_is_in_the_imperfect() -> None:
    loved = [(english, french) for english, french in drawn() if re.match(r"(She|He|Paul|Julie) loved ", english)]
    assert loved
    for english, french in loved:
        assert re.match(r"\w+ aimait ", french), (english, french)


def test_new_is_nouveau_beside_its_noun_and_neuf_after_to_be() -> None:
    for _, french in drawn():
        assert not re.search(r"\b(est|sont|plus|aussi|moins) nouve(au|l|lle|aux|lles)\b", french), french
    assert any(" neuve." in french for _, french in drawn())


def test_nobody_is_compared_or_travels_with_himself() -> None:
    for english, _ in drawn():
        match = re.fullmatch(r"(\w+) (?:is|travels) (?:[\w ]+ )?(?:than|as|with|without) (\w+)\.", english)
        assert not match or match[1] != match[2], english
