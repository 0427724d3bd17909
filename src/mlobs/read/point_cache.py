"""The points of a run in columns, as they lie in memory, so that reading them again is copying.

STORE/cache/points/RUN_ID is a head, a block that says of what run and journals, and a block for each
`BLOCK_POINTS` points: names' codes (int32), steps (int64), values and times (float64), one column after the
other in the byte order of the machine. It holds the points that count, in recorded order.
"""

from __future__ import annotations

import mmap
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlobs.journal.format import encode
from mlobs.journal.store import RunFolder
from mlobs.read.at_rest import Key, journal_key, scan_with_key
from mlobs.read.cache_file import block_of, head_of, read_block, write_cache
from mlobs.read.points import Points, that_count
from mlobs.read.record import Alive, started_at

if TYPE_CHECKING:
    from typing_extensions import Self  # of the type checkers; typing has it from 3.11 on

KIND = "points"
BLOCK_POINTS = 1 << 17  # 3.6 MB: what a reader that has little memory holds at once
WORTH_POINTS = 1000  # fewer are read from the journal in about 2 ms
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
    """

    is_alive: Alive
    worth_points: int = WORTH_POINTS
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
        with _opened(folder, journal_key(folder)) as cache:
            if cache.about is not None and cache.is_whole():
                for block in cache.blocks(self.names):
                    yield from ((part, cache.about.started_at) for part in _split(block, most))
                return
        found = self.points(folder)
        if found is not None:
            yield from ((part, found[1]) for part in _split(found[0], most))


class _Cache:
    """One file, mapped; `about` is None if it is not there, of other journals, or of another version."""

    def __init__(self, content: mmap.mmap | None, key: Key) -> None:
        self._content = content
        self._at = 0
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
        at = self._at
        while at < len(self._content):
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
        found = _block(content, len(head))
        if found is None:
            return None
        body, self._at = found
        try:
            about = msgspec.msgpack.decode(body, type=_About)
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
    if used != set(range(len(points.names))):  # other runs of the query have more names
        names = [name for name, code in points.names.items() if code in used]
        numbers = {points.names[name]: number for number, name in enumerate(names)}
        codes = array(points.codes.typecode, map(numbers.__getitem__, points.codes))
    else:
        names, codes = list(points.names), points.codes
    about = block_of(encode(_About(key, sys.byteorder, names, begun, len(points))))
    columns = (codes, points.steps, points.values, points.ats)

    def blocks() -> Iterator[bytes]:
        yield about
        for at in range(0, len(points), BLOCK_POINTS):
            yield block_of(*(column[at : at + BLOCK_POINTS].tobytes() for column in columns))

    write_cache(_path(folder), KIND, blocks())


def _path(folder: RunFolder) -> Path:
    return folder.store / "cache" / KIND / folder.run_id
