"""nmt-plugins check: whether components keep their contracts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nmt.commands.command import Parser, add_plugins_option, run
from nmt.commands.plugins_show import named

if TYPE_CHECKING:
    from nmt.registry import Kind
    from nmt.testing import Check

EPILOG = """\
  nmt-plugins check mgu                        a component, by its name in recipes
  nmt-plugins check nmt-mgu                    all that a distribution registers, and its import
  nmt-plugins check cell/elman nonlinearity=relu   with options
Exit code 1 where something is broken.
"""


def parser() -> Parser:
    """The action's options."""
    parser = Parser("nmt-plugins check", "Check components against their contracts, as nmt.testing does.", EPILOG)
    parser.add_argument("name", metavar="NAME", help="a component, kind/component, or a distribution")
    parser.add_argument("options", nargs="*", metavar="OPTION=VALUE", help="options of the component")
    add_plugins_option(parser)
    return parser


def main(words: Sequence[str]) -> int:
    """The action."""
    arguments = parser().parse_args(words)
    return run("nmt-plugins check", lambda: _check(arguments), plugins=not arguments.no_plugins)


def _check(arguments: argparse.Namespace) -> int:
    from nmt.errors import UserError
    from nmt.recipe_file import assignment
    from nmt.registry import load
    from nmt.testing import checks, needs_options

    components, sound = _chosen(arguments.name), True
    options = {".".join(path): value for path, value in map(assignment, arguments.options)}
    if options and len(components) != 1:
        raise UserError(f"{arguments.name} is more than one component", "give options to one, such as cell/NAME")
    if arguments.name not in {name for _, name in components}:
        sound = _report(arguments.name, [_import_of(components)])
    for kind, name in components:
        component = load(kind, name)
        needed = "" if options else needs_options(kind, component)
        if needed:
            print(f"{kind.name} {name}: not checked without options: {needed}")
        else:
            sound = _report(f"{kind.name} {name}", checks(kind, component, options)) and sound
    return 0 if sound else 1


def _chosen(name: str) -> list[tuple[Kind, str]]:
    """The components called so, or else those of the distribution called so."""
    from nmt.errors import UserError
    from nmt.registry import offered_by

    try:
        return named(name)
    except UserError as unknown:
        try:
            return [(kind, point.name) for kind, point in offered_by(name)]
        except UserError:
            raise unknown from None


def _import_of(components: Sequence[tuple[Kind, str]]) -> Check:
    from nmt.registry import available
    from nmt.testing.imports import import_check

    return import_check([available(kind)[name][0].module for kind, name in components])


def _report(whose: str, checks: Sequence[Check]) -> bool:
    """Run the checks until one fails, for later ones rely on earlier; whether all hold."""
    from nmt.testing import ContractError

    print(whose)
    for check in checks:
        try:
            check.run()
        except ContractError as error:
            print(f"  FAILED  {check.name}: {error}")
            return False
        print(f"  ok      {check.name}")
    return True
