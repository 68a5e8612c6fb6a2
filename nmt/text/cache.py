"""The folder of what can be made again: encoded corpora. What nobody uses any more doesn't stay for ever."""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from nmt.errors import UserError

DAY = 86_400.0
"""Seconds."""
UNUSED, HALF_MADE = 30 * DAY, DAY
"""How long what nobody has used, and what a killed process left half made, is kept."""
PARTIAL, STORE = ".partial-", "store"
"""What the names of folders begin with in which something is being made, and what is in them."""
FILES = {"lines", "store.json"} | {
    f"{side}.{part}" for side in ("source", "target") for part in ("tokens", "offsets", "text", "text.offsets")
}
"""What may be in a store."""


def cache_folder() -> Path:
    """``$NMT_CACHE``, else ``nmt`` in the user's cache; a temporary folder where that can't be written to.

    Raises UserError where none can be.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "nmt"
    wanted = Path(os.environ["NMT_CACHE"]) if os.environ.get("NMT_CACHE") else default
    for folder in (wanted, Path(tempfile.gettempdir()) / f"nmt-cache-{os.getuid()}"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise UserError("no folder for the cache can be written to", "set NMT_CACHE to one", place=str(wanted))


def mark_used(entry: Path) -> None:
    """Remember, by the folder's time, that `entry` was used now; in a cache of somebody else's, it isn't."""
    with suppress(OSError):
        os.utime(entry)


def forget_unused(cache: Path) -> None:
    """Delete what has not been used for `UNUSED` or lies half made for `HALF_MADE` seconds, and nothing foreign.

    Who still reads such a thing on this machine goes on, for files that are mapped stay until then; who wants it later
    makes it again. What can't be deleted stays.
    """
    now = time.time()
    with suppress(OSError):  # of a folder that can't be listed
        for entry in list(cache.iterdir()):
            with suppress(OSError):  # another process may be deleting the same
                if now - _last_used(entry) > (HALF_MADE if entry.name.startswith(PARTIAL) else UNUSED):
                    shutil.rmtree(entry)


def _last_used(entry: Path) -> float:
    """When; for ever new where nmt has not made it, or not all that is in it."""
    if entry.is_symlink():
        return math.inf
    inside = {path.name for path in entry.iterdir()}
    if entry.name.startswith(PARTIAL) and inside == {STORE} and _is_store(entry / STORE):
        return max(path.stat().st_mtime for path in entry.rglob("*"))
    if re.fullmatch("[0-9a-f]{32}", entry.name) and _is_store(entry):
        return entry.stat().st_mtime
    return math.inf


def _is_store(folder: Path) -> bool:
    """Whether everything in it is a store's; one that is being made or deleted may lack files."""
    return all(path.name in FILES and path.is_file() for path in folder.iterdir())
