"""TensorBoard's event file: records, appended durably at a known length.

A record is length, CRC, Event protobuf, CRC (the TFRecord format). Everything imported here is
TensorBoard's own pure-Python part; `tensorboard.compat.tf`, which would import TensorFlow where
it is installed, is never touched.
"""

# protobuf makes its classes at run time: pyright cannot know them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import event_pb2
from tensorboard.compat.tensorflow_stub import errors
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New, masked_crc32c

from mlobs.errors import Unavailable

# Readers look at this: below version 2 they would drop points whenever a step goes down.
FILE_VERSION = "brain.Event:2"


def append(path: Path, size_bytes: int, events: Iterable[Any], *, started_at: float) -> int:
    """Write `events` after the first `size_bytes` of the file; return its new size, on disk.

    Whatever stands behind `size_bytes` (a write that was cut short, or not acknowledged) is
    replaced. With size 0 the file is begun anew, with `started_at` in its header.
    If `events` raises, the file ends at `size_bytes` again.

    Raises:
        Unavailable: the file is missing or shorter than `size_bytes`; it is left as it is.
        OSError: the disk is full, the folder cannot be written, ...
    """
    is_new = size_bytes == 0
    if is_new:
        path.parent.mkdir(parents=True, exist_ok=True)
    present = path.stat().st_size if path.exists() else 0
    if present < size_bytes:
        raise Unavailable(
            f"{path} holds {present} bytes, but {size_bytes} were delivered to it: it was deleted or cut - "
            "put it back, or write it anew: mlobs sync RUN --restart tensorboard"
        )
    file = path.open("wb" if is_new else "r+b")
    try:
        with file:
            file.truncate(size_bytes)
            file.seek(size_bytes)
            if is_new:
                file.write(record(event_pb2.Event(wall_time=started_at, file_version=FILE_VERSION)))
            file.writelines(map(record, events))
            file.flush()
            os.fsync(file.fileno())
            written = file.tell()
    except BaseException:
        os.truncate(path, size_bytes)  # a TensorBoard that is open shall not read half a batch
        raise
    if is_new:
        _sync_folder(path.parent)
    return written


def replace(path: Path, event: Any) -> None:
    """Make the file hold `event` alone: a reader sees the old content or the new, on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # TensorBoard opens every file with "tfevents" in its name, so the unfinished one must not have it.
    unfinished = path.with_name(path.name.replace("tfevents", "unfinished"))
    header = event_pb2.Event(wall_time=event.wall_time, file_version=FILE_VERSION)
    with unfinished.open("wb") as file:
        file.writelines((record(header), record(event)))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    _sync_folder(path.parent)


def read(path: Path) -> Iterator[Any]:
    """Yield the file's events in their order, read by TensorBoard's own record reader.

    A record that is cut short at the end is not there yet: the iteration ends before it.

    Raises:
        Unavailable: the file is not there, or a checksum in it is wrong.
    """
    if not path.exists():
        raise Unavailable(
            f"{path} is gone: it was deleted or moved - put it back, "
            "or write it anew: mlobs sync RUN --restart tensorboard"
        )
    reader = PyRecordReader_New(str(path))
    try:
        while True:
            try:
                reader.GetNext()
            except errors.OutOfRangeError:
                return
            except errors.DataLossError as error:
                if "truncated" in str(error):
                    return
                raise Unavailable(f"{path} is damaged: {error} - put a good copy in its place") from error
            yield event_pb2.Event.FromString(reader.record())
    finally:
        reader.file_handle.close()


def record(event: Any) -> bytes:
    """Frame one Event; equal events give equal bytes."""
    body: bytes = event.SerializeToString(deterministic=True)
    length = struct.pack("<Q", len(body))
    return b"".join(
        (length, struct.pack("<I", masked_crc32c(length)), body, struct.pack("<I", masked_crc32c(body)))
    )


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows opens no folder, and keeps names with the file
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
