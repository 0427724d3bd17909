"""Content of a run in its final form, wherever it lies: in the event, kept raw, or already finished."""

from __future__ import annotations

import contextlib
import errno
import io
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace

from mlobs.encoding.forms import KEPT, encode, is_raw
from mlobs.events import Artifact
from mlobs.journal.blobs import blob_path, final_path, finish_blob


def open_content(run_folder: Path, writer: str, event: Artifact) -> BinaryIO:
    """Open the content of an artifact of this writer as it is kept: raw, if it has no final form yet.

    Raises:
        OSError: it is not in the store (any more).
    """
    if event.blob is None:
        return io.BytesIO(event.data or b"")
    return blob_path(run_folder, writer, event.blob).open("rb")


def finished(run_folder: Path, writer: str, event: Artifact) -> Artifact:
    """The event of an artifact that was kept raw, with its final content in `data`.

    An image's and a heat map's take the place of the raw content on the disk: made once, for all backends.

    Raises:
        MlobsError: the content is damaged, or of a form that is not known here.
        OSError: it is not in the store (any more).
    """
    content, is_new = _final(run_folder, writer, event)
    if is_new and event.blob is not None and (event.raw or {}).get("form") in KEPT:
        with contextlib.suppress(OSError):  # no room: the raw content stays, and is as good
            raw = blob_path(run_folder, writer, event.blob)
            finish_blob(raw, final_path(run_folder, writer, event.blob), content)
    return replace(event, raw=None, blob=None, data=content, size_bytes=len(content))


def final_content(run_folder: Path, writer: str, event: Artifact) -> bytes:
    """The content of an artifact in its final form; the store stays as it is.

    Raises:
        MlobsError: the content is damaged, or of a form that is not known here.
        OSError: it is not in the store (any more).
    """
    if not is_raw(event):
        with open_content(run_folder, writer, event) as content:
            return content.read()
    return _final(run_folder, writer, event)[0]


def _final(run_folder: Path, writer: str, event: Artifact) -> tuple[bytes, bool]:
    """The final content of what was kept raw, and whether it was made just now."""
    with contextlib.suppress(FileNotFoundError):  # somebody made it: the raw content is gone
        return _made(run_folder, writer, event), False
    try:
        with open_content(run_folder, writer, event) as raw:
            return encode(event, raw), True
    except FileNotFoundError:
        return _made(run_folder, writer, event), False  # between the two looks


def _made(run_folder: Path, writer: str, event: Artifact) -> bytes:
    if event.blob is None or (event.raw or {}).get("form") not in KEPT:
        raise FileNotFoundError(errno.ENOENT, "nobody keeps it", event.path)
    return final_path(run_folder, writer, event.blob).read_bytes()
