"""The records of a `run-*.wandb` file, which W&B's client writes for each run, offline or not.

The file is a log of LevelDB (https://github.com/google/leveldb/blob/main/doc/log_format.md): blocks of 32 KiB
with whole, first, middle and last pieces of records. W&B's differs in two ways: seven bytes open the file,
and the checksum is zlib's CRC-32 over type and content. A record is a protobuf message `Record`, whose
classes come from the package `wandb`; the package itself offers no reader (looked at: 0.31.0).
"""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlobs.errors import UsageError

_OPENING = b":W&B\xe1\xbe"  # then a byte for the version
_OPENING_BYTES = 7
_BLOCK_BYTES = 1 << 15
_HEAD = struct.Struct("<IHB")  # CRC, length, type
_WHOLE, _FIRST, _LAST = 1, 2, 4


def records(path: Path) -> Iterator[Any]:
    """Yield the records of a file, as messages of W&B's package; what is being written right now is left.

    Raises:
        UsageError: it is no such file, it is damaged, or `wandb` is not installed.
    """
    record = _message()
    for body in _bodies(path):
        yield record.FromString(body)


def _message() -> Any:
    try:
        messages = importlib.import_module("wandb.proto.wandb_internal_pb2")
    except ImportError as error:
        raise UsageError(
            "the files of W&B hold messages that its own package reads - type: pip install wandb"
        ) from error
    return messages.Record


def _bodies(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    if not content.startswith(_OPENING):
        raise UsageError(f"{path} is no run file of W&B - it begins with {content[:6]!r}")
    at, body = _OPENING_BYTES, b""
    while at + _HEAD.size <= len(content):
        left = _BLOCK_BYTES - at % _BLOCK_BYTES
        if left < _HEAD.size:  # zeros to the block's end
            at += left
            continue
        crc, length, kind = _HEAD.unpack_from(content, at)
        piece = content[at + _HEAD.size : at + _HEAD.size + length]
        if kind == 0 or len(piece) < length:
            return
        if zlib.crc32(piece, zlib.crc32(bytes([kind]))) != crc:
            raise UsageError(f"{path} is damaged at byte {at:,} - give a whole copy")
        at += _HEAD.size + length
        body = piece if kind in (_WHOLE, _FIRST) else body + piece
        if kind in (_WHOLE, _LAST):
            yield body
