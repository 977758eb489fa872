"""A lock between processes that ends with the process that holds it, however it ends."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: BinaryIO) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try_lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file ``path`` locked; it is made, and removed at the end.

    The system lets go of the lock when the process ends, so a file that a killed process left
    behind locks nobody out. On a file system without locks, as some of clusters are, nobody is
    locked out at all.

    Raises:
        BlockingIOError: If another process holds it.
        OSError: If the file cannot be made.
    """
    with path.open("ab") as file:
        try:
            _try_lock(file)
        except PermissionError as error:  # what Windows says
            raise BlockingIOError(*error.args) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        if not _is_still(path, file):
            raise BlockingIOError(f"{path} was removed by the process that held it")
        try:
            yield
        finally:
            # While it is still locked, or it might be a file that another process locked since.
            with suppress(PermissionError):  # Windows removes no open file
                path.unlink()
    if sys.platform == "win32":
        with suppress(PermissionError, FileNotFoundError):
            path.unlink()


def _is_still(path: Path, file: BinaryIO) -> bool:
    """Return whether ``path`` names the open file, not a new one or none."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
