"""Recipes as files: YAML 1.2 in, with errors that name file, line and column; YAML out, every default written.

The only reader of YAML in the package. What is read can't run code: only plain scalars, lists and mappings are built.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from nmt.bounded import read_bounded
from nmt.errors import UserError, visible
from nmt.options import Choice, OptionError, component_kind, dump, option_errors, resolve_fields
from nmt.recipe import Recipe
from nmt.registry import KINDS, THIS_PROCESS, names, only

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_NODES = 10_000
MAX_DIGITS = 100
INTEGER = "tag:yaml.org,2002:int"
NAME_AND_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]* [A-Za-z0-9][A-Za-z0-9.!+_-]*")
"""A distribution as run folders record it; what looks otherwise is not put into a command for people to copy."""

KeyPath = tuple[str | int, ...]


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in the file at `path` with ``key.key=value`` overrides applied, resolved and checked whole.

    Raises UserError with a line for each mistake: ``file:line:column: key.key: what is wrong; what to do``.
    """
    document = _Document(Path(path))
    for override in overrides:
        document.override(override)
    try:
        recipe = Recipe.model_validate(document.data)
        with only(recipe.plugins):
            return recipe.model_copy(update=resolve_fields(recipe))
    except pydantic.ValidationError as error:
        lines = [document.error(each) for each in option_errors(error, Recipe)]
        raise UserError("\n".join(dict.fromkeys(lines))) from error
    except OptionError as error:
        raise UserError(document.error(error)) from error


def read_run(folder: Path) -> Recipe:
    """The recipe of a run. Where a component of its model isn't installed, the error says whose it was."""
    try:
        return read_recipe(folder / "recipe.yaml")
    except UserError as error:
        needed = _needed(folder / "environment.json")
        if not needed:
            raise
        owners = " and ".join(f"the {component} of {owner}" for component, owner in needed.items())
        packages = sorted({"==".join(owner.split()) for owner in needed.values() if owner != THIS_PROCESS})
        remedies = [f"pip install {' '.join(packages)}"] if packages else []
        if THIS_PROCESS in needed.values():
            owners = owners.replace(THIS_PROCESS, "the process that trained it")
            remedies.append("register what that process registered")
        problem = f"the model needs {owners}, not installed here"
        raise UserError(problem, ", and ".join(remedies), place=str(folder)) from error


