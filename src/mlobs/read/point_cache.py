"""The points of a run in columns, as they lie in memory, so that reading them again is copying.

STORE/cache/points/RUN_ID is a head, a block for each `BLOCK_POINTS` points or so, a block that says of what
journals, and where that begins (8 bytes). A block of points has their names' codes (int32), steps (int64),
values and times (float64), one column after the other in the byte order of the machine. The file holds the
points that count, in recorded order.
"""

from __future__ import annotations

import mmap
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from mlobs.events import Metrics, Rewind
from mlobs.journal.format import SEGMENT_BYTES, encode
from mlobs.journal.store import RunFolder
from mlobs.read.at_rest import Key, is_at_rest, journal_key, scan_with_key
from mlobs.read.cache_file import block_of, head_of, read_block, write_cache
from mlobs.read.points import Points, that_count
from mlobs.read.record import Alive, started_at
from mlobs.read.scan import scan

if TYPE_CHECKING:
    from typing_extensions import Self  # of the type checkers; typing has it from 3.11 on

KIND = "points"
BLOCK_POINTS = 1 << 17  # 3.6 MB: what a reader that has little memory holds at once
WORTH_POINTS = 1000  # fewer are read from the journal in about 2 ms
LARGE_BYTES = 1 << 24  # of journals; some 300,000 points, which take 10 MB
_COLUMNS = ("codes", "steps", "values", "ats")
_POINT_BYTES = 4 + 8 + 8 + 8


class _About(msgspec.Struct, frozen=True, array_like=True):
    key: Key
    byteorder: str
    names: list[str]
    started_at: float
    points: int


@dataclass
class PointReader:
    """Reads the points of runs that are asked for together, and numbers their metrics' names once.

    Args:
        is_alive: see `liveness`.
        worth_points: runs with fewer are not kept.
        large_bytes: journals of this size or more are kept without holding their points at once.
    """

    is_alive: Alive
    worth_points: int = WORTH_POINTS
    large_bytes: int = LARGE_BYTES
    names: dict[str, int] = field(default_factory=dict)

    def points(self, folder: RunFolder) -> tuple[Points, float] | None:
        """The points of a run that count, and when it started (Unix seconds); None if nothing is recorded."""
        key = journal_key(folder)
        with _opened(folder, key) as cache:
            found = cache.all(self.names) if cache.about else None
            if cache.about is not None and found is not None:
                return found, cache.about.started_at
        scans, at_rest = scan_with_key(folder, self.is_alive, self.names, key)
        if not scans:
            return None
        points, begun = that_count([one.points for one in scans]), started_at(scans)
        if at_rest and len(points) >= self.worth_points:
            _keep(folder, at_rest, points, begun)
        return points, begun

    def parts(self, folder: RunFolder, most: int) -> Iterator[tuple[Points, float]]:
        """The same in parts of at most `most` points; of a run that is kept, no more is in memory at once."""
        key = journal_key(folder)
        for is_known in (True, False):
            if not is_known and not self._keep_large(folder, key):
                break
            with _opened(folder, key) as cache:
                if cache.about is not None and cache.is_whole():
                    for block in cache.blocks(self.names):
                        yield from ((part, cache.about.started_at) for part in _split(block, most))
                    return
        found = self.points(folder)
        if found is not None:
            yield from ((part, found[1]) for part in _split(found[0], most))

    def _keep_large(self, folder: RunFolder, key: Key) -> bool:
        size_bytes = sum(size for _, size, _ in key)
        return size_bytes >= self.large_bytes and _keep_without_holding(folder, key, self.is_alive)


class _Cache:
    """One file, mapped; `about` is None if it is not there, of other journals, or of another version."""

    def __init__(self, content: mmap.mmap | None, key: Key) -> None:
        self._content = content
        self._end = 0
        self.about = self._read_about(key) if content is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._content is not None:
            self._content.close()

    def all(self, names: dict[str, int]) -> Points | None:
        """All points; None if the file is damaged."""
        known = dict(names)
        points = Points(names)
        for block in self.blocks(names):
            for column in _COLUMNS:
                getattr(points, column).extend(getattr(block, column))
        if self.about is not None and len(points) == self.about.points:
            return points
        names.clear()
        names.update(known)
        return None

    def is_whole(self) -> bool:
        """Tell whether every block is there and as it was written."""
        return self.about is not None and self.about.points == sum(len(one) for one in self.blocks({}))

    def blocks(self, names: dict[str, int]) -> Iterator[Points]:
        """Yield the points block by block, as far as the file is whole; codes are those of `names`."""
        if self._content is None or self.about is None:
            return
        codes = [names.setdefault(name, len(names)) for name in self.about.names]
        table = codes if codes != list(range(len(codes))) else None
        at = len(head_of(KIND))
        while at < self._end:
            found = _block(self._content, at)
            if found is None:
                return
            body, at = found
            yield _points(body, names, table)

    def _read_about(self, key: Key) -> _About | None:
        content = self._content
        head = head_of(KIND)
        if content is None or not key or content[: len(head)] != head:
            return None
        self._end = int.from_bytes(content[-8:], "little")
        found = _block(content, self._end) if len(head) <= self._end < len(content) else None
        if found is None:
            return None
        try:
            about = msgspec.msgpack.decode(found[0], type=_About)
        except msgspec.DecodeError:
            return None  # of another version that calls itself by this number
        return about if about.key == key and about.byteorder == sys.byteorder else None


