"""Translations that go round in circles."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 16
"""Tokens of the longest n-gram whose repetitions are looked for."""

REPETITIONS = 4
"""How often an n-gram must stand in a row."""

LEAST = 8
"""Tokens that the repetitions must cover, so that a single token must come as often."""

SURPLUS = 2
"""How many more repetitions than the source's own there must be."""


def loops(source: Sequence[int], target: Sequence[int]) -> bool:
    """Whether a stretch of the target repeats one n-gram over and over, and the source gives no cause for it.

    That is: at least `REPETITIONS` times in a row, over at least `LEAST` tokens, and at least `SURPLUS` times more than
    any n-gram of the source is repeated in a row. The comparison with the source follows Raunak et al. 2021, 4.1, who
    count the most frequent n-gram anywhere.
    """
    suspects = [stretch // size for size, stretch in _stretches(target) if stretch >= max(LEAST, REPETITIONS * size)]
    if not suspects:
        return False
    given = max((stretch // size for size, stretch in _stretches(source)), default=0)
    return max(suspects) >= given + SURPLUS


def _stretches(tokens: Sequence[int]) -> list[tuple[int, int]]:
    """For each size of n-grams, the tokens of the longest stretch in which each token is the one `size` before it."""
    longest = []
    for size in range(1, min(LONGEST, len(tokens)) + 1):
        run = most = size
        for before, token in zip(tokens, tokens[size:], strict=False):
            run = run + 1 if token == before else size
            most = max(most, run)
        longest.append((size, most))
    return longest
