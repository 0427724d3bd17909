"""Payloads too large for a record: files beside the journal, named by writer and ordinal."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from mlobs.errors import StoreError
from mlobs.journal import access

_PORTION_BYTES = 1 << 26  # of one call of the kernel: 20 ms on a fast disk, and then the progress is told
_CHUNK_BYTES = 1 << 20  # where it does not copy
INLINE_BYTES = 1 << 15  # up to here content stands in the record: one append instead of a file of its own


def blob_path(run_folder: Path, writer: str, ordinal: int) -> Path:
    """Where the blob lies."""
    return run_folder / "blobs" / f"{writer}-{ordinal}"


def final_path(run_folder: Path, writer: str, ordinal: int) -> Path:
    """Where the final content lies of what was kept raw, once somebody made it."""
    return run_folder / "blobs" / f"{writer}-{ordinal}.final"


def finish_blob(raw: Path, final: Path, content: bytes) -> None:
    """Put the final content in the place of the raw one. Of several processes that do, each may win.

    Raises:
        OSError: there is no room, or the folder cannot be written; the raw content stays.
    """
    unfinished = final.with_suffix(f".{os.getpid()}-{os.urandom(4).hex()}")
    try:
        with _opened(unfinished) as writing:
            writing.write(content)
            writing.flush()
            os.fsync(writing.fileno())  # a power cut must not find the raw content gone, and this not there
        unfinished.replace(final)
        _sync_folder(final.parent)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    raw.unlink(missing_ok=True)


def keep_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a blob; when this returns it survives `kill -9` of the process.

    Raises:
        StoreError: there is no room, or the folder cannot be written.
    """
    try:
        with _opened(path) as writing:
            writing.write(content)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StoreError.of(error, path, "the payload was not recorded") from error


def keep_file(path: Path, source: Path, copied: Callable[[int], None] | None = None) -> int:
    """Copy a file as it is now into a blob and return its size in bytes; the original is not needed again.

    `copied` is told of each portion how many bytes it had.

    Raises:
        StoreError: there is no room, or the folder cannot be written.
        OSError: the source cannot be read.
    """
    with source.open("rb") as reading:
        try:
            with _opened(path) as writing:
                _copy(reading, writing, copied or (lambda _bytes: None))
                return writing.seek(0, os.SEEK_END)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StoreError.of(error, path, "the payload was not recorded") from error


def move_file(path: Path, source: Path) -> int | None:
    """Make a file into a blob without a copy, and return its size in bytes; None if that is not possible.

    `source` is nobody else's: a link, or a file that has another name too, stays where it is.
    """
    about = source.lstat()
    if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
        return None
    try:
        with _opened(path):
            source.chmod(stat.S_IMODE(path.stat().st_mode))
        source.replace(path)
    except OSError:  # on another disk
        path.unlink(missing_ok=True)
        return None
    return about.st_size


def link_file(path: Path, source: Path) -> int:
    """Make a file that never changes into a blob, by a link where the disk can; return its size in bytes.

    Raises:
        StoreError: there is no room, or the folder cannot be written.
        OSError: the source cannot be read.
    """
    try:
        access.make_folder(path.parent)
        os.link(source, path)
    except OSError:  # a file system without links
        return keep_file(path, source)
    return path.stat().st_size


def _copy(reading: BinaryIO, writing: BinaryIO, copied: Callable[[int], None]) -> None:
    """Copy inside of the kernel where it can: a third of the time.

    `shutil.copyfile` does so too, but opens the file again to cut it, and ext4 then takes it for one
    that is being replaced, and begins to write it to the disk at once: 1.6 x the time.
    """
    if sys.platform == "linux":
        try:
            while portion := os.sendfile(writing.fileno(), reading.fileno(), None, _PORTION_BYTES):
                copied(portion)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS) or writing.seek(0, os.SEEK_END):
                raise  # otherwise a file system that cannot: nothing was copied
        else:
            return
    while chunk := reading.read(_CHUNK_BYTES):
        writing.write(chunk)
        copied(len(chunk))


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _opened(path: Path) -> BinaryIO:
    access.make_folder(path.parent)
    return os.fdopen(access.open_file(path, os.O_WRONLY | os.O_TRUNC), "wb")
