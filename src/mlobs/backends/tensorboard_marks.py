"""Marks in an event file: where each batch ends, and which place delivered it.

Two copies of a store may deliver a run to one log folder. Each goes on at the length that it knows of;
without marks, one would cut off what the other has written.
"""

# protobuf makes its classes at run time: pyright cannot know them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote_to_bytes

from tensorboard.compat.proto import event_pb2

from mlobs.errors import Unavailable

_WORDS = "mlobs: a batch ends here, delivered from "
_MARK = re.compile(re.escape(_WORDS).encode() + rb"([^\n]*)\n")
_CRC_BYTES = 4  # behind the body of a record
_MOST_BYTES = 3 * 4096 + 256  # of a mark's record: Linux has no longer paths, and quoting makes three of one
_CHUNK_BYTES = 1 << 20


def mark(place: str, started_at: float) -> Any:
    """Build the event at the end of a batch. Readers look at no log message in an event file."""
    message = event_pb2.LogMessage(message=f"{_WORDS}{quote(os.fsencode(place))}\n")
    return event_pb2.Event(wall_time=started_at, log_message=message)


def check(path: Path, size_bytes: int, place: str) -> None:
    """Make sure that `place` may go on behind the first `size_bytes` of the file, where a batch ended.

    What it wrote itself behind them was not acknowledged. It goes on behind another place's batch if that
    place is gone, as after the store was moved.

    Raises:
        Unavailable: another place has written more, or is there to go on.
    """
    if not path.exists() or path.stat().st_size < max(1, size_bytes):
        return  # there is nothing yet, or less than there was, which `append` says
    with path.open("rb") as file:
        start = max(0, size_bytes - _MOST_BYTES)
        file.seek(start)
        before = _places(file.read(size_bytes - start)[:-_CRC_BYTES], at_end=True)
        another = _another(file, place)
    if another is None and size_bytes and before[-1:] != [place]:
        another = next((one for one in before[-1:] if Path(one).is_dir()), None)
        if not before:
            raise Unavailable(f"{path} is not as it was left: what was delivered was overwritten or damaged")
    if another is not None:
        raise Unavailable(
            f"{path} is written from another copy of the store, {another} - sync that one, "
            "or deliver from here with a backend of another name and logdir"
        )


def _another(file: BinaryIO, place: str) -> str | None:
    """Find the mark of another place in the rest of the file."""
    kept = b""
    while chunk := file.read(_CHUNK_BYTES):
        content = kept + chunk
        for one in _places(content):
            if one != place:
                return one
        kept = content[-_MOST_BYTES:]  # a mark may lie across two chunks
    return None


def _places(content: bytes, *, at_end: bool = False) -> list[str]:
    found = [match for match in _MARK.finditer(content) if not at_end or match.end() == len(content)]
    return [os.fsdecode(unquote_to_bytes(match[1])) for match in found]
