"""Locks on files and folders, between processes: one ends with the process that has it, however that ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""What a file system answers that has no locks; nothing is held there."""


@contextmanager
def locked(path: Path, *, shared: bool, wait: bool) -> Iterator[None]:
    """Hold the file or folder at `path`: with others who share it, or alone.

    Raises BlockingIOError where another has it and `wait` is false, and FileNotFoundError where it is not there, or no
    longer once it was waited for. Where the system or the file system has no such locks, nothing is held.
    """
    if not (path.is_file() or path.is_dir()):  # to open a pipe would take for ever
        raise FileNotFoundError(errno.ENOENT, "no file", str(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock(descriptor, shared=shared, wait=wait)
        if not os.path.samestat(path.stat(), os.fstat(descriptor)):  # deleted, and perhaps written anew, meanwhile
            raise FileNotFoundError(errno.ENOENT, "was replaced", str(path))
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, shared: bool, wait: bool) -> None:
    try:
        import fcntl
    except ImportError:
        return
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
