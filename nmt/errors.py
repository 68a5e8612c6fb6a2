"""Errors that a user sees as one line: ``place: what is wrong; what to do``, never as a traceback."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

_INVISIBLE = ("Cc", "Cf", "Zl", "Zp")


class UserError(Exception):
    """A mistake that the user can put right; every command prints it as one line and exits with 2.

    `problem` says what is wrong, `remedy` what to do about it, and `place` where it was met: a file, ``file:line``
    or ``file:line:column`` (lines and columns count from 1).
    """

    exit_code = 2

    def __init__(self, problem: str, remedy: str = "", *, place: str = "") -> None:
        line = f"{place}: {problem}" if place else problem
        whole = f"{line}; {remedy}" if remedy else line
        super().__init__("\n".join(visible(part) for part in whole.split("\n")))
        self.problem = problem
        self.remedy = remedy
        self.place = place


class RunError(UserError):
    """Something outside the user's input stopped the work (a full disk, a loss that stays NaN): exit code 1."""

    exit_code = 1


def reason_of(error: Exception) -> str:
    """What a library's error says, as the part of a line."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return visible(next(iter(said.splitlines()), type(error).__name__))


def visible(text: str) -> str:
    """`text` with its controls and line ends spelt out: what a foreign file says must not disturb a terminal."""
    if text.isprintable():
        return text
    return "".join(ascii(letter)[1:-1] if unicodedata.category(letter) in _INVISIBLE else letter for letter in text)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The remedy for an unknown name: the nearest known one, or else the whole choice."""
    choice = sorted(known)
    nearest = difflib.get_close_matches(name, choice, n=1, cutoff=0.6)
    if nearest:
        return f"did you mean {nearest[0]}?"
    return f"known: {', '.join(choice)}" if choice else "none is known"
