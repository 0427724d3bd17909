"""The two ways to put bytes where `kill -9` of the process cannot reach them: mapped, and written.

Both take a whole record at a time, from any thread, and may be re-entered by a signal handler or a
`__del__` at any point, because the step that reserves room and copies is one C call that holds the
GIL (`mmap.write`) or one system call (`write` to a file opened with O_APPEND). No lock is taken.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import sys
from collections import deque
from pathlib import Path
from typing import Protocol

from mlobs.errors import StoreError
from mlobs.journal import access
from mlobs.journal.format import SEGMENT_BYTES

_RETIRED = 8  # files that are closed after one before its descriptor is: microseconds would do
_RESERVING_FILE_SYSTEMS = {"ext4", "xfs", "tmpfs"}  # fallocate reserves: a full disk is never a SIGBUS


class JournalFile(Protocol):
    """An append-only file of records."""

    def append(self, record: bytes) -> None:
        """Keep the record: when this returns it survives the death of the process."""
        ...

    def end(self) -> int:
        """Offset behind the last record."""
        ...

    def close(self) -> None:
        """Cut the file to its records. Nothing is appended afterwards."""
        ...

    def abandon(self) -> None:
        """Let go of the file without touching it: it belongs to the parent of this forked process."""
        ...


def open_file(path: Path, *, mapped: bool | None = None) -> JournalFile:
    """Create a journal file; `mapped=None` maps where the file system reserves space for it.

    Raises:
        StoreError: the file cannot be created or its first segment not reserved.
    """
    try:
        if can_map(path.parent) if mapped is None else mapped:
            return MappedFile(path)
        return PlainFile(path)
    except OSError as error:
        raise StoreError.of(error, path, "the journal cannot be written") from error


def can_map(folder: Path) -> bool:
    """Tell whether a mapped file is safe: Linux, on a disk that reserves space, under a GIL."""
    has_gil: bool = getattr(sys, "_is_gil_enabled", lambda: True)()  # Python 3.13 may be built without
    return has_gil and sys.platform == "linux" and file_system(folder) in _RESERVING_FILE_SYSTEMS


def file_system(folder: Path) -> str:
    """Name the type of the file system that holds the folder, "unknown" where /proc does not say."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        device = folder.stat().st_dev
    except OSError:
        return "unknown"
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        head, _, tail = line.partition(" - ")
        if head.split(" ", 3)[2] == wanted:
            return tail.split(" ", 1)[0]
    return "unknown"


class MappedFile:
    """Records in memory-mapped segments that are reserved on disk before they are mapped.

    A window is one mapped stretch of the file. It is sealed by moving its position to its end, so
    that a thread which still holds it gets a ValueError and follows to the next one. `_windows`
    (start -> window) is the chain; `setdefault` on it decides between two callers that extend the
    file at the same moment, or one that re-entered the other, and between one that extends the file
    and one that closes it: None ends the chain.
    """

    def __init__(self, path: Path) -> None:
        self._fd: int | None = access.open_file(path, os.O_RDWR | os.O_EXCL)
        self._windows: dict[int, _Window | None] = {}
        self._closed_at = 0
        window = _Window(self._fd, 0, SEGMENT_BYTES)
        self._windows[0] = window
        self._enter(window)

    def append(self, record: bytes) -> None:
        """Keep the record, in one C call unless the window is full."""
        try:
            self._write(record)
        except ValueError:  # the window is full, sealed, or closed
            self._append_further_on(record)

    def end(self) -> int:
        """Offset behind the last record."""
        window = self._window
        while True:
            try:
                return window.start + window.map.tell()
            except ValueError:  # sealed just now, or closed
                following = self._windows.get(window.end)
                if following is None:
                    return self._closed_at or window.end
                window = following

    def close(self) -> None:
        """Seal the last window and cut off what was reserved behind it."""
        fd, window = self._fd, self._window
        while (following := self._windows.setdefault(window.end, None)) is not None:
            window = following  # another thread has extended the file meanwhile
        if fd is not None:
            self._closed_at = window.start + window.seal()
            self._fd = None
            os.ftruncate(fd, self._closed_at)
            _retire(fd)

    def abandon(self) -> None:
        """Unmap without touching the file."""
        self._window.map.close()
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _append_further_on(self, record: bytes) -> None:
        while True:
            window, fd = self._window, self._fd
            following = self._windows.get(window.end, window)
            if following is window and fd is not None:
                # OSError: the disk is full, nothing has changed
                fresh = _Window(fd, window.end, _round_up(len(record)))
                following = self._windows.setdefault(window.end, fresh)
                if following is not fresh:
                    fresh.map.close()
            if following is None or following is window:
                raise OSError(errno.EBADF, "the journal is closed")
            window.seal()
            self._enter(following)
            with contextlib.suppress(ValueError):  # somebody filled it meanwhile: go on to the next
                following.map.write(record)
                return

    def _enter(self, window: _Window) -> None:
        self._window = window
        self._write = window.map.write


_retired: deque[int] = deque()


def _retire(fd: int) -> None:
    """Close the descriptor of a closed file, some files later.

    Another thread may be about to extend that file, and a number that is closed is soon another
    file's. Not in a `__del__`: a Ctrl-C that arrives there is lost.
    """
    _retired.append(fd)
    if len(_retired) > _RETIRED:
        os.close(_retired.popleft())


class _Window:
    """One mapped stretch `[start, end)` of the file, with a position of its own."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        self.start, self.end = start, start + size
        os.posix_fallocate(fd, start, size)
        self.map = mmap.mmap(fd, size, offset=start)
        with contextlib.suppress(OSError):  # a kernel without advice
            # No read-ahead: a fault then costs one page (2-3 us in every 60th call or so), not 32 pages
            # of zeros. To populate all pages here cost the one call that maps 160 us instead of 35 us.
            self.map.madvise(mmap.MADV_RANDOM)

    def seal(self) -> int:
        """Refuse all further writes, in one step, unmap, and return how many bytes were in use."""
        size = self.end - self.start
        try:
            unused = len(self.map.read())
        except ValueError:  # closed: sealed before
            return size
        self.map.close()
        return size - unused


class PlainFile:
    """Records written by one `write` call each, for every place where mapping is not safe."""

    def __init__(self, path: Path) -> None:
        self._fd = access.open_file(path, os.O_WRONLY | os.O_EXCL | os.O_APPEND)

    def append(self, record: bytes) -> None:
        """Keep the record, in one system call."""
        written = os.write(self._fd, record)
        if written != len(record):  # the torn piece stays: readers step over it
            raise OSError(errno.ENOSPC, f"only {written} of {len(record)} bytes could be written")

    def end(self) -> int:
        """Offset behind the last record."""
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def abandon(self) -> None:
        """Close the inherited descriptor."""
        os.close(self._fd)


def _round_up(size_bytes: int) -> int:
    return -(-size_bytes // SEGMENT_BYTES) * SEGMENT_BYTES
