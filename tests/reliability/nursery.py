"""Many starts of `nmt-train` in little time: a process that has imported everything, and forks for each start.

Run as a program it is that process; `Nursery` talks to it.
"""

import contextlib
import ctypes
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

INSIDE = "/.update-"
"""In the path of every file of a checkpoint that is being written or deleted."""
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")


@dataclass(frozen=True)
class Ended:
    """How a start ended: its exit code, or minus the signal that killed it; and what it wrote to stderr."""

    code: int
    errors: str


class Child:
    """One start, under way."""

    def __init__(self, nursery: "Nursery", folder: Path, request: dict) -> None:
        self._nursery = nursery
        self._errors = folder / "errors.txt"
        self._pid: int = nursery.ask({"folder": str(folder), "errors": str(self._errors), **request})["pid"]

    def send(self, number: signal.Signals, after: float) -> None:
        """Send it a signal after some seconds; nothing happens where it has ended by then."""
        time.sleep(after)
        os.kill(self._pid, number)  # nobody has waited for it, so the id is still its own

    def wait(self) -> Ended:
        status = self._nursery.ask({"wait": self._pid})["status"]
        return Ended(os.waitstatus_to_exitcode(status), self._errors.read_text())


class Nursery:
    """The process that forks, with one thread and its own cache."""

    def __init__(self, cache: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NMT_CACHE": str(cache)}
        command = [sys.executable, __file__]
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def start(self, folder: Path, *, kill_inside_save: int = 0, bound: bool = False) -> Child:
        """``nmt-train recipe.yaml --out run`` in `folder`.

        It is killed before the `kill_inside_save`-th file event inside saves, from 1. With `bound` root, too, can't
        write where permissions forbid it.
        """
        words = ("nmt-train", "recipe.yaml", "--out", "run")
        return Child(self, folder, {"words": words, "kill": kill_inside_save, "bound": bound})

    def run(self, folder: Path, *, bound: bool = False) -> Ended:
        """The same, to its end."""
        return self.start(folder, bound=bound).wait()

    def disk(self, folder: Path, kilobytes: int) -> str:
        """Make `folder` a disk of this size, for the starts alone, or change its size; why not, where it can't be."""
        reason: str = self.ask({"disk": str(folder), "kilobytes": kilobytes})["reason"]
        return reason

    def copy(self, folder: Path, to: Path) -> None:
        """Copy what the starts see in `folder`."""
        self.ask({"copy": str(folder), "to": str(to)})

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def ask(self, request: dict) -> dict:
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


def _serve() -> None:
    import torch

    with contextlib.suppress(ImportError):
        import torch.utils.tensorboard  # where it is installed, a start would import it

    from nmt.commands.train import main
    from nmt.registry import KINDS, available, distribution, load

    importlib.import_module("nmt.training.run")  # and with it all that a run needs
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # the first one imports much
    for kind in KINDS:
        for name, points in available(kind).items():
            if distribution(points[0])[0] == "recurrent-nmt":
                load(kind, name)
    disks = _Disks()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer: dict = {"status": os.waitpid(request["wait"], 0)[1]}
        elif "disk" in request:
            answer = {"reason": disks.make(request["disk"], request["kilobytes"])}
        elif "copy" in request:
            answer = {"copied": str(shutil.copytree(request["copy"], request["to"]))}
        else:
            answer = {"pid": _born(request, main)}
        print(json.dumps(answer), flush=True)


def _born(request: dict, main: object) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.chdir(request["folder"])
        for stream, name in ((sys.stdout, os.devnull), (sys.stderr, request["errors"])):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if request["bound"]:
            _obey_permissions()
        if request["kill"]:
            _kill_inside_save(request["kill"])
        sys.argv = list(request["words"])
        code = main()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _kill_inside_save(number: int) -> None:
    """Kill this process before the so manieth time that it makes, writes, syncs, renames or deletes such a file."""
    left, inside = number, False

    def count() -> None:
        nonlocal left
        left -= inside
        if inside and left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def heard(event: str, arguments: tuple) -> None:
        nonlocal inside
        if event not in EVENTS or not isinstance(arguments[0], str | os.PathLike):
            return
        if event not in ("os.remove", "os.rmdir") or arguments[1] == -1:  # else it is below the folder seen last
            paths = arguments[:2] if event == "os.rename" else arguments[:1]
            inside = any(INSIDE in f"/{os.fspath(path)}" for path in paths)
        count()

    synced = os.fsync

    def fsync(descriptor: int) -> None:
        count()  # what was opened last is what is synced
        synced(descriptor)

    os.fsync = fsync
    sys.addaudithook(heard)


LIBC = ctypes.CDLL(None, use_errno=True)
CAPABILITY_VERSION_3, OVERRIDE_PERMISSIONS = 0x20080522, 0b110
NEW_MOUNTS, NEW_USERS = 0x00020000, 0x10000000
REMOUNT, RECURSIVE, PRIVATE = 0x20, 0x4000, 0x40000


def _obey_permissions() -> None:
    """Give up for good that root may write where nobody may (CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH)."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; and once more for capabilities above 31
    LIBC.capget(header, sets)
    for index in range(3):
        sets[index] &= ~OVERRIDE_PERMISSIONS
    if LIBC.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")


class _Disks:
    """Small disks in memory, seen by this process and its children alone."""

    def __init__(self) -> None:
        self._mounted: set[str] = set()

    def make(self, folder: str, kilobytes: int) -> str:
        """An empty text, or why there is none."""
        if not self._mounted:
            if LIBC.unshare(NEW_MOUNTS) != 0 and LIBC.unshare(NEW_MOUNTS | NEW_USERS) != 0:
                return f"unshare: {os.strerror(ctypes.get_errno())}"
            LIBC.mount(b"none", b"/", None, RECURSIVE | PRIVATE, None)
        flags = REMOUNT if folder in self._mounted else 0
        if LIBC.mount(b"tmpfs", folder.encode(), b"tmpfs", flags, f"size={kilobytes}k".encode()) != 0:
            return f"mount: {os.strerror(ctypes.get_errno())}"
        self._mounted.add(folder)
        return ""


if __name__ == "__main__":
    _serve()
