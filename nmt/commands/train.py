"""nmt-train: a recipe becomes a model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nmt.commands.command import Parser, add_plugins_option, positive, run

EPILOG = """\
Keys of the recipe are overridden behind it:
  nmt-train recipes/en-fr.yaml train.updates=100 model.encoder.cell=gru
The same command again goes on from the newest checkpoint. With another recipe it is refused, key by key; to train
longer, or keep or show something else, name the keys that may change:
  nmt-train recipes/en-fr.yaml train.updates=40000 --accept train.updates
Ctrl-C and SIGTERM save and leave (exit codes 130 and 143).
On a terminal there is a progress bar; otherwise each report is a JSON line. Both are in the folder's metrics.jsonl.
"""


def parser() -> Parser:
    """The command's options."""
    parser = Parser("nmt-train", "Train a translation model as a recipe describes it.", EPILOG)
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings that take precedence")
    parser.add_argument("--out", metavar="DIR", help="folder of the run (default: runs/NAME)")
    parser.add_argument(
        "--accept", metavar="KEYS", default="", help="harmless keys that may differ from the folder's recipe: A,B"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--check", action="store_true", help="check the recipe, its components and files; train nothing"
    )
    instead.add_argument(
        "--profile",
        type=positive,
        nargs="?",
        const=20,
        metavar="UPDATES",
        help="tell where the time of so many updates goes (20 unless given); write profile.json and trace.json, "
        "for chrome://tracing, into DIR (default: profiles/NAME); leave no model",
    )
    add_plugins_option(parser)
    return parser


def main() -> int:
    """The console script."""
    arguments = parser().parse_intermixed_args()  # overrides may stand behind options
    body = _check if arguments.check else _profile if arguments.profile else _train
    return run("nmt-train", lambda: body(arguments), plugins=not arguments.no_plugins)


def _check(arguments: argparse.Namespace) -> int:
    from nmt.recipe_file import read_recipe
    from nmt.training.check import check

    recipe = read_recipe(arguments.recipe, arguments.overrides)
    check(recipe)
    print(f"{arguments.recipe}: all is well")
    return 0


def _profile(arguments: argparse.Namespace) -> int:
    from nmt.recipe_file import read_recipe
    from nmt.training.profiling import profile

    recipe = read_recipe(arguments.recipe, arguments.overrides)
    out = Path(arguments.out) if arguments.out else Path("profiles") / recipe.name
    print(profile(recipe, arguments.profile, out).table())
    print(f"nmt-train: the profile is in {out}", file=sys.stderr)
    return 0


def _train(arguments: argparse.Namespace) -> int:
    from nmt.training.run import train
    from nmt.training.stopping import StoppedError

    out = Path(arguments.out) if arguments.out else None
    accept = [key.strip() for key in arguments.accept.split(",") if key.strip()]
    try:
        folder = train(arguments.recipe, arguments.overrides, out=out, accept=accept)
    except StoppedError as stopped:
        print(f"nmt-train: {stopped}: saved; the same command goes on from here", file=sys.stderr)
        return stopped.exit_code
    print(f"nmt-train: the model is in {folder}", file=sys.stderr)
    return 0
