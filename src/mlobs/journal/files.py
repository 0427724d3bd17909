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
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from mlobs.errors import StoreError
from mlobs.journal import access
from mlobs.journal.file_identity import identity_of, keep_for_ever, reopen, truncate
from mlobs.journal.format import SEGMENT_BYTES

_APPENDING = os.O_WRONLY | os.O_APPEND
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

    No descriptor is kept beside that of the map: a sweep of coroutines has hundreds of runs open.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        fd = access.open_file(path, os.O_RDWR | os.O_EXCL)
        try:
            self._identity = identity_of(fd)
            window = _Window(fd, 0, SEGMENT_BYTES)
        finally:
            os.close(fd)
        self._windows: dict[int, _Window | None] = {0: window}
        self._is_closed, self._closed_at = False, 0
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
            if self._closed_at:
                return self._closed_at
            try:
                return window.start + window.map.tell()
            except ValueError:  # sealed just now, or closed
                following = self._windows.get(window.end)
                if following is None:
                    return self._closed_at or window.end
                window = following

    def close(self) -> None:
        """Seal the last window and cut off what was reserved behind it."""
        window = self._window
        while (following := self._windows.setdefault(window.end, None)) is not None:
            window = following  # another thread has extended the file meanwhile
        if not self._is_closed:
            self._is_closed = True
            self._closed_at = window.start + window.seal()
            size_bytes = self._cut(window.end)
            window.let_go(lambda: size_bytes)

    def abandon(self) -> None:
        """Unmap without touching the file."""
        self._is_closed = True
        self._window.let_go(self._size)

    def _append_further_on(self, record: bytes) -> None:
        while True:
            window = self._window
            following = self._windows.get(window.end, window)
            if following is window and not self._is_closed:
                following = self._extended(window.end, len(record))
            if following is None or following is window:
                raise OSError(errno.EBADF, "the journal is closed")
            window.seal()
            self._enter(following)
            window.let_go(self._size)
            with contextlib.suppress(ValueError):  # somebody filled it meanwhile: go on to the next
                following.map.write(record)
                return

    def _extended(self, start: int, size_bytes: int) -> _Window | None:
        """Reserve and map what follows, unless somebody was faster; None if the file was closed.

        Raises:
            OSError: the disk is full, or the file is gone; nothing has changed.
        """
        fd = reopen(self._path, os.O_RDWR, self._identity)
        try:
            fresh = _Window(fd, start, _round_up(size_bytes))
        finally:
            os.close(fd)
        following = self._windows.setdefault(start, fresh)
        if following is not fresh:
            fresh.map.close()
        return following

    def _cut(self, reserved: int) -> int:
        """Give back what is reserved behind the last record; return the size of the file then."""
        try:
            truncate(self._path, self._closed_at, self._identity)
        except OSError:  # the records are there, and readers step over the zeros behind them
            return reserved
        return self._closed_at

    def _size(self) -> int:
        """The size of the file; where it was moved, what its last window has of it."""
        try:
            return self._path.stat().st_size
        except OSError:
            return self._window.file_size()

    def _enter(self, window: _Window) -> None:
        self._window = window
        self._write = window.map.write


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
        """Refuse all further writes, in one step, and return how many bytes were in use before."""
        try:
            unused = len(self.map.read())
        except ValueError:  # unmapped: sealed before
            unused = 0
        return self.end - self.start - unused

    def file_size(self) -> int:
        """The size of the file behind the map's own descriptor; -1 if that is closed."""
        try:
            return self.map.size()
        except (OSError, ValueError):
            return -1

    def let_go(self, size: Callable[[], int]) -> None:
        """Unmap, unless the file behind the map's descriptor is of another size: then it is not ours."""
        try:
            is_ours = size() <= self.map.size() <= size()  # another thread may extend it at this moment
        except ValueError:  # another thread has unmapped it
            return
        except OSError:  # somebody has closed it
            is_ours = False
        if is_ours:
            self.map.close()
        else:
            keep_for_ever(self.map)


class PlainFile:
    """Records written by one `write` call each, for every place where mapping is not safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = access.open_file(path, _APPENDING | os.O_EXCL)
        self._identity, self._position = identity_of(self._fd), 0
        self._is_closed = False

    def append(self, record: bytes) -> None:
        """Keep the record, in one system call."""
        written = os.write(self._own(), record)
        self._position += written
        if written != len(record):  # the torn piece stays: readers step over it
            raise OSError(errno.ENOSPC, f"only {written} of {len(record)} bytes could be written")

    def end(self) -> int:
        """Offset behind the last record."""
        return os.fstat(self._own()).st_size

    def close(self) -> None:
        """Close the file."""
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptor, if it is still this file's."""
        self._is_closed = True
        if self._is_ours():
            os.close(self._fd)
        self._fd = -1

    def _own(self) -> int:
        """The descriptor of this file, opened again if somebody has closed it.

        A look at its position costs 0.3 us, at what file it is 1.2 us: whoever else took the number stands
        elsewhere.
        """
        try:
            position = os.lseek(self._fd, 0, os.SEEK_CUR)
        except OSError:
            position = -1
        if position != self._position:
            if self._is_closed:
                raise OSError(errno.EBADF, "the journal is closed")
            if not self._is_ours():
                self._fd = reopen(self._path, _APPENDING, self._identity)
                position = 0
            self._position = position  # another thread writes, or did
        return self._fd

    def _is_ours(self) -> bool:
        try:
            return identity_of(self._fd) == self._identity
        except OSError:
            return False


def _round_up(size_bytes: int) -> int:
    return -(-size_bytes // SEGMENT_BYTES) * SEGMENT_BYTES
