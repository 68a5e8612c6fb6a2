"""Distributions as an installer leaves them, made without one: a dist-info folder and a module."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def describe(folder: Path, name: str, entries: str, *, version: str = "1.2", lines: Sequence[str] = ()) -> None:
    """The dist-info folder: `entries` is entry_points.txt, `lines` are further ones of the metadata."""
    information = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    information.mkdir(parents=True)
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines]
    (information / "METADATA").write_text("".join(f"{line}\n" for line in metadata))
    (information / "entry_points.txt").write_text(entries)


def install(folder: Path, name: str, group: str, entry: str, code: str = "", **described: Sequence[str]) -> None:
    """A distribution with one component, and its module."""
    describe(folder, name, f"[{group}]\n{entry}\n", **described)
    (folder / f"{name.replace('-', '_')}.py").write_text(code)


def install_project(folder: Path, project: Mapping[str, object], root: Path) -> None:
    """What `pip install -e` does with a project: its metadata in `folder`, and a path to its code."""
    groups = project["entry-points"]
    entries = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in groups.items()
    )
    requires = [f"Requires-Dist: {line}" for line in project["dependencies"]]
    describe(folder, project["name"], entries, version=project["version"], lines=requires)
    (folder / f"{project['name']}.pth").write_text(f"{root}\n")
