"""The kinds of fault that an inspection looks for, and what it found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Lines = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Kind:
    """A kind of fault: its name, and what a user can do about it."""

    name: str
    remedy: str


KINDS = (
    Kind("unequal", "find the line that is missing or too many: a shift tells where"),
    Kind("shifted", "put back or take out the line that moved one side against the other"),
    Kind("misaligned", "align these lines again, or leave them out"),
    Kind("swapped", "exchange the two sides of these lines"),
    Kind("duplicate", "keep one of them"),
    Kind("empty", "leave the pair out, or fill in the missing side"),
    Kind("script", "leave the pair out, or look for lines of another language"),
    Kind("length", "look whether a part is missing or belongs to another line"),
    Kind("markup", "mend or strip the mark-up on both sides"),
    Kind("encoding", "read the original again in its own encoding and save it as UTF-8"),
    Kind("control", "strip control characters"),
    Kind("copied", "leave the pair out, or translate it"),
    Kind("overlap", "take it out of the training set, or out of the test"),
)
REMEDIES: Mapping[str, str] = {kind.name: kind.remedy for kind in KINDS}


@dataclass(frozen=True)
class Finding:
    """Lines `first` to `last` of a set of pairs, counted from 1, and what is wrong with them."""

    kind: str
    first: int
    last: int
    problem: str


@dataclass
class Found:
    """What was found in one set: every line of each kind, and the first few findings in words."""

    show: int
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    lines: dict[str, list[Lines]] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, findings: Iterable[tuple[int, int, str]]) -> None:
        """Findings of a kind in order of their lines: (first line, last line, what is wrong)."""
        spans: list[tuple[int, int]] = []
        listed = self.findings.setdefault(kind, [])
        for first, last, problem in findings:
            if len(listed) < self.show:
                listed.append(Finding(kind, first, last, problem))
            spans.append((first, last))
        if spans:
            self.totals[kind] = self.totals.get(kind, 0) + len(spans)
            bounds = np.array(spans, np.int64)
            singles = bool((bounds[:, 0] == bounds[:, 1]).all())
            parts = bounds[:, 0] if singles else np.concatenate([np.arange(a, b + 1) for a, b in spans])
            self.lines.setdefault(kind, []).append(parts)

    def lines_of(self, kind: str) -> Lines:
        """Every line that a finding of this kind is about."""
        return np.unique(np.concatenate(self.lines.get(kind, [np.zeros(0, np.int64)])))

    @property
    def anything(self) -> bool:
        """Whether there is any finding."""
        return bool(self.totals)
