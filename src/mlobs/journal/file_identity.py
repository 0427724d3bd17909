"""Which file is ours, whatever became of its descriptor.

A program that goes to the background closes all descriptors that it finds, and its own files get the
numbers. So a file is known by its device and inode, and a number is asked before it is used.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from pathlib import Path
from typing import NamedTuple

from mlobs.journal import access

_OWN_DESCRIPTORS = Path("/proc/self/fd")  # Linux alone


class Identity(NamedTuple):
    """What no other file has."""

    device: int
    inode: int


def identity_of(fd: int) -> Identity:
    """Which file a descriptor is open on.

    Raises:
        OSError: on none.
    """
    return _identity(os.fstat(fd))


def reopen(path: Path, flags: int, identity: Identity) -> int:
    """Open a file again, also where it was moved or deleted but is still open; return the descriptor.

    Raises:
        OSError: it is nowhere to be found.
    """
    with contextlib.suppress(FileNotFoundError):
        if (fd := _opened(path, flags, identity)) is not None:
            return fd
    for number in _OWN_DESCRIPTORS.iterdir() if _OWN_DESCRIPTORS.is_dir() else ():
        with contextlib.suppress(OSError):
            if identity_of(int(number.name)) == identity:
                fd = _opened(number, flags, identity)
                if fd is not None:
                    return fd
    raise OSError(errno.ENOENT, "the file was moved or deleted while it was open", str(path))


def truncate(path: Path, size_bytes: int, identity: Identity) -> None:
    """Cut a file, wherever it is by now. Where it was made, that takes no descriptor: there may be none left.

    Raises:
        OSError: it cannot be cut.
    """
    with contextlib.suppress(FileNotFoundError):
        if _identity(path.stat()) == identity:
            os.truncate(path, size_bytes)
            return
    fd = reopen(path, os.O_RDWR, identity)
    try:
        os.ftruncate(fd, size_bytes)
    finally:
        os.close(fd)


def _identity(found: os.stat_result) -> Identity:
    return Identity(found.st_dev, found.st_ino)


def _opened(path: Path, flags: int, identity: Identity) -> int | None:
    fd = access.open_existing(path, flags)
    if identity_of(fd) == identity:
        return fd
    os.close(fd)
    return None


_kept: list[mmap.mmap] = []


def keep_for_ever(mapped: mmap.mmap) -> None:
    """Never unmap: that would close the map's own descriptor, whose number is somebody else's file's."""
    _kept.append(mapped)
    with contextlib.suppress(ImportError):  # else it is closed when the interpreter ends
        import ctypes  # no program needs it otherwise

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(mapped))
