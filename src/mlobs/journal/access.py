"""Who may read what the store holds: its owner alone, or whoever its folder is open to.

Every new file and folder takes the permissions of the folder that it lies in, whatever the umask. A
store that mlobs makes is its owner's; one that lies in a folder that was made for a team, such as
`mkdir -m 2770 store`, is the team's. No file gets the number of a standard stream that is closed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_PRIVATE, _PRIVATE_FILE = 0o700, 0o600
_OPENLY = 0o666  # of the permissions of a folder, those that a file can have
_STREAMS = 3  # descriptors below are standard input, output and error, also where they are closed


def make_store(path: Path) -> None:
    """Make the store's folder, if need be, for its owner alone.

    Raises:
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=_PRIVATE, exist_ok=True)


def make_folder(path: Path, *, is_new: bool = False) -> None:
    """Make a folder, open to whom the one around it is. `is_new`: it must not exist yet.

    Raises:
        OSError: it cannot be made.
    """
    try:
        path.mkdir(mode=_PRIVATE)
    except FileExistsError:
        if is_new:
            raise
        return
    around = path.parent.stat().st_mode & 0o777
    made = path.stat().st_mode & 0o7777
    if around != made & 0o777:  # some file systems have the same permissions for all, and refuse others
        path.chmod(around | (made & 0o7000))  # the bit that hands the group down stays


def open_file(path: Path | str, flags: int) -> int:
    """Open a file, made if need be, and open to whom the folder around it is; return its descriptor.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        fd = _opened(path, flags | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        if flags & os.O_EXCL:
            raise
        return open_existing(path, flags)
    wanted = (Path(path).parent.stat().st_mode & _OPENLY) | _PRIVATE_FILE
    if hasattr(os, "fchmod") and wanted != os.fstat(fd).st_mode & _OPENLY:
        os.fchmod(fd, wanted)
    return fd


def open_existing(path: Path | str, flags: int) -> int:
    """Open a file that is there; return its descriptor.

    Raises:
        OSError: it cannot be opened.
    """
    return _opened(path, flags & ~os.O_CREAT)


def _opened(path: Path | str, flags: int) -> int:
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    fd = os.open(path, flags, _PRIVATE_FILE)
    while fd < _STREAMS:
        fd = _moved_up(fd)
    return fd


def _moved_up(fd: int) -> int:
    """Leave the number of a closed stream to the null device, which takes nothing; return another.

    A C library writes its warnings to descriptor 2, whatever that is. Just to move away would leave the
    number to what is opened next: the copy that a map makes of its descriptor, the pipe to the sender.
    """
    moved = os.dup(fd)
    null = os.open(os.devnull, os.O_RDONLY)  # to write there fails as it did before
    try:
        os.dup2(null, fd, inheritable=False)
    finally:
        os.close(null)
    return moved


def make_young(path: Path) -> None:
    """Date a file that is about to be used now, so that `mlobs gc` leaves it alone."""
    with contextlib.suppress(OSError):  # another user's: its age is what it was
        os.utime(path)
