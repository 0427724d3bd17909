"""What of the runs is on the disk itself, where a power cut does not reach it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from mlobs.journal.store import RunFolder

_log = logging.getLogger(__name__)


def fsync(path: Path) -> None:
    """Force a file's content, or a folder's entries, onto the disk; Windows does not do folders.

    Raises:
        OSError: the disk refuses, or the path is gone.
    """
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Disk:
    """Forces what was written since the last time onto the disk, by `fsync`."""

    def __init__(self, fsync: Callable[[Path], None] = fsync) -> None:
        self._fsync = fsync
        self._kept: dict[Path, dict[Path, int]] = {}  # by run, when each file had changed last
        self._complained: set[str] = set()

    def keep(self, folder: RunFolder) -> None:
        """Keep the run's journals and payloads, and the entries of its folders.

        What cannot be kept is logged once and tried again the next time.
        """
        kept = self._kept.setdefault(folder.path, {})
        for path in _paths(folder):
            try:
                changed_at = path.stat().st_mtime_ns  # a mapped page's first change after an fsync counts
                if kept.get(path) != changed_at:
                    self._fsync(path)
                    kept[path] = changed_at
            except OSError as error:
                self._complain(path, error)

    def forget(self, folder: RunFolder) -> None:
        """Remember nothing more of this run."""
        self._kept.pop(folder.path, None)

    def _complain(self, path: Path, error: OSError) -> None:
        if str(error) not in self._complained:
            self._complained.add(str(error))
            _log.error("%s is not safe from a power cut: %s", path, error)


def _paths(folder: RunFolder) -> Iterator[Path]:
    """Files before the folder that names them."""
    yield from folder.journals()
    blobs = folder.path / "blobs"
    if blobs.is_dir():
        yield from blobs.iterdir()
        yield blobs
    yield folder.path
    yield folder.path.parent
