"""Advisory locks between the processes of a host: the end of a process, however it comes, ends its locks."""

from __future__ import annotations

import errno
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: no advisory locks
    fcntl = None  # type: ignore[assignment]


def lock(fd: int) -> None:
    """Lock a file for whoever holds this descriptor or a copy of it, until the last of them is closed.

    Raises:
        BlockingIOError: somebody else has locked it.
        OSError: nobody can: the platform or the file system has no locks.
    """
    _lock(fd, is_shared=False)


def is_locked(path: Path) -> bool | None:
    """Tell whether somebody has locked a file; None if nobody can know."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        _lock(fd, is_shared=True)  # others may ask at the same time
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(fd)
    return False


def _lock(fd: int, *, is_shared: bool) -> None:
    if fcntl is None:
        raise OSError(errno.ENOLCK, "no locks on this platform")
    fcntl.flock(fd, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
