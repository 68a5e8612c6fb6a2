"""Loads model folders under an audit hook and prints what happened; an audit hook stays, hence a process of its own.

    python watched.py WARM_UP LARGE FOLDER...

For each FOLDER a line of JSON: {"folder", "refused": the error's text or null, "failed": any other error, "events":
forbidden events, "seconds", "megabytes": growth of the peak memory}; LARGE, a valid model, comes last.
"""

import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path

import torch

from nmt import registry
from nmt.errors import UserError
from nmt.options import schema
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


def watch(event: str, arguments: tuple[object, ...]) -> None:
    if seen is None or (event == "compile" and arguments[1] == "<unknown>"):
        return  # the latter is ast.parse, by which installed distributions' requirements are read: it runs nothing
    if event.startswith(RUNS_CODE + WRITES):
        seen.append(f"{event} {arguments!r}"[:200])
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        seen.append(f"open to write {arguments!r}"[:200])


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def load(folder: str) -> dict[str, object]:
    global seen
    refused = failed = None
    before, began = peak(), time.monotonic()
    seen = []
    try:
        Translator.load(folder, device="cpu").translate(["the cat 1 2 3"])
    except UserError as error:
        refused = str(error)
    except Exception as error:
        failed = repr(error)
    events, seen = seen, None
    record = {"folder": folder, "refused": refused, "failed": failed, "events": events}
    return record | {"seconds": time.monotonic() - began, "megabytes": peak() - before}


def main() -> None:
    warm_up, large, *folders = sys.argv[1:]
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    for kind in registry.KINDS:  # what is installed is trusted, and imported when it is named
        for name in registry.available(kind):
            schema(registry.load(kind, name))
    for _ in range(2):
        Translator.load(warm_up, device="cpu").translate(["the cat 1 2 3"])
    sys.addaudithook(watch)
    for folder in [warm_up, *folders, large]:
        print(json.dumps(load(folder)), flush=True)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder
    assert Path(sys.argv[1]).is_dir()
    main()
