"""Builds the libraries of nmt.native from native.c: when nmt is installed, so nothing here needs more than Python."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).with_name("native.c")
LIBRARIES = {
    "fp32_avx512": ["-mavx512f", "-mfma"],
    "fp32_avx2": ["-mavx2", "-mfma"],
    "bf16_avx512": ["-mavx512f", "-mfma", "-mavx512bf16", "-DBF16"],
    "int8_avx512": ["-mavx512f", "-mfma", "-mavx512vnni", "-DINT8"],
}
"""One for each precision and kind of instructions, and what has the compiler make it. Without -mfma it rounds some
numbers twice and others once."""
FLAGS = ["-O3", "-std=c11", "-ffp-contract=fast", "-fPIC", "-shared"]
PATIENCE = 120.0
"""Seconds for a library; it takes a third of one."""


def library(name: str) -> Path:
    """Where one of `LIBRARIES` is, if it was built from native.c as that is now, and as it is built now."""
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join([*FLAGS, *LIBRARIES[name]]).encode()).hexdigest()[:8]
    return SOURCE.with_name(f"native_{name}_{digest}.so")


def for_this_machine() -> bool:
    """Whether native.c is written for such processors."""
    return platform.machine().lower() in ("x86_64", "amd64")


def build(leave_out: Callable[[str], None]) -> list[Path]:
    """Build what can be built, in place of all that was; `leave_out` is told what isn't, and why."""
    built = []
    try:
        compiler = _compiler()
    except OSError as error:
        leave_out(f"nmt's own matrix products are left out: {error}")
    else:
        for name, flags in LIBRARIES.items():
            try:
                built.append(_compiled([*compiler, *FLAGS, *flags], library(name)))
            except OSError as error:
                leave_out(f"nmt's own matrix products for {name.replace('_', ', ')} are left out: {error}")
    for old in SOURCE.parent.glob("native_*.so"):
        if old not in built:
            old.unlink(missing_ok=True)
    return built


def _compiler() -> list[str]:
    """The command of $CC, else of the first that is there. Raises OSError where there is none that could be of use."""
    if not for_this_machine():
        raise OSError(f"native.c is for x86-64, not {platform.machine()}")
    for command in [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise OSError(f"CC is no command ({error})") from error
        if words and shutil.which(words[0]):
            return words
    raise OSError("there is no C compiler; install one, or name one in CC")


def _compiled(command: list[str], path: Path) -> Path:
    """native.c compiled to `path`, which appears there whole or not at all. Raises OSError where that fails."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="native-") as folder:
        made = Path(folder) / path.name
        words = [*command, str(SOURCE), "-o", str(made)]
        try:
            run = subprocess.run(words, capture_output=True, errors="replace", timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{shlex.join(command)} takes longer than {PATIENCE:.0f} s") from error
        if run.returncode:
            said = run.stderr.strip().splitlines() or [f"exit code {run.returncode}"]
            raise OSError(f"{shlex.join(command)} failed: {said[0]}")
        return made.replace(path)
