"""Which script a line is written in, by the names that Unicode gives its letters."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter

NONE, LATIN = "", "LATIN"
EAST_ASIAN = "CJK"
"""Han, kana and bopomofo: languages that use one of them use several."""

_MIXED = {"HIRAGANA": EAST_ASIAN, "KATAKANA": EAST_ASIAN, "BOPOMOFO": EAST_ASIAN, "KATAKANA-HIRAGANA": EAST_ASIAN}
_LATIN_ONLY = re.compile(r"[\x00-\u024f\u1e00-\u1eff\u2000-\u20cf]*")


@functools.lru_cache(1 << 16)
def letter_script(letter: str) -> str:
    """The first word of a letter's Unicode name (LATIN, CYRILLIC, ARABIC …); nothing for what is no letter."""
    if not letter.isalpha():
        return NONE
    name = unicodedata.name(letter, NONE).partition(" ")[0]
    return _MIXED.get(name, name)


def main_script(text: str) -> str:
    """The script of most of a line's letters; nothing where it has none."""
    if text.isascii() or _LATIN_ONLY.fullmatch(text):
        return LATIN if text.lower() != text.upper() else NONE
    counts = Counter(script for letter in text[:1000] if (script := letter_script(letter)))
    return min(counts, key=lambda script: (-counts[script], script), default=NONE)
