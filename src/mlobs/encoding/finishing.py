"""Content of a run in its final form, wherever it lies: in the event, kept raw, or already finished."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace

from mlobs.encoding.forms import KEPT, encode
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

    An image's takes the place of the raw content on the disk: it is made once, for all backends.

    Raises:
        MlobsError: the content is damaged, or of a form that is not known here.
        OSError: it is not in the store (any more).
    """
    content = _final_content(run_folder, writer, event)
    return replace(event, raw=None, blob=None, data=content, size_bytes=len(content))


def _final_content(run_folder: Path, writer: str, event: Artifact) -> bytes:
    is_kept = event.blob is not None and (event.raw or {}).get("form") in KEPT
    if event.blob is None or not is_kept:
        with open_content(run_folder, writer, event) as raw:
            return encode(event, raw)
    final = final_path(run_folder, writer, event.blob)
    for _ in range(2):  # another lane may finish it between the two looks
        try:
            return final.read_bytes()
        except FileNotFoundError:
            pass  # nobody made it yet
        try:
            with open_content(run_folder, writer, event) as raw:
                content = encode(event, raw)
        except FileNotFoundError:
            continue
        with contextlib.suppress(OSError):  # no room: the raw content stays, and is as good
            finish_blob(blob_path(run_folder, writer, event.blob), final, content)
        return content
    return final.read_bytes()
