"""An artifact as it lies in the store."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlobs.encoding.finishing import final_content
from mlobs.encoding.forms import is_raw
from mlobs.errors import StoreError, UsageError
from mlobs.events import Artifact
from mlobs.journal.blobs import blob_path, final_path
from mlobs.journal.store import RunFolder
from mlobs.moments import EPOCH, utc

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image


@dataclass(frozen=True)
class StoredArtifact:
    """One artifact of a run.

    `path` is its name in the run. `size_bytes` counts the content as it was recorded. `raw` is None for
    content that was recorded in its final form, and otherwise says how it was kept until somebody needed
    it (an array's dtype and shape, for example): its PNG is of another size. `read_bytes` has the final
    form of either.
    """

    path: str
    role: str
    media_type: str
    size_bytes: int
    at: datetime
    step: int | None = None
    meta: dict[str, Any] | None = None
    raw: dict[str, Any] | None = None
    _place: tuple[Path, str, Artifact] = field(repr=False, kw_only=True)

    @property
    def file(self) -> Path | None:
        """Where the content lies on the disk now; None where it stands in the journal itself.

        What was kept raw lies there raw until a sender has made the PNG, which takes its place.
        """
        folder, writer, event = self._place
        if event.blob is None:
            return None
        made = final_path(folder, writer, event.blob)
        return made if is_raw(event) and made.exists() else blob_path(folder, writer, event.blob)

    def read_bytes(self) -> bytes:
        """Return the content; of an image, a PNG.

        Raises:
            StoreError: the content is not in the store (any more).
        """
        try:
            return final_content(*self._place)
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

    def image(self) -> Image:
        """Return a picture as an image of PIL.

        Raises:
            UsageError: it is none: a figure of plotly is HTML, which `text()` has.
            StoreError: the content is not in the store (any more).
        """
        from PIL import Image

        if not self.media_type.startswith("image/"):
            raise UsageError(f"artifact {self.path!r} is of type {self.media_type}; expected a picture")
        return Image.open(io.BytesIO(self.read_bytes()))

    def frame(self) -> pd.DataFrame:
        """Return a table, or the numbers of a matrix with its labels, as a DataFrame.

        Raises:
            UsageError: it is neither.
            StoreError: the content is not in the store (any more).
        """
        import pandas as pd

        if self.role not in ("table", "matrix", "confusion_matrix"):
            raise UsageError(f"artifact {self.path!r} is of role {self.role!r}; expected a table or a matrix")
        content = self.read_bytes()
        if self.media_type != "application/json":
            frame: pd.DataFrame = pd.read_parquet(io.BytesIO(content))
            return frame
        document: dict[str, Any] = msgspec.json.decode(content)
        cells, labels = document.get("matrix"), document.get("labels")
        if cells is None:
            table: pd.DataFrame = pd.DataFrame(document["data"], None, document["columns"])
            return table
        rows, columns = document.get("rows", labels), document.get("columns", labels)
        numbers = [[float(one) for one in row] for row in cells]  # "NaN" and "Infinity" are texts there
        matrix: pd.DataFrame = pd.DataFrame(numbers, rows, columns)
        return matrix


def stored(folder: RunFolder, writer: str, event: Artifact) -> StoredArtifact:
    """The artifact of this writer's event; touches no file."""
    return StoredArtifact(
        path=event.path,
        role=event.role,
        media_type=event.media_type,
        size_bytes=event.size_bytes,
        at=utc(event.at) or EPOCH,
        step=event.step,
        meta=event.meta,
        raw=event.raw,
        _place=(folder.path, writer, event),
    )
