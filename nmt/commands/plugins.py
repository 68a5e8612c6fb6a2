"""nmt-plugins: every component that a recipe can name."""

from __future__ import annotations

import argparse
import json
from typing import Any

from nmt.commands.command import Parser, run


def parser() -> Parser:
    """The command's options."""
    parser = Parser(
        "nmt-plugins", "List the installed components: kind, name, distribution, options, or what is wrong."
    )
    parser.add_argument("--json", action="store_true", help="give a JSON object for each component")
    return parser


def main() -> int:
    """The console script."""
    arguments = parser().parse_args()
    return run("nmt-plugins", lambda: _list(arguments))


def _list(arguments: argparse.Namespace) -> int:
    from nmt.registry import KINDS, available

    rows = [_described(kind, name) for kind in KINDS for name in available(kind)]
    if arguments.json:
        for row in rows:
            print(json.dumps(row, default=str))
        return 0
    table = [("KIND", "NAME", "DISTRIBUTION", "OPTIONS")]
    table += [(row["kind"], row["name"], row["distribution"], row["problem"] or _options(row)) for row in rows]
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    for line in table:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3]]).rstrip())
    return 0


def _described(kind: Any, name: str) -> dict[str, Any]:
    """A component's row; a broken one has a `problem` in the place of options."""
    from nmt.errors import UserError
    from nmt.options import defaults
    from nmt.registry import available, distribution, load

    owners = " and ".join(" ".join(distribution(point)) for point in available(kind)[name])
    row: dict[str, Any] = {"kind": kind.name, "name": name, "distribution": owners, "options": {}, "problem": ""}
    try:
        row["options"] = defaults(load(kind, name))
    except UserError as error:
        row["problem"] = f"broken: {error.problem}"
    return row


def _options(row: dict[str, Any]) -> str:
    return ", ".join(
        name if default is ... else f"{name}={_short(default)}" for name, default in row["options"].items()
    )


def _short(default: Any) -> str:
    from nmt.options import Choice

    return default.name if isinstance(default, Choice) else str(default)
