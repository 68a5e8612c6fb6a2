"""The tools of peers.py: a command line each, described by a JSON file."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import Mark, Ran, ran

FOLDER = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Tool:
    """A command line, as its file describes it."""

    label: str
    """As it was asked for."""
    words: tuple[str, ...]
    """Further words behind its command."""
    model: Path
    """The folder of its model."""
    file: Mapping[str, Any]
    environment: Mapping[str, str]

    def write_files(self, folder: Path, values: Mapping[str, object]) -> None:
        """Its configuration; JSON is YAML too."""
        for name, content in self.file.get("files", {}).items():
            (folder / name).write_text(json.dumps(fill(content, values), indent=1), encoding="utf-8")

    def run(
        self,
        command: Sequence[str],
        folder: Path,
        log: str,
        *,
        stdin: Path | None = None,
        stdout: Path | None = None,
        marked: Callable[[str], bool] = lambda line: False,
    ) -> Ran:
        """One of its commands in a folder; the benchmark ends where it fails."""
        path = folder / log
        done = ran(
            command, environment=self.environment, stdin=stdin, stdout=stdout, folder=folder, marked=marked, log=path
        )
        return done if done.exit_code == 0 else sys.exit(f"{self.label}: exit code {done.exit_code}; see {path}")


def fill(template: Any, values: Mapping[str, object]) -> Any:
    """Values in the place of {names}; text that is one name only becomes the value, a number for instance."""
    if isinstance(template, dict):
        return {key: fill(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [fill(value, values) for value in template]
    if not isinstance(template, str):
        return template
    if (alone := re.fullmatch(r"\{(\w+)\}", template)) and alone[1] in values:
        return values[alone[1]]
    return re.sub(r"\{(\w+)\}", lambda found: str(values.get(found[1], found[0])), template)


def tool(label: str, arguments: argparse.Namespace) -> Tool:
    """`NAME[@MODEL] [WORDS]`."""
    slug, *words = label.split()
    name = slug.partition("@")[0]
    path = FOLDER / f"{name}.json"
    if not path.exists():
        sys.exit(f"{name}: no such tool; there are {', '.join(sorted(each.stem for each in FOLDER.glob('*.json')))}")
    file = json.loads(path.read_text(encoding="utf-8"))
    owners = [text.partition("=") for text in arguments.bin]
    programs = [str(Path(folder).absolute()) for owner, _, folder in owners if owner == name]
    threads = str(arguments.threads)
    environment = {
        "PATH": os.pathsep.join([*programs, os.environ.get("PATH", os.defpath)]),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        **file.get("environment", {}),
    }
    model = arguments.work.absolute() / "models" / arguments.size / slug
    return Tool(label, tuple(words), model, file, environment)


def window(marks: Sequence[Mark], progress: re.Pattern[str], skip: int, mean: float) -> tuple[float, float, float]:
    """Target tokens, CPU seconds and wall seconds from the first progress line behind `skip` updates to the last.

    The groups of a line say how many tokens there were: `total` since the beginning; `each` an update since the line
    before; `rate` a second in the `seconds` since then. Where they don't, it is the corpus's mean.
    """
    read = [(mark, progress.search(mark.line)) for mark in marks]
    found = [(mark, {name: float(text) for name, text in match.groupdict().items()}) for mark, match in read if match]
    found = [(mark, numbers) for mark, numbers in found if numbers["update"] >= skip]
    if len(found) < 2:
        sys.exit(f"fewer than two progress lines behind update {skip}: train longer, or skip less")
    tokens = 0.0
    for (_, before), (_, after) in itertools.pairwise(found):
        updates = after["update"] - before["update"]
        if "total" in after:
            tokens += after["total"] - before["total"]
        elif "seconds" in after:
            tokens += after["rate"] * after["seconds"]
        else:
            tokens += after.get("each", mean) * updates
    first, last = found[0][0], found[-1][0]
    return tokens, max(last.cpu_seconds - first.cpu_seconds, 1e-9), last.wall_seconds - first.wall_seconds


def newest(folder: Path, pattern: str) -> str:
    """The checkpoint that was written last."""
    found = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
    return str(found[-1]) if found else sys.exit(f"{folder}: has no {pattern}")
