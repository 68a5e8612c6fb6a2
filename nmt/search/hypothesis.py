"""What search finds."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nmt.recipe import Search


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


def normalizer(length: int, settings: Search) -> float:
    """What a log-probability of `length` tokens (the end mark counted) is divided by.

    average: length^α; gnmt: ((5 + length) / 6)^α (Wu et al. 2016, eq. 14); none: 1.
    """
    match settings.normalization:
        case "average":
            return float(length**settings.length_penalty)
        case "gnmt":
            return float(((5 + length) / 6) ** settings.length_penalty)
        case "none":
            return 1.0
