"""b3 and tree1: one digest of a file or of a folder, by paths and contents alone.

Times, owners and modes are no content. A link counts as what it leads to, so that a folder of links and
a copy of it are the same data; one that leads nowhere, or around in a circle, counts as its own text.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from operator import itemgetter
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from mlobs.errors import UsageError
from mlobs.repro.fingerprint_value import Fingerprint
from mlobs.repro.stat_cache import Known, Stat, StatCache, stat_of
from mlobs.repro.tables import hasher

_SMALL_BYTES = 1 << 20  # threads made hashing of smaller files slower (measured: 2 x)
_PORTION_BYTES = 1 << 24  # of a large file: enough for all threads of BLAKE3
_READ_S_PER_BYTE = 1e-9
_OPEN_S = 3e-5  # for each file
_MOST_THREADS = 8  # the memory gives no more
_LOOKS = 1_000  # files between two looks at the clock: about 5 ms
_BINARY = getattr(os, "O_BINARY", 0)
_SCAN_KNOWS_INODES = sys.platform != "win32"


class Entry(NamedTuple):
    """A file of a tree: its path in it as bytes, where to open it, and its `stat`; None of a loose link."""

    name: bytes
    path: str
    stat: Stat | None


def fingerprint_of_path(
    path: Path, *, cache: StatCache | None = None, budget_s: float | None = None
) -> Fingerprint:
    """The content fingerprint of a file ("b3:", what `b3sum` prints) or of a folder ("tree1:").

    Where reading would take longer than `budget_s`, it is one of sizes and times ("stat1:"), and where
    finding the files does, one of the path alone ("name:").

    Raises:
        UsageError: there is no such file, or it cannot be read.
    """
    try:
        entries = _entries(path, None if budget_s is None else perf_counter() + budget_s)
    except _TooManyError:
        why = f"to look at its files takes longer than {budget_s:g} s"
        return Fingerprint(f"name:{_shown(os.fsencode(path))}", "name", notes={"why": why})
    root = os.path.realpath(path)
    known = cache.known(root) if cache else {}
    digests = {one.name: known[one.name].digest for one in entries if _is_known(known, one)}
    fresh = [one for one in entries if one.stat and one.name not in digests]
    if budget_s is not None and _cost_s(fresh) > budget_s:
        return fingerprint_of_stats(path, entries)
    read_at_ns = cache.now_ns() if cache else 0
    changed = _read(fresh, digests)
    _read_links(entries, digests)
    if cache is not None and fresh:
        files = {
            one.name: Known(one.stat, digests[one.name])
            for one in entries
            if one.stat and one.name not in changed
        }
        cache.keep(root, files, read_at_ns)
    return _of_files(path, entries, digests, changed)


def fingerprint_of_stats(path: Path, entries: list[Entry] | None = None) -> Fingerprint:
    """A weak fingerprint of sizes and times alone.

    Raises:
        UsageError: there is no such file, or a folder cannot be read.
    """
    found = _entries(path) if entries is None else entries
    one = hasher("mlobs stat1")
    for entry in found:
        size, at = (entry.stat.size_bytes, entry.stat.mtime_ns) if entry.stat else (0, 0)
        one.update(struct.pack("<I", len(entry.name)) + entry.name + struct.pack("<Qq", size, at))
    return Fingerprint(
        f"stat1:{one.hexdigest()}",
        "stat",
        size_bytes=_size(found),
        notes={"compared": f"sizes and times of {len(found)} file(s)"},
    )


def _of_files(
    path: Path, entries: list[Entry], digests: dict[bytes, bytes], changed: list[bytes]
) -> Fingerprint:
    notes = {"changed while read": ", ".join(map(_shown, changed))} if changed else {}
    if not path.is_dir():
        return Fingerprint(f"b3:{digests[b''].hex()}", "content", size_bytes=_size(entries), notes=notes)
    lines = [
        b"%b%b%b%b"
        % (struct.pack("<I", len(one.name)), one.name, b"f" if one.stat else b"l", digests[one.name])
        for one in entries
    ]
    text = f"tree1:{hasher('mlobs tree1').update(b''.join(lines)).hexdigest()}"
    files = {_shown(one.name): digests[one.name].hex() for one in entries}
    return Fingerprint(text, "content", size_bytes=_size(entries), files=files, notes=notes)


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _size(entries: list[Entry]) -> int:
    return sum(one.stat.size_bytes for one in entries if one.stat)


def _cost_s(entries: list[Entry]) -> float:
    return len(entries) * _OPEN_S + _size(entries) * _READ_S_PER_BYTE


def _is_known(known: dict[bytes, Known], entry: Entry) -> bool:
    found = known.get(entry.name)
    return found is not None and found.stat == entry.stat


# What there is


class _Folder(NamedTuple):
    """A folder to look into: its path in the tree with a slash, device and inode of it and its parents."""

    path: str
    prefix: str
    above: tuple[tuple[int, int], ...]


class _TooManyError(Exception):
    """There are so many files that finding them takes too long."""


def _entries(path: Path, until: float | None = None) -> list[Entry]:
    """The file itself under no name, or the files of a folder in the order of their names as bytes."""
    try:
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            found: list[Entry] = []
            waiting = [_Folder(os.fspath(path), "", (_place(about),))]
            while waiting:  # not by recursion: folders may be nested deeper than Python's stack
                _scan(waiting.pop(), waiting, found, until)
            return sorted(found, key=itemgetter(0))
    except OSError as error:
        raise _unreadable(error, path) from error
    if not stat.S_ISREG(about.st_mode):
        raise UsageError(f"{path} is neither a file nor a folder - copy what it gives into a file")
    return [Entry(b"", os.fspath(path), stat_of(about))]


def _scan(folder: _Folder, waiting: list[_Folder], found: list[Entry], until: float | None) -> None:
    """Find the files of a folder, and the folders in it; special ones (sockets, pipes) are no data."""
    with os.scandir(folder.path) as entries:
        for one in entries:
            name = folder.prefix + one.name
            if until is not None and len(found) % _LOOKS == _LOOKS - 1 and perf_counter() > until:
                raise _TooManyError
            try:
                about = one.stat() if _SCAN_KNOWS_INODES else os.stat(one.path)  # noqa: PTH116 - as fast as can be
            except OSError as error:
                if not one.is_symlink() or isinstance(error, PermissionError):  # it leads somewhere
                    raise
                found.append(Entry(os.fsencode(name), one.path, None))
                continue
            if stat.S_ISREG(about.st_mode):
                found.append(Entry(os.fsencode(name), one.path, stat_of(about)))
            elif stat.S_ISDIR(about.st_mode) and _place(about) in folder.above:
                found.append(Entry(os.fsencode(name), one.path, None))
            elif stat.S_ISDIR(about.st_mode):
                waiting.append(_Folder(one.path, f"{name}/", (*folder.above, _place(about))))


def _place(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino


def _unreadable(error: OSError, path: object) -> UsageError:
    return UsageError(
        f"{error.filename or path} cannot be read: {error.strerror or error} - check path and permissions"
    )


# What is in it


def _read(fresh: list[Entry], digests: dict[bytes, bytes]) -> list[bytes]:
    """Add what files came to, and return which of them changed meanwhile."""
    changed = []
    for one in fresh:
        try:
            digests[one.name], after = _digest(one.path)
        except OSError as error:
            raise _unreadable(error, one.path) from error
        if after != one.stat:
            changed.append(one.name)
    return changed


def _read_links(entries: list[Entry], digests: dict[bytes, bytes]) -> None:
    for one in (one for one in entries if one.stat is None):
        try:
            digests[one.name] = _digest_of(os.fsencode(os.readlink(one.path)))  # noqa: PTH115 - as it stands
        except OSError as error:
            raise _unreadable(error, one.path) from error


def _digest(path: str) -> tuple[bytes, Stat]:
    """A file's BLAKE3, and its `stat` once it was read."""
    handle = os.open(path, os.O_RDONLY | _BINARY)
    try:
        content = os.read(handle, _SMALL_BYTES)
        after = os.fstat(handle)
        if len(content) < _SMALL_BYTES and len(content) == after.st_size:
            return _digest_of(content), stat_of(after)
        return _digest_of_rest(content, handle), stat_of(os.fstat(handle))
    finally:
        os.close(handle)


def _digest_of(content: bytes) -> bytes:
    from blake3 import blake3

    return blake3(content).digest()


def _digest_of_rest(start: bytes, handle: int) -> bytes:
    """Of a large file, with several cores. Not mapped: if it were cut short meanwhile, the process would die.

    The threads are this hash's own: those of `AUTO` are shared, and a forked child waits for them for ever.
    """
    from blake3 import blake3

    one = blake3(start, max_threads=min(os.cpu_count() or 1, _MOST_THREADS))
    portion = memoryview(bytearray(_PORTION_BYTES))
    with open(handle, "rb", buffering=0, closefd=False) as file:
        while size := file.readinto(portion):
            one.update(portion[:size])
    return one.digest()