def _opened(folder: RunFolder, key: Key) -> _Cache:
    try:
        with _path(folder).open("rb") as file:
            return _Cache(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), key)
    except (OSError, ValueError):  # not there, not ours to read, or empty
        return _Cache(None, key)


def _block(content: mmap.mmap, at: int) -> tuple[bytes, int] | None:
    """Copy a block out of the mapping, which cannot be closed while somebody looks into it."""
    size = int.from_bytes(content[at : at + 4], "little")
    found = read_block(content[at : at + 8 + size], 0)
    return (bytes(found[0]), at + found[1]) if found is not None else None


def _points(body: bytes, names: dict[str, int], table: list[int] | None) -> Points:
    points, at = Points(names), 0
    count = len(body) // _POINT_BYTES
    for column in _COLUMNS:
        values = getattr(points, column)
        size = count * values.itemsize
        values.frombytes(body[at : at + size])
        at += size
    if table is not None:
        points.codes = array(points.codes.typecode, map(table.__getitem__, points.codes))
    return points


def _split(points: Points, most: int) -> Iterator[Points]:
    for at in range(0, len(points), most):
        yield points.part(at, at + most)


def _keep(folder: RunFolder, key: Key, points: Points, begun: float) -> None:
    used = set(points.codes)
    names = [name for name, code in points.names.items() if code in used]
    numbers = {points.names[name]: number for number, name in enumerate(names)}
    if any(code != number for code, number in numbers.items()):  # other runs of the query have more names
        points = points.part(0, len(points))
        points.codes = array(points.codes.typecode, map(numbers.__getitem__, points.codes))

    def fill(file: BinaryIO) -> bool:
        file.writelines(map(_block_of, _split(points, BLOCK_POINTS)))
        _close(file, _About(key, sys.byteorder, names, begun, len(points)))
        return True

    write_cache(_path(folder), KIND, fill)


def _keep_without_holding(folder: RunFolder, key: Key, is_alive: Alive) -> bool:
    """Keep the points of a run while its one journal is read; False if they have to be held for that.

    That is so where several writers are put together, or something was rewound.
    """
    if len(key) != 1 or key[0][1] % SEGMENT_BYTES == 0:  # a mapped file that is still open
        return False

    def fill(file: BinaryIO) -> bool:
        points = _Passing(file)
        found = scan(folder.path / key[0][0], points.names, is_alive, points)
        points.pass_on()
        if points.has_rewind or not is_at_rest(found, key):
            return False
        _close(file, _About(key, sys.byteorder, list(points.names), started_at([found]), points.passed))
        return True

    return write_cache(_path(folder), KIND, fill)


def _block_of(points: Points) -> bytes:
    return block_of(*(getattr(points, column).tobytes() for column in _COLUMNS))


def _close(file: BinaryIO, about: _About) -> None:
    at = file.tell()
    file.write(block_of(encode(about)) + at.to_bytes(8, "little"))


class _Passing(Points):
    """Points that go on to a file, block by block, as they are read; only few are ever here.

    Args:
        file: takes the blocks.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__({})
        self._file = file
        self.passed = 0
        self.has_rewind = False

    def add(self, event: Metrics) -> None:
        """Take in the values of an event.

        Raises:
            OverflowError: the step does not fit 64 bits; nothing was taken in.
            OSError: the file cannot be written.
        """
        super().add(event)
        if len(self.codes) >= BLOCK_POINTS:
            self.pass_on()

    def pass_on(self) -> None:
        """Write what is here."""
        self._file.write(_block_of(self))
        self.passed += len(self)
        for column in _COLUMNS:
            del getattr(self, column)[:]

    def rewind(self, event: Rewind) -> None:  # noqa: ARG002 - whatever it takes back
        """Note that earlier points, which may have been written, do not count any more."""
        self.has_rewind = True


def _path(folder: RunFolder) -> Path:
    return folder.store / "cache" / KIND / folder.run_id
