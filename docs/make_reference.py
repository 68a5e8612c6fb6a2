"""Writes docs/recipe.md from the recipe's own classes and the built-in components: python docs/make_reference.py."""

from __future__ import annotations

import inspect
import re
import typing
from pathlib import Path
from typing import Any

import pydantic

from nmt.options import Choice, component_kind, schema
from nmt.recipe import Recipe
from nmt.registry import KINDS, Kind, available, load, only

HEAD = """\
# The recipe, key by key

Made by `python docs/make_reference.py` from the classes that read a recipe; the test suite holds it up to date.

A recipe is YAML 1.2, read top to bottom: no includes, no inheritance, no interpolation. Every key has a default
unless "required" stands there, and the run's folder gets the recipe with all of them written out. Keys can be
overridden on the command line:

    nmt-train RECIPE train.updates=100 model.encoder.cell=gru 'train.schedule={type: plateau}'

A component is a name (`cell: lstm`) or a mapping (`cell: {type: lstm, forget_bias: 1.0}`).
"""


def sections(model: type[pydantic.BaseModel], path: str) -> list[str]:
    """The table of a section, and those of the sections below it."""
    lines = [f"\n## {path or 'At the top'}\n", first(model), "\n| key | default | |", "| --- | --- | --- |"]
    below: list[str] = []
    for name, info in model.model_fields.items():
        inner = [
            part for part in parts(info.annotation) if inspect.isclass(part) and issubclass(part, pydantic.BaseModel)
        ]
        lines.append(f"| `{name}` | {default(info)} | {text(info.description or '')}{choices(info)} |")
        for section in inner:
            tag = section.model_fields.get("type")
            label = f" of type {typing.get_args(tag.annotation)[0]}" if len(inner) > 1 and tag else ""
            below += sections(section, f"{path}.{name}{label}".lstrip("."))
    return [*lines, *below]


def components(kind: Kind) -> list[str]:
    """The built-in components of a kind with their options."""
    lines = [f"\n## {kind.name.capitalize()}s\n", f"Named by the key `{kind.key}`; entry points `{kind.group}`."]
    for name in available(kind):
        component = load(kind, name)
        lines += [f"\n### {name}\n", inspect.cleandoc(component.__doc__ or "").strip()]
        options = schema(component).model_fields
        if options:
            lines += ["\n| option | default | |", "| --- | --- | --- |"]
            lines += [f"| `{key}` | {default(info)} | {choices(info).strip()} |" for key, info in options.items()]
    return lines


def parts(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) or (annotation,)


def first(model: type[pydantic.BaseModel]) -> str:
    return text(inspect.cleandoc(model.__doc__ or ""))


def text(words: str) -> str:
    return re.sub(r"\s+", " ", words).replace("|", "\\|").strip()


def default(info: pydantic.fields.FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.default
    if isinstance(value, pydantic.BaseModel):
        return "see below"
    if isinstance(value, Choice):
        return f"`{value.name}`"
    return "none" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def choices(info: pydantic.fields.FieldInfo) -> str:
    """What may stand there, where that is a list of words or a kind of component."""
    kind = component_kind(info)
    if kind is not None:
        return f" ({kind.name}: {', '.join(f'`{name}`' for name in available(kind))})"
    words = [value for part in (info.annotation, *parts(info.annotation)) for value in literal(part)]
    return f" ({', '.join(f'`{word}`' for word in dict.fromkeys(words))})" if words else ""


def literal(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()


def reference() -> str:
    with only(()):  # what is installed besides differs from machine to machine
        lines = [HEAD, *sections(Recipe, "")]
        for kind in KINDS:
            lines += components(kind)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("recipe.md").write_text(reference(), encoding="utf-8")
