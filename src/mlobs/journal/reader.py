"""Read a journal while it grows, after it was cut off, and around what was damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlobs.events import Event
from mlobs.journal.format import (
    HEAD_BYTES,
    MAGIC,
    SEGMENT_BYTES,
    Header,
    body_if_valid,
    body_length,
    decode_event,
    decode_header,
    head_is_valid,
)

if TYPE_CHECKING:
    from typing_extensions import Self  # of the type checkers; typing has it from 3.11 on

CHUNK_BYTES = 1 << 20  # enough to make the system call disappear; a record larger than it is read whole
_MAX_RECORD_BYTES = 1 << 31  # a head that claims more has passed its CRC by accident


@dataclass(frozen=True)
class Damage:
    """Bytes `[offset, offset + size_bytes)` that hold no valid record, though valid ones follow."""

    offset: int
    size_bytes: int


class Reader:
    """The records of one journal file, from any offset that a record or a reader ended at.

    It never writes. `damage` lists what was stepped over so far. `tail_bytes` is what stood behind
    the last valid record of the latest read and was not zero: a record that is being written right
    now, or one that its writer's death cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[Damage] = []
        self.tail_bytes = 0
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def header(self) -> Header | None:
        """Read who wrote the file; None if its first record is not there (yet) or is damaged."""
        buffer = self._read(HEAD_BYTES + 4096, 0)
        body = _body_at(buffer, 0)
        return decode_header(body) if body is not None else None

    def events(self, offset: int = 0) -> Iterator[tuple[int, int, Event]]:
        """Yield (offset, end, event) of every event from `offset` on; go on later from `end`."""
        for start, end, body in self.bodies(offset):
            if start == 0 and decode_header(body) is not None:
                continue
            yield start, end, decode_event(body)

    def bodies(self, offset: int = 0) -> Iterator[tuple[int, int, bytes]]:
        """Yield (offset, end, body) of every valid record from `offset` on, undecoded."""
        self.tail_bytes = 0
        want = CHUNK_BYTES
        while buffer := self._read(want, offset):
            used = 0
            for start, end, body in _valid_records(buffer):
                yield offset + start, offset + end, body
                used = end
            offset += used
            if used:
                want = CHUNK_BYTES
                continue
            missing = _bytes_of_record_cut_by_chunk(buffer, want)
            if missing:
                want = missing
                continue
            resumed = self._next_valid(offset)
            if resumed is None:
                return
            offset, want = resumed, CHUNK_BYTES

    def _read(self, size_bytes: int, offset: int) -> bytes:
        os.lseek(self._fd, offset, os.SEEK_SET)  # not pread: Windows has none
        return os.read(self._fd, size_bytes)

    def _next_valid(self, offset: int) -> int | None:
        """Find where to go on, given that no valid record was seen at `offset`; None: nowhere yet.

        Whatever is found further on was written after the bytes at `offset`. So once it is found,
        `offset` is read again: a record that was being copied during the first look is whole now.
        """
        following = self._after_padding(offset)
        is_padding = following is not None
        if following is None:
            following = self._after_damage(offset)
        if self._body_on_disk(offset) is not None:
            return offset
        if following is None:
            self.tail_bytes = len(self._read(CHUNK_BYTES, offset).rstrip(b"\0"))
            return None
        if not (is_padding and self._after_padding(offset) == following):
            self.damage.append(Damage(offset, following - offset))
        return following

    def _after_padding(self, offset: int) -> int | None:
        """Offset of the next segment that holds a record, if there are only zeros before it."""
        size = os.fstat(self._fd).st_size
        at = offset
        while at < size:
            boundary = (at // SEGMENT_BYTES + 1) * SEGMENT_BYTES
            if self._read(boundary - at, at).strip(b"\0"):
                return None
            if self._body_on_disk(boundary) is not None:
                return boundary
            at = boundary
        return None

    def _after_damage(self, offset: int) -> int | None:
        """Offset of the next valid record behind `offset`, wherever it stands."""
        buffer = self._read(HEAD_BYTES, offset)
        if len(buffer) == HEAD_BYTES and head_is_valid(buffer, 0, length := body_length(buffer, 0)):
            end = offset + HEAD_BYTES + length  # the head is whole, so it says where its record ends
            if self._body_on_disk(end) is not None:
                return end
        at = offset + 1
        while len(buffer := self._read(CHUNK_BYTES, at)) >= HEAD_BYTES:
            found = buffer.find(MAGIC)
            while found >= 0:
                if self._body_on_disk(at + found) is not None:
                    return at + found
                found = buffer.find(MAGIC, found + 1)
            at += len(buffer) - len(MAGIC) + 1
        return None

    def _body_on_disk(self, offset: int) -> bytes | None:
        head = self._read(HEAD_BYTES, offset)
        if len(head) < HEAD_BYTES or not head_is_valid(head, 0, length := body_length(head, 0)):
            return None
        if offset + HEAD_BYTES + length > os.fstat(self._fd).st_size:
            return None
        return body_if_valid(self._read(HEAD_BYTES + length, offset), 0, length)


def _valid_records(buffer: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (start, end, body) of the valid records that stand whole at the buffer's beginning."""
    at, size = 0, len(buffer)
    while at + HEAD_BYTES <= size:
        length = body_length(buffer, at)
        if not head_is_valid(buffer, at, length):
            return
        body = body_if_valid(buffer, at, length)
        if body is None:
            return
        end = at + HEAD_BYTES + length
        yield at, end, body
        at = end


def _body_at(buffer: bytes, at: int) -> bytes | None:
    for _, _, body in _valid_records(buffer[at:]):
        return body
    return None


def _bytes_of_record_cut_by_chunk(buffer: bytes, want: int) -> int:
    """Bytes to read to have the first record whole, 0 if the chunk's end is not what cuts it."""
    if len(buffer) < want or len(buffer) < HEAD_BYTES:
        return 0
    length = body_length(buffer, 0)
    if not head_is_valid(buffer, 0, length) or length > _MAX_RECORD_BYTES:
        return 0
    return HEAD_BYTES + length if HEAD_BYTES + length > want else 0
