"""nmt-average: one model out of several checkpoints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nmt.commands.command import Parser, positive, run

EPILOG = """\
By default all checkpoints of the run are averaged (train.keep_best and train.keep_last say how many those are);
--last N takes the N newest. The result is a checkpoint folder `average` in the run:
  nmt-translate runs/NAME/average
"""


def parser() -> Parser:
    """The command's options."""
    parser = Parser("nmt-average", "Average the weights of a run's checkpoints.", EPILOG)
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--last", type=positive, metavar="N", help="only the N newest")
    parser.add_argument("--json", action="store_true", help="give one JSON object")
    return parser


def main() -> int:
    """The console script."""
    arguments = parser().parse_args()
    return run("nmt-average", lambda: _average(arguments))


def _average(arguments: argparse.Namespace) -> int:
    from nmt import checkpoints
    from nmt.training.averaging import average

    folder = Path(arguments.run)
    chosen = checkpoints.listed(folder)[-(arguments.last or 0) :]
    written = average(folder, chosen)
    names = [path.name for path in chosen]
    if arguments.json:
        print(json.dumps({"averaged": names, "written": str(written)}))
    else:
        print(f"{written}: the mean of {', '.join(names)}")
    return 0
