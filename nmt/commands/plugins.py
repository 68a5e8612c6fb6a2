"""nmt-plugins: the components that a recipe can name, and what helps in writing new ones."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from nmt.commands.command import Parser, add_plugins_option, run

if TYPE_CHECKING:
    from nmt.registry import Kind

PATIENCE = 3.0
"""Seconds that the listing waits for a component to be imported."""

EPILOG = """\
Further actions, each with --help:
  nmt-plugins show NAME       a component's formula, options, source and distribution
  nmt-plugins check NAME      whether a component, or all of a distribution, keeps its contract
  nmt-plugins new NAME        write a plugin project to begin with: for a cell, attention, encoder, decoder or corpus
"""


def parser() -> Parser:
    """The options of the listing."""
    parser = Parser(
        "nmt-plugins", "List the installed components: kind, name, distribution, options, or what is wrong.", EPILOG
    )
    parser.add_argument("--json", action="store_true", help="give a JSON object for each component")
    add_plugins_option(parser)
    return parser


def main() -> int:
    """The console script."""
    words = sys.argv[1:]
    if not words or words[0].startswith("-"):
        arguments = parser().parse_args()
        return run("nmt-plugins", lambda: _list(arguments), plugins=not arguments.no_plugins)
    from nmt.commands import plugins_check, plugins_new, plugins_show
    from nmt.errors import did_you_mean

    actions = {"show": plugins_show.main, "check": plugins_check.main, "new": plugins_new.main}
    if words[0] not in actions:
        parser().error(f"no action {words[0]!r}; {did_you_mean(words[0], actions)}")
    return actions[words[0]](words[1:])


def _list(arguments: argparse.Namespace) -> int:
    from nmt.registry import KINDS, available

    hanging: set[str] = set()
    rows = [_described(kind, name, points, hanging) for kind in KINDS for name, points in available(kind).items()]
    if arguments.json:
        for row in rows:
            print(json.dumps(row, default=_short))
        return 0
    table = [("KIND", "NAME", "DISTRIBUTION", "OPTIONS")]
    table += [(row["kind"], row["name"], row["distribution"], row["problem"] or _options(row)) for row in rows]
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    for line in table:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3]]).rstrip())
    return 0


def _described(kind: Kind, name: str, points: list[EntryPoint], hanging: set[str]) -> dict[str, Any]:
    """A component's row; a broken one has a `problem` in the place of options."""
    from nmt.errors import UserError
    from nmt.options import defaults
    from nmt.registry import distribution

    owners = " and ".join(" ".join(distribution(point)) for point in points)
    row: dict[str, Any] = {"kind": kind.name, "name": name, "distribution": owners, "options": {}, "problem": ""}
    try:
        if len(points) > 1:
            raise UserError("two distributions offer this name")
        row["options"] = defaults(_imported_in_time(kind, points[0], hanging))
    except UserError as error:
        row["problem"] = f"broken: {error.problem}"
    return row


def _imported_in_time(kind: Kind, point: EntryPoint, hanging: set[str]) -> type:
    """The component, imported beside: one that hangs must not keep the others from being listed.

    `hanging` are the modules that are waited for no more.
    """
    from threading import Thread

    from nmt.errors import UserError
    from nmt.registry import imported

    module = point.value.partition(":")[0]
    kind.base()  # what everyone imports doesn't count
    outcome: list[type | UserError] = []

    def attempt() -> None:
        try:
            outcome.append(imported(kind, point))
        except UserError as error:
            outcome.append(error)

    thread = Thread(target=attempt, daemon=True)
    if module not in hanging:
        thread.start()
        thread.join(PATIENCE)
    if not outcome:
        hanging.add(module)
        raise UserError(f"not imported within {PATIENCE:.0f} seconds")
    if isinstance(outcome[0], UserError):
        raise outcome[0]
    return outcome[0]


def _options(row: dict[str, Any]) -> str:
    return ", ".join(
        name if default is ... else f"{name}={_short(default)}" for name, default in row["options"].items()
    )


def _short(default: Any) -> str:
    from nmt.options import Choice

    if default is ...:
        return "required"
    return default.name if isinstance(default, Choice) else str(default)
