"""An artifact as it lies in the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mlobs.errors import StoreError
from mlobs.events import Artifact
from mlobs.journal.blobs import blob_path
from mlobs.journal.store import RunFolder


@dataclass(frozen=True)
class StoredArtifact:
    """One artifact of a run.

    `path` is its name in the run. `file` is where the content lies on the disk, None where it is
    small enough to stand in the journal itself. `raw` is None for content in its final form, and
    otherwise says how it was kept (an array's dtype and shape, for example).
    """

    path: str
    role: str
    media_type: str
    size_bytes: int
    at: datetime
    step: int | None = None
    meta: dict[str, Any] | None = None
    raw: dict[str, Any] | None = None
    file: Path | None = None
    _data: bytes | None = field(default=None, repr=False)

    def read_bytes(self) -> bytes:
        """Return the content.

        Raises:
            StoreError: the content is not in the store (any more).
        """
        if self.file is None:
            return self._data or b""
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise StoreError(
                error.errno or 0,
                f"the content of artifact {self.path!r} cannot be read: {error.strerror} - copy the run's"
                " folder `blobs` along with its journals",
                str(self.file),
            ) from error

    def text(self, encoding: str = "utf-8") -> str:
        """Return the content as text; bytes that are not of the encoding become U+FFFD.

        Raises:
            StoreError: the content is not in the store (any more).
        """
        return self.read_bytes().decode(encoding, "replace")


def stored(folder: RunFolder, writer: str, event: Artifact) -> StoredArtifact:
    """Say where the artifact of this writer's event lies; touches no file."""
    return StoredArtifact(
        path=event.path,
        role=event.role,
        media_type=event.media_type,
        size_bytes=event.size_bytes,
        at=datetime.fromtimestamp(event.at, timezone.utc),
        step=event.step,
        meta=event.meta,
        raw=event.raw,
        file=None if event.blob is None else blob_path(folder.path, writer, event.blob),
        _data=event.data,
    )
