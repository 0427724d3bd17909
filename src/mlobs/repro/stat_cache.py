"""What files were found to be, by what `stat` says of them: an unchanged file is not read again.

A SQLite file that may be deleted at any time. It holds one row for each tree, so it is read and written
in one step. A cache that is broken or locked is an empty one: the files are read.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

_LOCKED_S = 1.0  # somebody else writes; reading the files is better than waiting longer
RACY_NS = 2_000_000_000  # the coarsest clock of a file system in use: FAT's
_SCHEMA = "CREATE TABLE IF NOT EXISTS trees (root BLOB PRIMARY KEY, entries BLOB NOT NULL) WITHOUT ROWID"


class Stat(NamedTuple):
    """What changes when a file does. `ctime_ns` does even where `os.utime` puts the time back."""

    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


def stat_of(found: os.stat_result) -> Stat:
    """The part of a file's `stat` that says whether it is still the same."""
    return Stat(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Known(NamedTuple):
    """A file's digest of 32 bytes, and what `stat` said when it was read."""

    stat: Stat
    digest: bytes


_DECODER = msgspec.msgpack.Decoder(dict[bytes, Known])


class StatCache:
    """The digests of files, kept in the file `path`; any number of processes may use it at once.

    Args:
        path: the file, which is created on first use.
        now_ns: the clock, in nanoseconds since 1970.
    """

    def __init__(self, path: str | os.PathLike[str], *, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._path = Path(path)
        self.now_ns = now_ns

    def known(self, root: str) -> dict[bytes, Known]:
        """What is known of a tree's files, by their path in it."""
        if not self._path.exists():
            return {}
        try:
            with contextlib.closing(self._opened()) as database:
                row = database.execute(
                    "SELECT entries FROM trees WHERE root = ?", (os.fsencode(root),)
                ).fetchone()
            return _DECODER.decode(row[0]) if row else {}
        except (sqlite3.Error, msgspec.MsgspecError, OSError):  # broken or locked: the files are read
            return {}

    def keep(self, root: str, files: Mapping[bytes, Known], read_at_ns: int) -> None:
        """Remember a tree's files, which were read since `read_at_ns`, in the place of what was known.

        A file that changed so shortly before that it may change again without another time is left out:
        git's rule for its index.
        """
        limit_ns = read_at_ns - RACY_NS
        safe = {
            name: one for name, one in files.items() if max(one.stat.mtime_ns, one.stat.ctime_ns) < limit_ns
        }
        row = (os.fsencode(root), msgspec.msgpack.encode(safe))
        try:
            self._write(row)
        except sqlite3.OperationalError:  # locked, or not writable: the files are read again
            return
        except (sqlite3.DatabaseError, OSError):  # no database, or a broken one
            with contextlib.suppress(sqlite3.Error, OSError):  # the files are read again
                self._path.unlink(missing_ok=True)
                self._write(row)

    def _write(self, row: tuple[bytes, bytes]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(self._opened()) as database, database:
            database.execute("PRAGMA synchronous = OFF")  # a power cut may break it: it is then an empty one
            database.execute(_SCHEMA)
            database.execute("INSERT OR REPLACE INTO trees VALUES (?, ?)", row)

    def _opened(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_LOCKED_S)
