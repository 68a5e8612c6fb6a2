"""Uses folders under an audit hook and prints what happened; an audit hook stays, hence a process of its own.

    python watched.py TASK WARM_UP LARGE FOLDER...

TASK is load (a model), resume (its training, as resume.yaml beside the folders has it) or average (its checkpoints).
For each FOLDER a line of JSON: {"folder", "refused": the error's text or null, "failed": any other error, "events":
forbidden events, "seconds", "megabytes": growth of the peak memory}; LARGE, a valid folder, comes last.
"""

import contextlib
import importlib
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

from nmt import checkpoints, registry
from nmt.errors import UserError
from nmt.options import schema
from nmt.recipe import Recipe
from nmt.recipe_file import read_recipe
from nmt.training.averaging import average
from nmt.training.run import train
from nmt.translator import Translator

RUNS_CODE = (
    "pickle.",
    "marshal.",
    "subprocess.",
    "socket.",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "os.fork",
)
RUNS_CODE += ("exec", "compile", "ctypes.", "import", "code.", "function.", "urllib.", "http.", "webbrowser.", "pty.")
WRITES = (
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
)
WRITES += ("shutil.", "os.utime", "os.setxattr", "tempfile.")
seen: list[str] | None = None
own: Path | None = None
"""The folder that may be written to, if any may; and so may be the cache."""
CACHE = Path(os.environ.get("NMT_CACHE", os.devnull))


def watch(event: str, arguments: tuple[object, ...]) -> None:
    if seen is None or event == "socket.gethostname" or (event == "compile" and arguments[1] == "<unknown>"):
        return  # the last is ast.parse, by which installed distributions' requirements are read: it runs nothing
    opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if event.startswith(RUNS_CODE) or ((opens or event.startswith(WRITES)) and not inside(event, arguments)):
        seen.append(f"{event} {arguments!r}"[:200])


def inside(event: str, arguments: tuple[object, ...]) -> bool:
    """Whether all that is written stands in the folder that may be written to, and not behind a link in it."""
    given = [path for path in arguments[: 2 if event == "os.rename" else 1] if not isinstance(path, int)]
    paths = [os.fsdecode(path) for path in given]
    if own is None or not paths:
        return False
    below = event in ("os.remove", "os.rmdir") and arguments[1] != -1  # of a folder seen before
    return below or all(any(map(_true(Path(path), event).is_relative_to, (own, CACHE))) for path in paths)


def _true(path: Path, event: str) -> Path:
    """Where it is truly: an opened file is what its link leads to, other events are of the link itself."""
    return Path(os.path.realpath(path)) if event == "open" else Path(os.path.realpath(path.parent), path.name)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def load(folder: Path) -> None:
    Translator.load(folder, device="cpu").translate(["the cat 1 2 3"])


def resume(folder: Path) -> None:
    with contextlib.redirect_stdout(sys.stderr):  # what training tells
        train(recipe_of(folder.parent / "resume.yaml"), out=folder, accept=["train.updates"])


@cache
def recipe_of(path: Path) -> Recipe:
    return read_recipe(path)


def mean(folder: Path) -> None:
    average(folder, checkpoints.listed(folder))


def record_of(task: Callable[[Path], None], folder: str) -> dict[str, object]:
    global seen, own
    refused = failed = None
    before, began = peak(), time.monotonic()
    own = None if task is load else Path(os.path.realpath(folder))
    seen = []
    try:
        task(Path(folder))
    except UserError as error:
        refused = str(error)
    except Exception as error:
        failed = repr(error)
    events, seen = seen, None
    record = {"folder": folder, "refused": refused, "failed": failed, "events": events}
    return record | {"seconds": time.monotonic() - began, "megabytes": peak() - before}


def main() -> None:
    name, warm_up, large, *folders = sys.argv[1:]
    task = {"load": load, "resume": resume, "average": mean}[name]
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    for kind in registry.KINDS:  # what is installed is trusted, and imported when it is named
        for name in registry.available(kind):
            schema(registry.load(kind, name))
    try:
        importlib.import_module("torch.utils.tensorboard")
    except ImportError:  # the extra isn't installed: every start of a training would look for it anew
        sys.modules["torch.utils.tensorboard"] = ModuleType("without SummaryWriter")
    for _ in range(2):
        task(Path(warm_up))
    sys.addaudithook(watch)
    for folder in [warm_up, *folders, large]:
        print(json.dumps(record_of(task, folder)), flush=True)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder
    assert Path(sys.argv[2]).is_dir()
    main()
