"""A translation as people get it: a line of text, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Translation:
    """One translation of a sentence."""

    text: str
    """Always one line."""
    score: float
    """Normalised log-probability: what translations of a sentence are ranked by."""
    log_probability: float
    """In nats, the end mark counted."""
    truncated: bool
    """Whether the sentence was cut for its length, or the translation at its maximum length."""
    looped: bool
    """Whether the translation repeats itself as the sentence does not (see `nmt.search.loops`)."""
    source_pieces: tuple[str, ...]
    target_pieces: tuple[str, ...]
    weights: Tensor | None
    """``[T, S]``: what attention looked at in writing each piece, the end marks last; where asked for."""

    def alignment(self) -> tuple[tuple[int, int], ...]:
        """(source piece, target piece) from 0: for each target piece the source piece that it looked at most.

        Empty without attention, where nothing is looked at.
        """
        if self.weights is None or not self.target_pieces:
            return ()
        inner = self.weights[: len(self.target_pieces), : len(self.source_pieces)]  # without the end marks
        most, where = inner.max(-1)
        pairs = enumerate(zip(most.tolist(), where.tolist(), strict=True))
        return tuple((s, t) for t, (weight, s) in pairs if weight > 0.0)


BLANK = Translation("", 0.0, 0.0, False, False, (), (), None)
"""The translation of a line with nothing in it."""
