"""Counts the lines whose translation depends on the batch: sizes 1, 16 and 200, and shuffled order.

    python benchmarks/batch_independence.py MODEL SOURCE [--beam 5] [--limit N]

Sentences are given to the translator in groups of each size, in the file's order and shuffled, and each group is one
batch. Printed is how many lines differ from those of batches of 200, and by how much scores differ at most.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence

from nmt.recipe import Search
from nmt.text.lines import InvalidLines, read_lines
from nmt.translator import Translator

EVERYTHING = 10**9


def translated(translator: Translator, lines: Sequence[str], size: int, search: Search) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for start in range(0, len(lines), size):
        group = translator.translations(lines[start : start + size], search=search, batch_tokens=EVERYTHING)
        found += [(best.text, best.score) for best, *_ in group]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("source")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    translator = Translator.load(arguments.model)
    search = translator.search.model_copy(update={"beam": arguments.beam})
    lines = [line or "" for line in read_lines(arguments.source, invalid="replace", counts=InvalidLines())]
    lines = lines[: arguments.limit]
    reference = translated(translator, lines, 200, search)
    shuffled = random.Random(1).sample(range(len(lines)), len(lines))
    print("| batches of | order | lines | different | greatest difference of scores |\n| --- | --- | --- | --- | --- |")
    for size, order in ((1, range(len(lines))), (16, range(len(lines))), (200, shuffled)):
        found = dict(zip(order, translated(translator, [lines[i] for i in order], size, search), strict=True))
        different = sum(found[i][0] != reference[i][0] for i in range(len(lines)))
        drift = max(abs(found[i][1] - reference[i][1]) for i in range(len(lines)))
        name = "shuffled" if order is shuffled else "as it is"
        print(f"| {size} | {name} | {len(lines)} | {different} | {drift:.2g} |")
        print(json.dumps({"batch": size, "order": name, "lines": len(lines), "different": different, "drift": drift}))


if __name__ == "__main__":
    main()
