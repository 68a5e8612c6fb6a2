"""nmt-plugins check: whether components keep their contracts."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import EntryPoint
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
    arguments = parser().parse_intermixed_args(words)
    return run("nmt-plugins check", lambda: _check(arguments), plugins=not arguments.no_plugins)


def _check(arguments: argparse.Namespace) -> int:
    from nmt.errors import UserError
    from nmt.recipe_file import assignment
    from nmt.testing.imports import import_check

    components, whole = _chosen(arguments.name)
    options = {".".join(path): value for path, value in map(assignment, arguments.options)}
    if options and len(components) != 1:
        raise UserError(f"{arguments.name} is more than one component", "give options to one, such as cell/NAME")
    counts = Counter(kept=0, broken=0, unchecked=0)
    if whole:
        modules = [point.value.partition(":")[0].strip() for _, point in components]
        counts += _report(arguments.name, [import_check(modules)])
    for kind, point in components:
        counts += _component(kind, point, options)
    words = f"{counts['kept']} promises kept, {counts['broken']} broken"
    print(f"{words}, {counts['unchecked']} components not checked" if counts["unchecked"] else words)
    return 1 if counts["broken"] else 0


def _chosen(name: str) -> tuple[list[tuple[Kind, EntryPoint]], bool]:
    """The components called so, or else those of the distribution called so; whether it is a distribution.

    Raises UserError where there is neither, or where two distributions offer the component.
    """
    from nmt.errors import UserError
    from nmt.registry import offered_by, single

    try:
        components = named(name)
    except UserError as unknown:
        try:
            return offered_by(name), True
        except UserError:
            raise unknown from None
    return [(kind, single(kind, each)) for kind, each in components], False


def _component(kind: Kind, point: EntryPoint, options: dict[str, object]) -> Counter[str]:
    """Check one component; one that can't even be loaded has broken its first promise."""
    from nmt.errors import UserError
    from nmt.registry import imported
    from nmt.testing import checks, needs_options

    whose = f"{kind.name} {point.name}"
    try:
        component = imported(kind, point)
        needed = "" if options else needs_options(kind, component)
        if needed:
            print(f"{whose}: not checked without options: {needed}")
            return Counter(unchecked=1)
        promises = checks(kind, component, options)
    except UserError as error:
        print(f"{whose}\n  FAILED  it can be loaded: {error}")
        return Counter(broken=1)
    return _report(whose, promises)


def _report(whose: str, checks: Sequence[Check]) -> Counter[str]:
    """Run the checks until one fails, for later ones rely on earlier."""
    from nmt.testing import ContractError

    print(whose)
    for kept, check in enumerate(checks):
        try:
            check.run()
        except ContractError as error:
            print(f"  FAILED  {check.name}: {error}")
            return Counter(kept=kept, broken=1)
        print(f"  ok      {check.name}", flush=True)
    return Counter(kept=len(checks))
