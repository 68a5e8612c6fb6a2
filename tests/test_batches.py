"""Batches: every pair once an epoch, little padding, and an order that is computed and never stored."""

import random
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmt import recipe
from nmt.text.batches import Batch, BatchPlan, collate, ordered_batches, prefetch
from nmt.text.corpus import Corpus, Pair
from nmt.text.store import TokenStore, build_store
from nmt.text.tokenizer import Tokenizer, Tokenizers

LETTERS = "abcdefghij"
CHAR = Tokenizer.train([LETTERS], recipe.Tokenizer(vocab_size=300, model_type="char"))
MIXED = ["".join(random.Random(number).choices(LETTERS, k=12)) for number in range(500)]
UNIGRAM = Tokenizer.train(MIXED, recipe.Tokenizer(vocab_size=360))
CHARS, UNIGRAMS = Tokenizers(CHAR, CHAR), Tokenizers(UNIGRAM, UNIGRAM)


class Lengths(Corpus):
    """Pairs with sides of given lengths."""

    def __init__(self, lengths: list[tuple[int, int]]) -> None:
        self._lengths = lengths

    def pairs(self) -> Iterator[Pair]:
        draw = random.Random(1)
        for number, (source, target) in enumerate(self._lengths, 1):
            yield Pair("".join(draw.choices(LETTERS, k=source)), "".join(draw.choices(LETTERS, k=target)), number)

    def fingerprint(self) -> str:
        return repr(self._lengths)

    def check(self) -> None:
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMT_CACHE", str(tmp_path))


def store_of(lengths: list[tuple[int, int]], tokenizers: Tokenizers = CHARS) -> TokenStore:
    return build_store(Lengths(lengths), tokenizers, max_length=None, keep_text=True, say=lambda message: None)


def plan_of(store: TokenStore, **options: object) -> BatchPlan:
    return BatchPlan(store, CHARS, **{"tokens": 100, "sentences": None, "seed": 1, **options})


def drawn_lengths(count: int) -> list[tuple[int, int]]:
    draw = random.Random(2)
    sources = [1 + int(draw.expovariate(0.1)) for _ in range(count)]
    return [(source, max(1, source + draw.randint(-3, 3))) for source in sources]


def same(first: Batch, second: Batch) -> bool:
    return (
        torch.equal(first.source, second.source)
        and torch.equal(first.target, second.target)
        and first.lines.tolist() == second.lines.tolist()
    )


ROWS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=60)
STORES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)


@STORES
@given(lengths=ROWS, tokens=st.integers(1, 300), seed=st.integers(0, 2**63), epoch=st.integers(0, 10))
def test_every_pair_is_in_one_batch_an_epoch_and_no_batch_is_too_large(
    lengths: list[tuple[int, int]], tokens: int, seed: int, epoch: int
) -> None:
    store = store_of(lengths)
    plan = plan_of(store, tokens=tokens, seed=seed)
    batches = list(plan.batches(epoch))
    assert len(batches) == len(plan)
    assert sorted(line for batch in batches for line in batch.lines) == list(range(1, len(lengths) + 1))
    for batch in batches:
        assert max(batch.source.numel(), batch.target.numel()) <= tokens or len(batch.lines) == 1


@STORES
@given(lengths=ROWS, sentences=st.integers(1, 70), tokens=st.none() | st.integers(1, 300))
def test_no_batch_has_more_sentences_than_asked_for(
    lengths: list[tuple[int, int]], sentences: int, tokens: int | None
) -> None:
    sizes = [len(rows) for rows in plan_of(store_of(lengths), tokens=tokens, sentences=sentences).epoch(0)]
    assert sum(sizes) == len(lengths)
    assert max(sizes) <= sentences
    if tokens is None:
        assert sorted(sizes)[1:] == [sentences] * (len(sizes) - 1)


@STORES
@given(lengths=ROWS)
def test_a_batch_holds_each_sentence_with_its_marks_and_padding_behind(lengths: list[tuple[int, int]]) -> None:
    store = store_of(lengths)
    pairs = {pair.line: pair for pair in Lengths(lengths).pairs()}
    for batch in plan_of(store).batches(0):
        assert batch.source.dtype == batch.target.dtype == batch.source_lengths.dtype == torch.int64
        assert batch.source.shape[1] == batch.source_lengths.max()
        assert batch.target.shape[1] == batch.target_lengths.max()
        for row, line in enumerate(batch.lines):
            source = [*CHAR.encode(pairs[line].source), CHAR.eos_id]
            target = [CHAR.bos_id, *CHAR.encode(pairs[line].target), CHAR.eos_id]
            assert (batch.source_lengths[row], batch.target_lengths[row]) == (len(source), len(target))
            assert batch.source[row].tolist() == source + [CHAR.pad_id] * (batch.source.shape[1] - len(source))
            assert batch.target[row].tolist() == target + [CHAR.pad_id] * (batch.target.shape[1] - len(target))


def test_sides_with_tokenizers_of_their_own_have_their_own_marks(tmp_path: Path) -> None:
    tokenizers = Tokenizers(CHAR, UNIGRAM)
    store = store_of([(3, 3)], tokenizers)
    batch = collate(store, tokenizers, np.array([0]))
    pair = next(Lengths([(3, 3)]).pairs())
    assert batch.source[0].tolist() == [*CHAR.encode(pair.source), CHAR.eos_id]
    assert batch.target[0].tolist() == [UNIGRAM.bos_id, *UNIGRAM.encode(pair.target), UNIGRAM.eos_id]


