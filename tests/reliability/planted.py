"""Faults planted in sound corpora: what was done to which lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

Texts = list[str]


@dataclass(frozen=True)
class Planted:
    """A corpus with faults of one kind in `lines`, counted from 1."""

    kind: str
    sources: Texts
    targets: Texts
    lines: set[int]
    test: tuple[Texts, Texts] | None = None


Plant = Callable[[Random, Texts, Texts], Planted]

CYRILLIC = str.maketrans("abcdefghijklmnopqrstuvwxyz", "абцдефгхийклмнопкрстувхуыз")
GREEK = str.maketrans("abcdefghijklmnopqrstuvwxyz", "αβκδεφγχιικλμνοπκρστυβωξυζ")
SHARE = 50
"""One line in so many gets a fault."""


def changed(
    kind: str,
    change: Callable[[Random, str, str], tuple[str, str]],
    fit: Callable[[str, str], bool] = lambda s, t: True,
) -> Plant:
    """Faults in single pairs."""

    def plant(random: Random, sources: Texts, targets: Texts) -> Planted:
        sources, targets = list(sources), list(targets)
        fitting = [row for row in range(len(sources)) if fit(sources[row], targets[row])]
        rows = random.sample(fitting, min(len(fitting), max(1, len(sources) // SHARE)))
        for row in rows:
            sources[row], targets[row] = change(random, sources[row], targets[row])
        return Planted(kind, sources, targets, {row + 1 for row in rows})

    return plant


def shifted(random: Random, sources: Texts, targets: Texts) -> Planted:
    """A target line lost in one place, and another come in further down: what is between has moved by one."""
    first = random.randrange(len(sources) // 2)
    length = random.randrange(20, max(21, len(sources) // 3))
    stranger = random.choice(targets)
    moved = targets[:first] + targets[first + 1 : first + length + 1] + [stranger] + targets[first + length + 1 :]
    return Planted("shifted", sources, moved, set(range(first + 1, first + length + 1)))


def line_too_many(random: Random, sources: Texts, targets: Texts) -> Planted:
    """One target line more than there should be: everything from there on has moved by one."""
    first = random.randrange(len(sources) // 20, len(sources))
    more = [*targets[:first], random.choice(targets), *targets[first:]]
    return Planted("shifted", sources, more, set(range(first + 1, len(sources) + 1)))


def misaligned(random: Random, sources: Texts, targets: Texts) -> Planted:
    """A stretch of targets in another order."""
    length = 30
    first = random.randrange(len(sources) - length)
    mixed = random.sample(targets[first : first + length], length)
    lines = {first + 1 + row for row in range(length) if mixed[row] != targets[first + row]}
    return Planted("misaligned", sources, [*targets[:first], *mixed, *targets[first + length :]], lines)


def duplicated(random: Random, sources: Texts, targets: Texts) -> Planted:
    """Pairs that come again somewhere behind."""
    rows = sorted(random.choices(range(len(sources)), k=len(sources) // SHARE))
    return Planted(
        "duplicate",
        sources + [sources[row] for row in rows],
        targets + [targets[row] for row in rows],
        set(range(len(sources) + 1, len(sources) + len(rows) + 1)),
    )


def overlapping(random: Random, sources: Texts, targets: Texts) -> Planted:
    """A test set of which every other pair is from the training set, with other letters or endings now and then.

    What the two parts of the corpus share of themselves is left out of the test set.
    """
    middle = len(sources) * 9 // 10
    shared = {letters(text) for text in sources[:middle] + targets[:middle]}
    rest = zip(sources[middle:], targets[middle:], strict=True)
    test = [pair for pair in rest if not shared & set(map(letters, pair))]
    lines = set(range(1, len(test) + 1, 2))
    for line in lines:
        taken = random.randrange(middle)
        test[line - 1] = sources[taken], targets[taken]
        if random.random() < 0.5:
            test[line - 1] = sources[taken].upper(), targets[taken].rstrip(" .!?") + " …"
    train = sources[:middle], targets[:middle]
    return Planted("overlap", *train, lines, ([pair[0] for pair in test], [pair[1] for pair in test]))


def letters(text: str) -> str:
    """A sentence without case, punctuation and spaces."""
    return "".join(filter(str.isalnum, text.lower()))


def emptied(random: Random, source: str, target: str) -> tuple[str, str]:
    left = random.choice(["", " ", ".", "-", "…", "\u00a0"])
    return (left, target) if random.random() < 0.5 else (source, left)


def shortened(random: Random, source: str, target: str) -> tuple[str, str]:
    if random.random() < 0.5:
        return source[: max(5, len(source) // 5)], target
    return source, f"{target} {target.lower()} {target} {target}"


def torn(random: Random, source: str, target: str) -> tuple[str, str]:
    """Mark-up that was sound on both sides, and what careless tools make of it."""
    return random.choice(
        [
            (f"<b>{source}</b>", f"<b>{target}"),
            (f"<b>{source}</b>", target),
            (f"<i>{source}</i>", f"<i>{target}<i>"),
            (source, f"{target}</seg>"),
            (source, f"{target} &amp;quot;"),
            (f"{source} &nbsp", target),
            (source, f"& quot ; {target}"),
            (f'<a href="x.html">{source}</a>', f'<a href="x.html"{target}</a'),
            (source, f'{target} <font color="red'),
        ]
    )


def misread(random: Random, source: str, target: str) -> tuple[str, str]:
    """UTF-8 read as Latin-1 or Windows-1252, or written where there was no room for accents."""
    way = random.randrange(3)
    if way == 0:
        return source, target.encode().decode("latin-1")
    if way == 1:
        return source, target.encode().decode("cp1252", errors="replace")
    return source, target.encode("latin-1", errors="replace").decode(errors="replace")


def accented(source: str, target: str) -> bool:
    return any(letter in target for letter in "éèàêôûîïçœâù")


def controlled(random: Random, source: str, target: str) -> tuple[str, str]:
    letter = random.choice("\x00\x01\x07\x08\x0b\x0c\x1b\x7f\x85\x92\u2028\u2029\t\r\ufeff")
    place = random.randrange(1, len(target))
    return source, target[:place] + letter + target[place:]


def long_enough(source: str, target: str) -> bool:
    return min(len(source), len(target)) >= 30


PLANTS: dict[str, Plant] = {
    "shifted by one in a stretch": shifted,
    "a line too many": line_too_many,
    "shuffled stretch": misaligned,
    "swapped sides": changed("swapped", lambda random, source, target: (target, source)),
    "duplicates": duplicated,
    "near-empty": changed("empty", emptied, long_enough),
    "wrong script": changed(
        "script", lambda random, source, target: (source, target.lower().translate(random.choice([CYRILLIC, GREEK])))
    ),
    "length ratio": changed("length", shortened, long_enough),
    "mark-up damage": changed("markup", torn),
    "broken encoding": changed("encoding", misread, accented),
    "control characters": changed("control", controlled),
    "copied source": changed("copied", lambda random, source, target: (source, source)),
    "overlap of training and test": overlapping,
}