def _needed(environment: Path) -> dict[str, str]:
    """Components that a run was made with and that are missing here, with their distributions and versions."""
    try:
        recorded = json.loads(read_bounded(environment, MAX_BYTES))["components"]
        named = {f"{kind.name} {name}" for kind in KINDS for name in names(kind)}
        return {
            component: owner
            for component, owner in recorded.items()
            if component not in named and (owner == THIS_PROCESS or NAME_AND_VERSION.fullmatch(owner))
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # not there, or not as we write it
        return {}


def assignment(words: str) -> tuple[tuple[str, ...], Any]:
    """``key.key=value`` as a path and a value, which is read as YAML. Raises UserError."""
    key, equals, text = words.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise UserError(f"{words!r} sets nothing", "write it as key=value, such as train.updates=100")
    try:
        return path, _yaml().load(text)
    except YAMLError as error:
        raise UserError(f"{words}: the value is no valid YAML", "put it in quotes") from error


def write_recipe(recipe: Recipe) -> str:
    """The recipe as YAML with every default written out; `read_recipe` gives the same recipe again."""
    yaml = _yaml()
    yaml.default_flow_style = False
    stream = io.StringIO()
    yaml.dump(as_data(recipe), stream)
    return stream.getvalue()


def as_data(section: pydantic.BaseModel) -> dict[str, Any]:
    """A section as plain data, in a recipe's own form."""
    plain: dict[str, Any] = {}
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        kind = component_kind(info)
        if kind is not None and isinstance(value, Choice):
            value = dump(kind, value)
        elif isinstance(value, pydantic.BaseModel):
            value = as_data(value)
        plain[name] = _lists(value)
    return plain


def _lists(value: Any) -> Any:
    """Tuples as lists, all the way down: YAML knows no other sequence."""
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _yaml() -> YAML:
    return YAML(typ="safe", pure=True)


class _Document:
    """A YAML file as plain data, together with where each key of it stands."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._overridden: dict[KeyPath, str] = {}
        text = self._read()
        try:
            self._check_depth(text)
            self._root: Node | None = _yaml().compose(text)
            self._check_nodes()
            self.data: Any = _yaml().load(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
            problem = (error.problem or error.context or "no valid YAML").strip().splitlines()[0]
            raise UserError(problem, "mend the YAML", place=place) from error
        except (YAMLError, ValueError) as error:
            raise UserError(f"no valid YAML ({str(error).splitlines()[0]})", place=str(path)) from error
        if not isinstance(self.data, dict):
            raise UserError("a recipe is a mapping of keys to values", "see recipes/ for examples", place=str(path))

    def _read(self) -> str:
        try:
            with self._path.open("rb") as file:  # perhaps a pipe, whose size nobody knows
                content = file.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise UserError("a recipe has at most 1 MB", place=str(self._path))
            return content.decode("utf-8-sig")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"can't be read ({reason})", "check the path", place=str(self._path)) from error
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            column = error.start - error.object.rfind(b"\n", 0, error.start)
            place = f"{self._path}:{line}:{column}"
            raise UserError("no valid UTF-8", "save the file as UTF-8", place=place) from error

    def _check_depth(self, text: str) -> None:
        """Refuse deep nesting from the parser's events, before the recursive composer sees it."""
        depth = events = 0
        for event in _yaml().parse(text):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            events += not isinstance(event, CollectionEndEvent | AliasEvent)
            if depth > MAX_DEPTH or events > MAX_NODES:
                self._refuse_size(event.start_mark)

    def _check_nodes(self) -> None:
        """Refuse documents that grow beyond the limits through their aliases."""
        sizes: dict[int, tuple[int, int]] = {}

        def measure(node: Node | None, above: frozenset[int]) -> tuple[int, int]:
            if id(node) in above:
                self._refuse_size(node.start_mark if node else None)
            if isinstance(node, ScalarNode) and node.tag == INTEGER and len(node.value) > MAX_DIGITS:
                self._refuse(f"a number has at most {MAX_DIGITS} digits", node.start_mark)
            if id(node) not in sizes:
                inner = [measure(child, above | {id(node)}) for child in _children(node)]
                sizes[id(node)] = (1 + sum(n for n, _ in inner), 1 + max((d for _, d in inner), default=0))
            return sizes[id(node)]

        nodes, depth = measure(self._root, frozenset())
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            self._refuse_size(None)

    def _refuse_size(self, mark: Any) -> None:
        limits = f"at most {MAX_DEPTH} levels deep and has at most {MAX_NODES:,} nodes, aliases counted"
        self._refuse(f"a recipe is {limits}", mark)

    def _refuse(self, problem: str, mark: Any) -> None:
        place = f"{self._path}:{mark.line + 1}:{mark.column + 1}" if mark else str(self._path)
        raise UserError(problem, place=place)

    def override(self, override: str) -> None:
        """Set one key from ``key.key=value``; the value is read as YAML."""
        path, value = assignment(override)
        section = self.data
        for part in path[:-1]:
            inner = section.get(part)
            if isinstance(inner, str):  # a component named without options, about to get one
                inner = {"type": inner}
            section[part] = {} if inner is None else dict(inner) if isinstance(inner, dict) else inner
            section = section[part]
            if not isinstance(section, dict):
                raise UserError(f"{override}: {part} has no keys of its own")
        section[path[-1]] = value
        self._overridden[path] = override

    def error(self, error: OptionError) -> str:
        """One line for an error: its place in the file (or the override it came from), its key, what and remedy."""
        path = self._existing(error.path)
        key = ".".join(str(part) for part in path)
        problem = f"{key}: {error.problem}" if key else error.problem
        return str(UserError(visible(problem), visible(error.remedy), place=self._place(path)))

    def _existing(self, path: KeyPath) -> KeyPath:
        """`path` without what a validator adds to it (the tags of unions), which is not in the file."""
        data, kept = self.data, []
        for index, part in enumerate(path):
            if isinstance(data, dict) and (part in data or index == len(path) - 1):
                data = data.get(part)
            elif isinstance(data, list) and isinstance(part, int) and part < len(data):
                data = data[part]
            else:
                continue
            kept.append(part)
        return tuple(kept)

    def _place(self, path: KeyPath) -> str:
        for overridden, override in reversed(self._overridden.items()):
            if overridden[: len(path)] == path or path[: len(overridden)] == overridden:
                return f"override {override}"
        mark = self._root.start_mark if self._root else None
        node = self._root
        for part in path:
            key = next((key for key, _ in _pairs(node) if key.value == str(part)), None)
            if key is None:
                break
            mark, node = key.start_mark, {k.value: v for k, v in _pairs(node)}[str(part)]
        return f"{self._path}:{mark.line + 1}:{mark.column + 1}" if mark else str(self._path)


def _pairs(node: Node | None) -> list[tuple[Node, Node]]:
    return list(node.value) if isinstance(node, MappingNode) else []


def _children(node: Node | None) -> list[Node]:
    if isinstance(node, SequenceNode):
        return list(node.value)
    return [child for pair in _pairs(node) for child in pair]
