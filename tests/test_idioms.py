"""The hand-written idioms: their format, their typography, and who is called tu."""

import re
import unicodedata
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import pytest

TOPICS = (
    "directions",
    "family",
    "feelings",
    "food",
    "greetings",
    "health",
    "phone",
    "proverbs",
    "school",
    "shopping",
    "small_talk",
    "time",
    "travel",
    "weather",
    "work",
)
FINAL_MARKS = ".?!"
LETTERS = set("abcdefghijklmnopqrstuvwxyzàâæçéèêëîïôœùûüÿ")
TUTOIEMENT = re.compile(r"\b(tu|te|toi|ton|ta|tes)\b|\bt'", re.IGNORECASE)
ONE_CLOSE_PERSON = re.compile(r"\b(darling|sweetheart|Mom|Dad|Grandma|my friend|my boy|, Paul)\b")


class Row(NamedTuple):
    place: str
    english: str
    french: str


def lines(topic: str) -> list[str]:
    text = (files("nmt.text.phrasebook") / "idioms" / f"{topic}.tsv").read_bytes().decode("utf-8")
    assert text.endswith("\n") and "\r" not in text, topic
    return text.removesuffix("\n").split("\n")


@cache
def rows() -> tuple[Row, ...]:
    found = []
    for topic in TOPICS:
        for number, line in enumerate(lines(topic), start=1):
            if line and not line.startswith("#"):
                english, french = line.split("\t")
                found.append(Row(f"{topic}.tsv:{number}", english, french))
    return tuple(found)


def sides() -> list[tuple[str, str]]:
    """Each sentence of either language, with its place."""
    return [(row.place, side) for row in rows() for side in (row.english, row.french)]


@pytest.mark.parametrize("topic", TOPICS)
def test_each_file_says_at_its_head_what_it_holds(topic: str) -> None:
    assert lines(topic)[0].startswith("# ")


@pytest.mark.parametrize("topic", TOPICS)
def test_each_line_is_a_comment_or_two_sides_with_one_tab(topic: str) -> None:
    for number, line in enumerate(lines(topic), start=1):
        assert not line or line.startswith("#") or line.count("\t") == 1, f"{topic}.tsv:{number}"


def test_every_file_in_the_folder_is_a_known_topic() -> None:
    names = sorted(entry.name for entry in (files("nmt.text.phrasebook") / "idioms").iterdir())
    assert names == sorted(f"{topic}.tsv" for topic in TOPICS)


def test_there_are_at_least_a_thousand_pairs_and_each_topic_has_seventy() -> None:
    assert len(rows()) >= 1000
    for topic in TOPICS:
        assert sum(row.place.startswith(f"{topic}.") for row in rows()) >= 70, topic


@pytest.mark.parametrize("side", ["english", "french"])
def test_no_sentence_stands_twice_on_the_same_side(side: str) -> None:
    seen: dict[str, str] = {}
    for row in rows():
        key = getattr(row, side).casefold()
        assert key not in seen, f"{row.place} repeats {seen.get(key)}: {key}"
        seen[key] = row.place


def test_english_has_two_to_twelve_words_and_french_at_most_fifteen() -> None:
    for row in rows():
        assert 2 <= len(row.english.split()) <= 12, row
        assert len(re.findall(r"[\w'-]+", row.french)) <= 15, row


def test_sentences_begin_with_a_capital_and_keep_its_accent() -> None:
    for place, sentence in sides():
        assert sentence[0].isupper(), place
    for row in rows():
        assert not re.match(r"A |(Etes|Ecoutez|Eteignez|Epluchez|Etudi|Ca )", row.french), row


def test_both_sides_end_with_the_same_mark_and_hold_no_other_final_mark() -> None:
    for row in rows():
        assert row.english[-1] in FINAL_MARKS and row.english[-1] == row.french[-1], row
        for sentence in (row.english, row.french):
            body = sentence.replace("Mr.", "Mr")[:-1]
            assert not set(body) & set(FINAL_MARKS), row


def test_spaces_are_single_plain_and_never_at_the_ends() -> None:
    for place, sentence in sides():
        assert sentence == sentence.strip() and "  " not in sentence, place
        assert all(character == " " or not character.isspace() for character in sentence), place


def test_french_puts_a_space_before_high_marks_and_english_does_not() -> None:
    for row in rows():
        assert not re.search(r"[^ ][?!:;]", row.french), row
        assert not re.search(r" [?!:;]", row.english), row


def test_no_space_stands_before_a_full_stop_or_a_comma_and_one_after_a_comma() -> None:
    for place, sentence in sides():
        assert not re.search(r" [.,]", sentence), place
        assert not re.search(r",[^ ]", sentence), place


def test_sentences_are_composed_unicode_of_known_characters() -> None:
    known = LETTERS | {letter.upper() for letter in LETTERS} | set(" .,?!:;'-")
    for place, sentence in sides():
        assert unicodedata.normalize("NFC", sentence) == sentence, place
        assert set(sentence) <= known, f"{place}: {set(sentence) - known}"


def test_french_elides_before_a_vowel() -> None:
    # A pronoun after a hyphen keeps its vowel ("puis-je entrer"), and so does "que" before "oui".
    unelided = re.compile(r"(?<![-\w])(je|me|te|se|le|la|de|ne|que|ce) (?!oui\b)[aeiouàâéèêîôûœ]", re.IGNORECASE)
    for row in rows():
        assert not unelided.search(row.french), row


def test_french_contracts_the_article_after_a_and_de() -> None:
    for row in rows():
        # The idioms hold no pronoun le after à or de, so the words can only be an article.
        assert not re.search(r"\b(à|de) les?\b", row.french, re.IGNORECASE), row


def test_tu_is_said_only_where_the_english_names_a_close_person() -> None:
    for row in rows():
        tutoiement = TUTOIEMENT.search(row.french.replace("deux tu l'auras", ""))
        assert not tutoiement or ONE_CLOSE_PERSON.search(row.english), row


def test_a_close_person_is_never_called_vous() -> None:
    for row in rows():
        if ONE_CLOSE_PERSON.search(row.english):
            assert not re.search(r"\b(vous|votre|vos)\b|[a-z]ez\b", row.french.replace("Allez,", "")), row
