"""The bytes of a journal: the only place that encodes and decodes.

A record is

    magic (4) | length of the body (4) | CRC-32 of the 8 bytes before (4) | CRC-32 of the body (4) | body

with little-endian integers, and a body in MessagePack. The first record of a file is its `Header`,
the others are events. Files grow in segments of `SEGMENT_BYTES`; a writer may leave zeros between
its last record of a segment and the segment's end, and then goes on at the next one. That makes the
size of a segment part of the format: a later one may use multiples of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any
from zlib import crc32

import msgspec

from mlobs.events import Event, Known, Process, Unknown

FORMAT = 1
MAGIC = b"\xabMLo"
HEAD_BYTES = 16
SEGMENT_BYTES = 1 << 18  # ~4,500 scalars: the next one costs the caller ~0.1 ms, a short run little disk

_PREFIX_BYTES = 12  # of the head: magic, length and their CRC
_CACHED_LENGTH = 4096  # bodies of scalars are far shorter; the table of prefixes stays small
_METRICS = msgspec.msgpack.encode("metrics")  # behind the one byte that opens a short array
_body_crc = struct.Struct("<I")


class Header(msgspec.Struct, frozen=True, array_like=True, tag="journal"):
    """Who wrote this file. `is_opener`: the process that opened the run, who alone may finish it.

    `rank` is the process's among those that a launcher started together.
    """

    format: int
    run_id: str
    writer: str
    process: Process
    at: float
    is_opener: bool = False
    rank: int = 0


class _Prefixes(dict[int, bytes]):
    """The first 12 bytes of a record by the length of its body, computed once per length."""

    def __missing__(self, length: int) -> bytes:
        head = MAGIC + length.to_bytes(4, "little")
        head += crc32(head).to_bytes(4, "little")
        if length < _CACHED_LENGTH:
            self[length] = head
        return head


PREFIXES = _Prefixes()

encode = msgspec.msgpack.Encoder().encode
_decode_known: Callable[[bytes], Known] = msgspec.msgpack.Decoder(Known).decode
_decode_header = msgspec.msgpack.Decoder(Header).decode
_decode_any = msgspec.msgpack.Decoder().decode


def frame(body: bytes) -> bytes:
    """Make a record of a body."""
    return PREFIXES[len(body)] + crc32(body).to_bytes(4, "little") + body


def head_is_valid(buffer: bytes, at: int, length: int) -> bool:
    """Tell whether a record's head stands at `at`; `length` is what `body_length` read there."""
    return buffer[at : at + _PREFIX_BYTES] == PREFIXES[length]


def body_length(buffer: bytes, at: int) -> int:
    """Read the length field of a head at `at`."""
    return int.from_bytes(buffer[at + 4 : at + 8], "little")


def body_if_valid(buffer: bytes, at: int, length: int) -> bytes | None:
    """Cut out the body behind the head at `at`, or None if it is short or its CRC does not match."""
    start = at + HEAD_BYTES
    body = buffer[start : start + length]
    if len(body) != length or crc32(body) != _body_crc.unpack_from(buffer, start - 4)[0]:
        return None
    return body


def is_metrics(body: bytes) -> bool:
    """Tell, without decoding, whether a body is a `Metrics` event: by far the most are."""
    return body.startswith(_METRICS, 1)


def decode_event(body: bytes) -> Event:
    """Decode an event; a kind that this version does not know comes back as `Unknown`."""
    try:
        return _decode_known(body)
    except msgspec.DecodeError:
        return _decode_unknown(body)


def decode_header(body: bytes) -> Header | None:
    """Decode a file's header, or None if the body is something else."""
    try:
        return _decode_header(body)
    except msgspec.DecodeError:
        return None


def _decode_unknown(body: bytes) -> Unknown:
    try:
        fields: Any = _decode_any(body)
    except msgspec.DecodeError:
        fields = None
    if isinstance(fields, list) and fields and isinstance(fields[0], str):
        return Unknown(fields[0], tuple(fields[1:]))
    return Unknown("?", (body,))
