"""nmt-plugins new: a plugin project to begin with."""

from __future__ import annotations

import argparse
import importlib.resources
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from nmt.commands.command import Parser, run

if TYPE_CHECKING:
    from nmt.registry import Kind

KINDS = ("cell", "attention", "encoder", "decoder", "corpus")
USAGE = {
    "cell": "encoder: {type: recurrent, cell: $name}",
    "attention": "decoder: {type: recurrent, attention: $name}",
    "encoder": "encoder: {type: $name}",
    "decoder": "decoder: {type: $name}",
    "corpus": "train: {corpus: $name, path: train.tsv}",
}
EPILOG = """\
  nmt-plugins new my-cell                      writes nmt-my-cell/, a project that passes its own tests
  nmt-plugins new my-attention --kind attention
"""


def parser() -> Parser:
    """The action's options."""
    parser = Parser(
        "nmt-plugins new", "Write a plugin project: installable, typed, tested, ready to be changed.", EPILOG
    )
    parser.add_argument("name", metavar="NAME", help="what recipes will call it: small letters, digits, hyphens")
    parser.add_argument("--kind", choices=KINDS, default="cell", help="what it adds (default: cell)")
    parser.add_argument("--out", metavar="DIR", default=".", help="where the project's folder goes (default: here)")
    return parser


def main(words: Sequence[str]) -> int:
    """The action."""
    arguments = parser().parse_args(words)
    return run("nmt-plugins new", lambda: _new(arguments))


def _new(arguments: argparse.Namespace) -> int:
    from nmt.errors import UserError
    from nmt.registry import KINDS as KINDS_OF_COMPONENTS

    name = arguments.name.removeprefix("nmt-")
    (kind,) = (each for each in KINDS_OF_COMPONENTS if each.name == arguments.kind)
    _expect_free(kind, name)
    folder = Path(arguments.out) / f"nmt-{name}"
    if folder.exists() or folder.is_symlink():
        raise UserError("is there already", "choose another name, or remove it", place=str(folder))
    if not folder.parent.is_dir():
        raise UserError("no such folder", "make it first", place=str(folder.parent))
    _write(_files(kind, name), folder)
    print(f"{folder}: {_article(kind.name)} {kind.name} called {name}. Next:")
    print(f"  cd {folder}\n  pip install -e '.[test]'\n  pytest\n  nmt-plugins show {name}")
    return 0


def _expect_free(kind: Kind, name: str) -> None:
    """Raise UserError where no project can be called so, or a component is already."""
    from importlib.metadata import PackageNotFoundError, version

    from nmt.errors import UserError
    from nmt.registry import available, distribution

    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 40:
        raise UserError(f"{name!r} is no name", "use at most 40 small letters, digits and single hyphens: my-cell")
    if name in available(kind):
        owner = distribution(available(kind)[name][0])[0]
        raise UserError(f"the {kind.name} {name} is {owner}'s already", "choose another name")
    try:
        found = version(f"nmt-{name}")
    except PackageNotFoundError:
        return
    raise UserError(f"nmt-{name} {found} is installed already", "choose another name")


def _files(kind: Kind, name: str) -> dict[str, str]:
    """The project's files: path -> content."""
    from nmt import __version__

    module = f"nmt_{name.replace('-', '_')}"
    major, minor = map(int, __version__.split(".")[:2])
    words = {
        "name": name,
        "distribution": f"nmt-{name}",
        "module": module,
        "component": _class(kind, name),
        "group": kind.group,
        "kind": kind.name,
        "plural": kind.group.removeprefix("nmt."),
        "article": _article(kind.name),
        "article_capital": _article(kind.name).capitalize(),
        "usage": f"    {Template(USAGE[kind.name]).substitute(name=name)}",
        # Below version 1, another minor version may break what a plugin relies on.
        "oldest": f"{major}.{minor}",
        "newest": f"{major}.{minor + 1}" if major == 0 else f"{major + 1}",
    }
    templates = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        ".gitignore": "gitignore",
        f"{module}/__init__.py": f"{kind.name}.py",
        f"tests/test_{module}.py": "test_corpus.py" if kind.name == "corpus" else "test.py",
    }
    here = importlib.resources.files("nmt.commands") / "templates"
    files = {
        path: Template((here / f"{template}.template").read_text(encoding="utf-8")).substitute(words)
        for path, template in templates.items()
    }
    return {**files, f"{module}/py.typed": ""}


def _class(kind: Kind, name: str) -> str:
    """``mgu`` and ``my-cell`` -> ``MguCell`` and ``MyCell``: never the interface's own name."""
    words = name.removesuffix(f"-{kind.name}").split("-")
    return "".join(word.capitalize() for word in [*words, kind.name])


def _write(files: dict[str, str], folder: Path) -> None:
    """All of them or none: they are written beside and moved."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
        whole = Path(beside) / folder.name
        for path, content in files.items():
            (whole / path).parent.mkdir(parents=True, exist_ok=True)
            (whole / path).write_text(content, encoding="utf-8")
        whole.rename(folder)


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"
