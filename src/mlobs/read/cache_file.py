"""Files that only save time: whole and of this version, or as good as not there.

STORE/cache/ may be deleted at any time, also while it is used. A file there is written beside its place and
moved there whole, so that readers see the one before or the new one, and the last of several writers counts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from mlobs.journal import access

VERSION = 1  # of what is in the files; another one is ignored
_HEAD_BYTES = 20


def head_of(kind: str) -> bytes:
    """The first bytes of a file of this kind and version."""
    return f"mlobs {kind} {VERSION}\n".encode().ljust(_HEAD_BYTES)


def read_block(content: bytes | memoryview, at: int) -> tuple[memoryview, int] | None:
    """The block at an offset and where it ends; None if it is cut off or damaged."""
    view = memoryview(content)
    size, crc = (int.from_bytes(view[at + 4 * part : at + 4 * part + 4], "little") for part in (0, 1))
    block = view[at + 8 : at + 8 + size]
    if len(view) < at + 8 + size or crc32(block) != crc:
        return None
    return block, at + 8 + size


def block_of(*parts: bytes | memoryview) -> bytes:
    """Put parts into a block: its size and its CRC-32 stand before it."""
    body = b"".join(parts)
    return len(body).to_bytes(4, "little") + crc32(body).to_bytes(4, "little") + body


def write_cache(path: Path, kind: str, fill: Callable[[BinaryIO], bool]) -> bool:
    """Put a file into the cache, unless `fill`, which writes what follows the head, says that it is no good.

    False if there is no file afterwards: a store that is only read has none.
    """
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        access.make_folder(path.parent.parent) if path.parent.name != "cache" else None
        access.make_folder(path.parent)
        with os.fdopen(access.open_file(beside, os.O_WRONLY | os.O_EXCL), "wb") as file:
            file.write(head_of(kind))
            is_good = fill(file)
        if is_good:
            beside.replace(path)
        else:
            beside.unlink()
    except OSError:  # no room, no permission, or read-only: nothing is lost but time
        with contextlib.suppress(OSError):
            beside.unlink()
        return False
    return is_good
