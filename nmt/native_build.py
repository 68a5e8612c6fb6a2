"""Builds the libraries of nmt.native from native.c: when nmt is installed, so nothing here needs more than Python."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("native.c")
LIBRARIES = {
    "fp32_avx512": ["-mavx512f", "-mfma"],
    "fp32_avx2": ["-mavx2", "-mfma"],
    "bf16_avx512": ["-mavx512f", "-mavx512bf16", "-DBF16"],
    "int8_avx512": ["-mavx512f", "-mavx512vnni", "-DINT8"],
}
"""One for each precision and kind of instructions, and what has the compiler make it."""
FLAGS = ["-O3", "-std=c11", "-ffp-contract=fast", "-fPIC", "-shared"]
PATIENCE = 120.0
"""Seconds for a library; it takes a third of one."""


def library(name: str) -> Path:
    """Where one of `LIBRARIES` is, if it was built from native.c as that is now."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:8]
    return SOURCE.with_name(f"native_{name}_{digest}.so")


def for_this_machine() -> bool:
    """Whether native.c is written for such processors."""
    return platform.machine().lower() in ("x86_64", "amd64")


def build() -> list[Path]:
    """Build all libraries, in place of those of another native.c.

    Raises OSError, with the reason, where that can't be.
    """
    if not for_this_machine():
        raise OSError(f"native.c is for x86-64, not {platform.machine()}")
    compiler = _compiler()
    libraries = {name: library(name) for name in LIBRARIES}
    for old in SOURCE.parent.glob("native_*.so"):
        if old not in libraries.values():
            old.unlink()
    for name, path in libraries.items():
        _compile([*compiler, *FLAGS, *LIBRARIES[name]], path)
    return list(libraries.values())


def _compiler() -> list[str]:
    """The command of $CC, else of the first that is there."""
    for command in [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]:
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return words
    raise OSError("there is no C compiler; install one, or name one in CC")


def _compile(command: list[str], path: Path) -> None:
    """Compile native.c to `path`, which appears there whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        try:
            subprocess.run([*command, str(SOURCE), "-o", str(made)], check=True, capture_output=True, timeout=PATIENCE)
        except subprocess.SubprocessError as error:
            raise OSError(f"{shlex.join(command)} failed: {error}") from error
        made.replace(path)
