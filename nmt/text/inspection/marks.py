"""What can be seen to be wrong with a pair by itself: controls, encodings, mark-up, sides that say nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")

# UTF-8 that was read as Windows-1252 or Latin-1, by the first byte of each character: what follows is the same in all
# languages. Only such characters count as are rare next to each other in real text: "é »" would be valid UTF-8 too.
# First the second and later bytes of a character, 0x80 to 0xBF, as Latin-1 and as Windows-1252 show them.
_CONTINUATION = f"[\u0080-\u00bf{bytes(range(0x80, 0xC0)).decode('cp1252', errors='ignore')}]"
_MISREAD = re.compile(
    rf"[\u00c2\u00c3](?![\u00a0\u00bb\u2019\u201d]){_CONTINUATION}"  # Â£, Ã©
    "|\u00c5[\u0092\u0093\u00a1\u00bd\u00be\u0152\u2019\u201c](?=\\w)|(?<=[a-z])\u00c5[\u0080-\u00bf]"  # Å“uvre
    "|\u00c4[\u0080-\u00bf\u0152\u0178\u2021\u2022\u2026](?=\\w)"  # Ä‡, Ä™
    rf"|\u00c3[\u00a0\u00bb]"  # à, û
    rf"|\u00e2(?:\u20ac|\u0080){_CONTINUATION}"  # â€™
    rf"|(?:[\u00ce-\u00d1\u00d7-\u00db]{_CONTINUATION}){{2}}"  # Greek, Cyrillic, Hebrew, Arabic
    rf"|(?:[\u00e0-\u00ef]{_CONTINUATION}{{2}}){{2}}"  # Indic scripts, Han, kana, Hangul
)
_SUSPICIOUS = re.compile(rf"[\u00c2-\u00ef]{_CONTINUATION}")
"""What every misread character has in it: quicker to look for."""
_LOST = re.compile(r"[a-zß-öø-ÿ]\?[a-zß-öø-ÿ]")
_ADDRESS = re.compile(r"[/=@]|www\.")

# No two runs of spaces may stand next to each other in a pattern: a line of a megabyte of them would take for ever.
_TAG = re.compile(r"<\s{0,3}(/?)([A-Za-z][\w:-]*)(?:\s[^<>]*|/)?>")
_BROKEN_TAG = re.compile(
    r"(?<!\w)<[A-Za-z][\w:-]*(?=$|\s*<|\s+[\w:-]+\s*=\s*[\"'][^<>]*(?:$|<))"  # begun and never ended
    r"|<\s{0,3}/\s{0,3}[A-Za-z][\w:-]*\s*(?:$|<)|<\s{0,3}/?\s{0,3}>|<\s{0,3}/\s*$"
)
_BROKEN_ENTITY = re.compile(
    r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,6}|#x[0-9a-fA-F]{2,5})(?![;\w])"  # no semicolon
    r"|&\s+(?:amp|lt|gt|quot|apos|nbsp|#\s*\d{2,6})\s*;|&(?:amp|lt|gt|quot|apos|nbsp)\s+;"  # torn apart
    r"|&amp;(?:amp|lt|gt|quot|apos|nbsp|#\d{2,6});"  # escaped twice
    r"|(?<![&\w])(?:amp|quot|nbsp);"  # no ampersand
)
_ALONE = frozenset(
    ("br", "hr", "img", "p", "li", "input", "meta", "link", "wbr", "td", "tr", "th", "dt", "dd", "x", "g")
)
"""Tags that need no end."""

FEW = 2
"""Letters and digits that are as good as none ..."""
MUCH = 15
"""... beside as many as this on the other side."""
UNSPACED = "\u0e00"
"""Thai and what comes behind it: scripts without spaces between words, for the most part."""
MANY = 8
"""Words from which on a pair may be all but a copy ..."""
NEARLY = 0.85
"""... if so many of them are the same."""


def controls(text: str) -> str:
    """What is wrong where a line has control characters, line separators or a byte order mark within."""
    found = () if text.isprintable() else _CONTROLS.findall(text)
    return f"holds U+{ord(found[0]):04X}" + (f" and {len(found) - 1:,} more" if len(found) > 1 else "") if found else ""


def encoding(text: str) -> str:
    """What is wrong where a line has been read in an encoding that it was not written in."""
    if not text.isascii():
        if "\ufffd" in text:
            return "bytes that are no UTF-8, or U+FFFD in their place"
        misread = _MISREAD.search(text) if _SUSPICIOUS.search(text) else None
        if misread:
            return f"{misread[0]!a} is UTF-8 that was read as another encoding"
    lost = _LOST.search(text) if "?" in text else None
    if lost and not _ADDRESS.search(text):
        return f"{lost[0]!a} has a question mark in the place of a letter or an apostrophe"
    return ""


def markup(source: str, target: str) -> str:
    """What is wrong with the tags and entities of a pair: broken ones, ends without beginnings, other ones opposite."""
    if not ("<" in source or "<" in target or "&" in source or "&" in target or ";" in source or ";" in target):
        return ""
    tags: list[list[tuple[str, str]]] = []
    for side, text in (("source", source), ("target", target)):
        broken = _BROKEN_ENTITY.search(text) or _BROKEN_TAG.search(text)
        if broken:
            return f"the {side} has {broken[0]!a}, which is no whole tag or entity"
        tags.append([(end, name.lower()) for end, name in _TAG.findall(text)])
    if sorted(tags[0]) == sorted(tags[1]):
        return ""  # also `<name>` that stands for a name, as in manuals
    for side, found in zip(("source", "target"), tags, strict=True):
        lonely = _unbalanced(found)
        if lonely:
            return f"the {side} has <{lonely}> without its counterpart"
    end, name = min((Counter(tags[0]) - Counter(tags[1])) + (Counter(tags[1]) - Counter(tags[0])))
    return f"<{end}{name}> is on one side only"


def _unbalanced(tags: Sequence[tuple[str, str]]) -> str:
    """The first tag that is not closed, or closed without having been opened."""
    open_tags: list[str] = []
    for end, name in tags:
        if not end:
            open_tags.append(name)
        elif name in open_tags:
            while open_tags.pop() != name:
                pass
        else:
            return f"/{name}"
    return next((name for name in open_tags if name not in _ALONE), "")


def emptiness(source: str, target: str, source_words: Sequence[str], target_words: Sequence[str]) -> str:
    """What is wrong where a side says nothing: it is blank, or has next to no letters beside a sentence."""
    for side, text in (("source", source), ("target", target)):
        if not text:
            return f"the {side} is empty"
    if min(len(source_words), len(target_words)) > FEW:
        return ""
    sizes = _letters(source_words), _letters(target_words)
    for side, own, other in (("source", *sizes), ("target", sizes[1], sizes[0])):
        if (own <= FEW and other >= MUCH) or own == 0 < other:
            return f"the {side} has {own} letters, the other side {other}"
    return ""


def _letters(words: Sequence[str]) -> int:
    """Letters and digits; where no spaces stand between words, a letter counts as three."""
    return sum(len(word) if word[0] < UNSPACED else 3 for word in words)


def copied(source: str, target: str, source_words: Sequence[str], target_words: Sequence[str]) -> str:
    """What is wrong where a target is its source again, or nearly. Names and numbers alone may stay as they are."""
    if source == target or source_words == target_words:
        is_name = len(source_words) == 1 and source[:1].isupper() and source.isalpha()
        return "the target is the source" if any(map(str.isalpha, source_words)) and not is_name else ""
    longer = max(len(source_words), len(target_words))
    if longer < MANY or min(len(source_words), len(target_words)) < NEARLY * longer:
        return ""
    if 2 * len(set(source_words).intersection(target_words)) < longer:
        return ""  # quickly told of nearly all pairs
    shared = (Counter(source_words) & Counter(target_words)).total()
    return f"the target has {shared} of {longer} words from the source" if shared >= NEARLY * longer else ""
