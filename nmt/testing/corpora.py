"""The contract of a corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise

from nmt.testing.contract import Check, built, expect, named_checks
from nmt.text.corpus import Corpus, Pair

MOST = 1000
"""Pairs that are looked at."""


@dataclass(frozen=True)
class CorpusSubject:
    """A corpus with its options."""

    component: type
    options: Mapping[str, object]

    def make(self) -> Corpus:
        """The corpus, opened anew."""
        corpus: Corpus = built(self.component, self.options)
        return corpus

    def pairs(self) -> list[Pair]:
        """Its first pairs."""
        return list(islice(self.make().pairs(), MOST))


def corpus_checks(component: type, options: Mapping[str, object]) -> list[Check]:
    """Every promise of a corpus."""
    return named_checks(CorpusSubject(component, options), CORPUS_CHECKS)


def it_finds_its_data(subject: CorpusSubject) -> None:
    """`check` raises a UserError for what is missing, and nothing else."""
    subject.make().check()


def it_gives_pairs_of_sentences(subject: CorpusSubject) -> None:
    """Text of one line a side."""
    pairs = subject.pairs()
    expect(bool(pairs), "it gives no pair", "yield Pair(source, target, line)")
    for pair in pairs:
        expect(isinstance(pair, Pair), f"it gives {type(pair).__name__}", "yield Pair(source, target, line)")
        for side in (pair.source, pair.target):
            expect(
                isinstance(side, str) and "\n" not in side,
                f"the pair of line {pair.line} has a side that isn't one line of text: {side!r:.60}",
                "give a str without line ends for each side",
            )


def its_lines_are_counted_upwards(subject: CorpusSubject) -> None:
    """Errors and reports name pairs by their lines."""
    lines = [pair.line for pair in subject.pairs()]
    expect(bool(lines) and lines[0] >= 1, "its lines don't begin at 1 or later", "count lines from 1")
    expect(all(a < b for a, b in pairwise(lines)), "its lines don't increase", "give each pair its own line")


def it_gives_the_same_pairs_each_time(subject: CorpusSubject) -> None:
    """A resumed run must see what it saw; so must another process."""
    corpus = subject.make()
    first, again = list(islice(corpus.pairs(), MOST)), list(islice(corpus.pairs(), MOST))
    expect(first == again, "the same corpus gives other pairs the second time", "start anew in each call of pairs")
    expect(first == subject.pairs(), "two corpora of the same options differ", "let options alone decide the pairs")


def its_fingerprint_stays(subject: CorpusSubject) -> None:
    """Caches go by it."""
    one, other = subject.make().fingerprint(), subject.make().fingerprint()
    expect(isinstance(one, str) and one != "", "the fingerprint is no text", "give text made from options and data")
    expect(
        one == other,
        "two corpora of the same options have different fingerprints",
        "make it from options, and from sizes and times of files; from no object's id",
    )


CORPUS_CHECKS: tuple[Callable[[CorpusSubject], None], ...] = (
    it_finds_its_data,
    it_gives_pairs_of_sentences,
    its_lines_are_counted_upwards,
    it_gives_the_same_pairs_each_time,
    its_fingerprint_stays,
)