def test_a_plan_is_computed_from_the_seed_and_the_epoch_alone() -> None:
    store = store_of(drawn_lengths(300))
    plan, other = plan_of(store), plan_of(store)
    assert [rows.tolist() for rows in plan.epoch(3)] == [rows.tolist() for rows in other.epoch(3)]
    again = [rows.tolist() for rows in plan.epoch(0)]
    assert [rows.tolist() for rows in plan.epoch(0)] == again
    assert [rows.tolist() for rows in plan.epoch(1)] != again
    assert [rows.tolist() for rows in plan_of(store, seed=2).epoch(0)] != again


def test_pairs_of_equal_lengths_meet_others_in_each_epoch() -> None:
    plan = plan_of(store_of([(5, 5)] * 100))
    together = {frozenset(rows.tolist()) for rows in plan.epoch(0)}
    assert together.isdisjoint({frozenset(rows.tolist()) for rows in plan.epoch(1)})
    assert len(plan.epoch(0)) == len(plan.epoch(1)) == len(plan)


def test_batches_do_not_come_in_the_order_of_their_lengths() -> None:
    widths = [batch.source.shape[1] for batch in plan_of(store_of(drawn_lengths(400))).batches(0)]
    climbing = sum(first <= second for first, second in pairwise(widths))
    assert 0.3 < climbing / len(widths) < 0.7


@pytest.mark.parametrize("sampling", [None, recipe.Sampling(alpha=0.5)], ids=["plain", "sampling"])
def test_going_on_from_a_step_gives_what_the_whole_epoch_gave(sampling: recipe.Sampling | None) -> None:
    store = store_of(drawn_lengths(200), UNIGRAMS)
    options = {"tokens": 200, "sentences": None, "seed": 1, "sampling": sampling}
    whole = list(BatchPlan(store, UNIGRAMS, **options).batches(2))
    for start in (0, 1, 7, len(whole) - 1, len(whole)):
        rest = list(BatchPlan(store, UNIGRAMS, **options).batches(2, start))
        assert len(rest) == len(whole) - start
        assert all(same(first, second) for first, second in zip(rest, whole[start:], strict=True))


def test_sampling_shows_other_tokens_of_the_same_text_in_each_epoch() -> None:
    store = store_of([(20, 20)] * 8, UNIGRAMS)
    plan = BatchPlan(store, UNIGRAMS, tokens=None, sentences=8, seed=1, sampling=recipe.Sampling(alpha=0.2))
    pairs = {pair.line: pair for pair in Lengths([(20, 20)] * 8).pairs()}
    seen: dict[int, set[tuple[int, ...]]] = {line: set() for line in pairs}
    for epoch in range(3):
        for batch in plan.batches(epoch):
            for row, line in enumerate(batch.lines):
                ids = batch.source[row, : batch.source_lengths[row] - 1].tolist()
                assert UNIGRAM.decode(ids) == pairs[line].source
                assert UNIGRAM.decode(batch.target[row].tolist()) == pairs[line].target
                seen[line].add(tuple(ids))
    assert all(len(segmentations) > 1 for segmentations in seen.values())


def test_hardly_any_token_is_padding() -> None:
    batches = list(plan_of(store_of(drawn_lengths(20_000)), tokens=1000).batches(0))
    tensors = [tensor for batch in batches for tensor in (batch.source, batch.target)]
    real = sum(int((tensor != CHAR.pad_id).sum()) for tensor in tensors)
    assert real / sum(tensor.numel() for tensor in tensors) > 0.96


def test_validation_sees_every_pair_once_in_the_same_order() -> None:
    store = store_of(drawn_lengths(300))
    batches = list(ordered_batches(store, CHARS, tokens=200))
    assert sorted(line for batch in batches for line in batch.lines) == list(range(1, 301))
    assert all(same(*pair) for pair in zip(batches, ordered_batches(store, CHARS, tokens=200), strict=True))
    widths = [max(batch.source.shape[1], batch.target.shape[1]) for batch in batches]
    assert widths == sorted(widths)


def test_lengths_stay_on_the_cpu() -> None:
    batch = next(plan_of(store_of([(3, 4)])).batches(0)).to(torch.device("meta"))
    assert batch.source.device.type == batch.target.device.type == "meta"
    assert batch.source_lengths.device.type == batch.target_lengths.device.type == "cpu"


@given(items=st.lists(st.integers(), max_size=20), depth=st.integers(1, 5))
def test_items_made_ahead_are_the_same_items(items: list[int], depth: int) -> None:
    assert list(prefetch(iter(items), depth)) == items


def test_no_more_items_are_made_ahead_than_asked_for() -> None:
    made = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    items = prefetch(numbers(), depth=2)
    assert next(items) == 0
    time.sleep(0.3)
    # One is taken, two wait, and one is at hand to be put.
    assert 2 <= len(made) <= 4
    items.close()


def test_an_error_in_the_background_comes_to_the_reader_after_the_items_before_it() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("broken")

    items = prefetch(numbers())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="broken"):
        next(items)


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_leaving_early_ends_the_thread(taken: int) -> None:
    before = threading.active_count()
    items = prefetch(iter(range(1000)))
    for _ in range(taken):
        next(items)
    items.close()
    assert threading.active_count() == before


def test_a_reader_s_own_error_ends_the_thread() -> None:
    before = threading.active_count()
    with pytest.raises(KeyError):
        for number in prefetch(iter(range(1000))):
            raise KeyError(number)
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
