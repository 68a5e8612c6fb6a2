"""What search finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from torch import Tensor

from nmt.recipe import Search

MAX_TARGET_TOKENS = 4096
"""No hypothesis grows longer, whatever the settings and the source: time and memory are bounded."""


@dataclass(frozen=True)
class Hypothesis:
    """A candidate translation of a sentence."""

    tokens: tuple[int, ...]
    """Ids, without marks."""
    score: float
    """Normalised log-probability: what hypotheses are ranked by."""
    log_probability: float
    """Of the tokens and the end mark, in nats."""
    finished: bool
    """False where the sentence was ended because it reached the maximum length."""
    weights: Tensor | None
    """``[T, S]``: what attention looked at for each token and the end mark, where asked for."""


@dataclass(frozen=True)
class Marks:
    """Token ids that search must know."""

    begin: int
    end: int
    banned: tuple[int, ...]
    """Never written: padding, the begin mark, the unknown token."""


def length_bounds(size: int, settings: Search) -> tuple[int, int]:
    """Tokens at least and at most of a translation, the end mark counted, of a source of `size` tokens, likewise."""
    longest = int((size - 1) * settings.max_length_ratio + settings.max_length_extra)
    longest = min(max(longest, 1), MAX_TARGET_TOKENS)
    return min(int((size - 1) * settings.min_length_ratio) + 1, longest), longest


@overload
def normalizer(length: float, settings: Search) -> float: ...
@overload
def normalizer(length: Tensor, settings: Search) -> Tensor: ...
def normalizer(length: float | Tensor, settings: Search) -> float | Tensor:
    """What a log-probability of `length` tokens (the end mark counted) is divided by.

    average: length^α; gnmt: ((5 + length) / 6)^α (Wu et al. 2016, eq. 14); none: 1.
    """
    match settings.normalization:
        case "average":
            return length**settings.length_penalty
        case "gnmt":
            return ((5 + length) / 6) ** settings.length_penalty
        case "none":
            return length**0.0


def way_to(row: int, parents: Sequence[Sequence[int]]) -> list[int]:
    """The places, in a sentence's beams from the first on, of the hypotheses that lead to the one at `row` of the last;
    `parents` says for each beam which of the one before it a hypothesis goes on."""
    way = []
    for beam in reversed(parents):
        way.append(row)
        row = beam[row]
    return way[::-1]
