"""Files of which nothing is known yet: only true ones are read, never more than a limit; no link is written through."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

from nmt.errors import UserError


def read_bounded(path: Path, limit: int) -> bytes:
    """The content of a file that has at most `limit` bytes. Raises OSError where it has more, or is no true file."""
    require_file(path)
    with path.open("rb") as file:
        content = file.read(limit + 1) if path.stat().st_size <= limit else None
    if content is None or len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit:,} bytes", str(path))
    return content


def require_file(path: Path) -> None:
    """Raise OSError for what is no file (links are followed): a pipe would never answer, a device never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "no file", str(path))


def refuse_link(path: Path) -> None:
    """Raise UserError where something else than a file stands at `path`, a link included: before writing to its end."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError("is no file but a link, a pipe or the like", "move it away", place=str(path))
