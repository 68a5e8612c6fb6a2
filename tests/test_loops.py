"""What counts as a translation that repeats itself."""

import random

import pytest

from nmt.search.loops import LEAST, LONGEST, REPETITIONS, SURPLUS, loops


@pytest.mark.parametrize("size", range(1, LONGEST + 1))
def test_an_ngram_of_any_size_is_found_wherever_it_repeats(size: int) -> None:
    often = max(REPETITIONS, -(-LEAST // size), 1 + SURPLUS)
    ngram = list(range(100, 100 + size))
    assert loops([1, 2, 3], [1, 2] + ngram * often)
    assert loops([1, 2, 3], ngram * often + [1, 2])
    assert not loops([1, 2, 3], ([1, 2] + ngram * often)[:-1])


def test_what_the_source_repeats_may_be_repeated() -> None:
    assert not loops([7] * 12, [8] * 12)
    assert not loops([7] * 12, [8] * 13)
    assert loops([7] * 12, [8] * 14)
    assert not loops([1, 2] * 6, [5, 6, 7] * 6)


def test_a_sentence_of_different_tokens_does_not_loop_and_nothing_does_not() -> None:
    draw = random.Random(1)
    for _ in range(200):
        assert not loops([1], [draw.randrange(50) for _ in range(draw.randint(0, 60))])
    assert not loops([], [])
