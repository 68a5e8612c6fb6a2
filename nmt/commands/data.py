"""nmt-data: what is wrong with the sentence pairs of a corpus; and what else can be learnt from them."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from nmt.commands.command import Parser, add_plugins_option, positive, run
from nmt.errors import UserError

if TYPE_CHECKING:
    from nmt.text.inspection.inspection import Inspected, PairSet

SHOWN = 10

EPILOG = """\
  nmt-data check train.en train.fr --test test.en test.fr
  nmt-data check recipes/en-fr.yaml
Two files (plain, .gz or .xz; also of different length), or a recipe: all its sets. The first set says what is usual;
the others are judged by it, and searched for what stands in both. It finds lines that are shifted, misaligned,
swapped, duplicate, nearly empty, in a wrong script, much too long or short, copied, with damaged mark-up or encoding,
or with control characters; docs/data-check.md describes them. A line for each finding, with an excerpt:
  train.en:17: length: the target is 3.2 times as long as usual for its source; look whether ...
--json gives one object: {"sets": [{"name", "source_lines", "target_lines", "notes", "counts": {KIND: {"findings",
"lines"}}, "findings": [{"kind", "first", "last", "problem", "remedy", "source", "target"}]}]}.
Exit code 0: nothing found; 1: something found; 2: a file or recipe is no such thing.
A further action, with --help of its own:
  nmt-data shortlist RUN      build the vocabulary shortlist of a run, for faster translating
"""


def parser() -> Parser:
    """The command's options."""
    parser = Parser("nmt-data", "Check sentence pairs, without knowing their languages.", EPILOG)
    parser.add_argument("action", choices=["check"], help="what to do")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a source and a target file, or one recipe")
    parser.add_argument(
        "--test",
        nargs=2,
        action="append",
        default=[],
        metavar=("SOURCE", "TARGET"),
        help="another set, which may share nothing with the first; can be given several times",
    )
    parser.add_argument(
        "--show", type=positive, default=SHOWN, metavar="N", help=f"findings of each kind to show (default: {SHOWN})"
    )
    parser.add_argument("--json", action="store_true", help="give one JSON object")
    add_plugins_option(parser)
    return parser


def main() -> int:
    """The console script."""
    words = sys.argv[1:]
    if words and words[0] != "check" and not words[0].startswith("-"):
        from nmt.commands import data_shortlist
        from nmt.errors import did_you_mean

        if words[0] != "shortlist":
            parser().error(f"no action {words[0]!r}; {did_you_mean(words[0], ['check', 'shortlist'])}")
        return data_shortlist.main(words[1:])
    arguments = parser().parse_args()
    return run("nmt-data", lambda: _check(arguments), plugins=not arguments.no_plugins)


def _check(arguments: argparse.Namespace) -> int:
    from nmt.text.inspection.inspection import inspect

    sets = _sets(arguments.paths, arguments.test)
    results = inspect(sets, show=arguments.show)
    records = [_record(each, result) for each, result in zip(sets, results, strict=True)]
    if arguments.json:
        print(json.dumps({"sets": records}, ensure_ascii=False))
    else:
        for record in records:
            _show(record)
    return 1 if any(result.found.anything for result in results) else 0


def _sets(paths: list[str], tests: list[list[str]]) -> list[PairSet]:
    """The sets that the command line names, what the others are compared with first."""
    from nmt.text.inspection.reading import files_as_set, recipe_as_sets

    if len(paths) > 2:
        raise UserError(f"{len(paths)} paths", "give a source and a target file, or one recipe")
    if len(paths) == 1 and not paths[0].endswith((".yaml", ".yml")):
        raise UserError("a source file without its target", "give both, or a recipe (.yaml)", place=paths[0])
    sets = recipe_as_sets(paths[0]) if len(paths) == 1 else [files_as_set(paths[0], paths[1])]
    return sets + [files_as_set(source, target) for source, target in tests]


def _record(pair_set: PairSet, result: Inspected) -> dict[str, Any]:
    """A set and its findings as --json gives them."""
    from nmt.text.inspection.findings import KINDS, REMEDIES
    from nmt.text.inspection.reading import excerpts

    found = result.found
    order = [kind.name for kind in KINDS if kind.name in found.totals]
    listed = [finding for kind in order for finding in found.findings[kind]]
    texts = excerpts(pair_set, [finding.first for finding in listed])
    return {
        "name": result.name,
        "source_lines": result.source_lines,
        "target_lines": result.target_lines,
        "notes": list(result.notes),
        "counts": {kind: {"findings": found.totals[kind], "lines": len(found.lines_of(kind))} for kind in order},
        "findings": [
            {
                "kind": finding.kind,
                "first": finding.first,
                "last": finding.last,
                "problem": finding.problem,
                "remedy": REMEDIES[finding.kind],
                "source": texts[finding.first][0],
                "target": texts[finding.first][1],
            }
            for finding in listed
        ],
    }


def _show(record: dict[str, Any]) -> None:
    """A set and its findings for people."""
    name, counts = record["name"], record["counts"]
    for finding in record["findings"]:
        first, last = finding["first"], finding["last"]
        place = f"{name}:{first}" + (f"-{last}" if last > first else "")
        print(f"{place}: {finding['kind']}: {finding['problem']}; {finding['remedy']}")
        print(f"    source: {finding['source']}\n    target: {finding['target']}")
    for note in record["notes"]:
        print(f"{name}: note: {note}")
    lines = record["source_lines"]
    summary = [f"{count['findings']:,} {kind} ({count['lines']:,} lines)" for kind, count in counts.items()]
    print(f"{name}: {lines:,} lines: {', '.join(summary) or 'nothing found'}")
