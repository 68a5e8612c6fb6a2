"""nmt-plugins show: all there is to know of a component."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nmt.commands.command import Parser, add_plugins_option, run

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from nmt.registry import Kind


def parser() -> Parser:
    """The action's options."""
    parser = Parser("nmt-plugins show", "Show a component: formula, options, where it comes from, how it runs.")
    parser.add_argument("name", metavar="NAME", help="as a recipe names it, such as gru, or cell/gru")
    parser.add_argument("--json", action="store_true", help="give one JSON object")
    add_plugins_option(parser)
    return parser


def main(words: Sequence[str]) -> int:
    """The action."""
    arguments = parser().parse_args(words)
    return run("nmt-plugins show", lambda: _show(arguments), plugins=not arguments.no_plugins)


def _show(arguments: argparse.Namespace) -> int:
    found = [_facts(kind, name) for kind, name in named(arguments.name)]
    if arguments.json:
        print(json.dumps(found if len(found) > 1 else found[0], default=str))
        return 0
    print("\n\n".join(_page(facts) for facts in found))
    return 0


def named(words: str) -> list[tuple[Kind, str]]:
    """Every component called so: ``name`` or ``kind/name``. Raises UserError where there is none."""
    from nmt.errors import UserError, did_you_mean
    from nmt.registry import KINDS, available

    wanted, _, name = words.rpartition("/")
    kinds = [kind for kind in KINDS if wanted in ("", kind.name)]
    if not kinds:
        remedy = did_you_mean(wanted, [kind.name for kind in KINDS])
        raise UserError(f"no kind of component is called {wanted!r}", remedy)
    found = [(kind, name) for kind in kinds if name in available(kind)]
    if not found:
        known = {each for kind in kinds for each in available(kind)}
        raise UserError(f"no {wanted or 'component'} named {name!r} is installed", did_you_mean(name, known))
    return found


def _facts(kind: Kind, name: str) -> dict[str, Any]:
    from nmt.options import schema
    from nmt.registry import distribution, imported, single

    point = single(kind, name)
    component = imported(kind, point)
    pages = [
        page
        for key in ("Home-page", "Project-URL")
        for page in (point.dist.metadata.get_all(key) if point.dist else None) or []
    ]
    source = inspect.getsourcefile(component)
    return {
        "kind": kind.name,
        "name": name,
        "recipe": f"{kind.name if kind.key == 'type' else kind.key}: {name}",
        "distribution": " ".join(distribution(point)),
        "page": next((page.rpartition(", ")[2] for page in pages), ""),
        "class": point.value,
        "source": f"{source}:{inspect.getsourcelines(component)[1]}" if source else "",
        "speed": _speed(kind, component),
        "description": inspect.getdoc(component) or "",
        "options": {option: _option(info) for option, info in schema(component).model_fields.items()},
    }


def _speed(kind: Kind, component: type) -> str:
    """How a cell runs along time; nothing for what is no cell."""
    from nmt.registry import CELL

    if kind != CELL:
        return ""
    base = kind.base()
    methods = ("unroll", "project")
    own = {method for method in methods if inspect.getattr_static(component, method) is not vars(base)[method]}
    if "unroll" in own:
        return "all steps by a way of its own (unroll)"
    return "a loop of steps" + (", the input projected for all at once (project)" if own else "")


def _option(info: FieldInfo) -> dict[str, Any]:
    """What an option takes, and its default where it has one."""
    from nmt.options import Choice, component_kind

    kind = component_kind(info)
    default = info.default.name if isinstance(info.default, Choice) else info.default
    bounds = [words for words in map(_bound, info.metadata) if words]
    takes = f"a {kind.name}" if kind else ", ".join([_type(info.annotation), *bounds])
    return {"takes": takes} if info.is_required() else {"takes": takes, "default": default}


def _type(annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(map(str, typing.get_args(annotation)))
    return annotation.__name__ if inspect.isclass(annotation) else str(annotation).replace("typing.", "")


def _bound(bound: Any) -> str:
    """Of annotated_types' Gt, Ge, Lt and Le: ``above 0``."""
    words = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}
    limits = dataclasses.asdict(bound) if dataclasses.is_dataclass(bound) and not inspect.isclass(bound) else {}
    return " ".join(f"{words[name]} {value}" for name, value in limits.items() if name in words)


def _page(facts: dict[str, Any]) -> str:
    lines = [f"{facts['name']} ({facts['kind']})", "", facts["description"], ""]
    for option, what in facts["options"].items():
        default = f" (default: {what['default']})" if "default" in what else " (required)"
        lines.append(f"  {option}: {what['takes']}{default}")
    lines += [""] if facts["options"] else []
    rows = {"in a recipe": "recipe", "from": "distribution", "page": "page", "defined in": "source", "runs as": "speed"}
    lines += [f"{label:12} {facts[key]}" for label, key in rows.items() if facts[key]]
    return "\n".join(lines)
