"""Where files lie in an MLflow run, and what tells MLflow's pages to show them. Pure, but for the thumbnail.

MLflow knows no steps, but for images: those lie in `images/` under names that its image grid reads
(mlflow.tracking.client.log_image), with a small copy that the grid shows first.
"""

from __future__ import annotations

import io
import json
import re
import uuid
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from mlobs.events import Artifact, Role

IMAGES_TAG, TABLES_TAG = "mlflow.loggedImages", "mlflow.loggedArtifacts"
# A mark that people give no file: `ckpt.step100.pt` is a common name, and stays what it is.
_STEP = re.compile(r"(?<!@)@step(-?\d+)(?=(?:\.[^./]*)?\Z)")
_MARKS = re.compile(r"@+step-?\d+(?=(?:\.[^./]*)?\Z)")
_KEY = re.compile(r"[a-zA-Z0-9_\-./ ]+\Z")  # mlflow.tracking.client.log_image
_GRID = re.compile(
    r"images/(?P<key>.+?)\+step\+(?P<step>-?\d+)\+timestamp\+(?P<ms>\d+)\+[0-9a-f-]{36}"
    r"(?P<end>\.png|\+compressed\.webp)\Z"
)
_MAX_KEY = 150  # of the 255 bytes of a file's name: step, time and the rest take up to 103
_PNG, _THUMBNAIL = ".png", "+compressed.webp"
_THUMBNAIL_PX = 256  # mlflow.tracking.multimedia.COMPRESSED_IMAGE_SIZE


class Logged(NamedTuple):
    """What a file's name says about the artifact."""

    path: str
    step: int | None = None
    role: Role = "file"
    at: float | None = None


def in_grid(event: Artifact) -> bool:
    """Tell whether MLflow's image grid shows it: a PNG of a step, under a name that the grid reads."""
    is_png = event.media_type == "image/png" and event.path.endswith(_PNG)
    is_readable = _KEY.match(event.path) is not None and len(event.path) <= _MAX_KEY + len(_PNG)
    return event.step is not None and event.role == "image" and is_png and is_readable


def stored_path(event: Artifact, key: str) -> str:
    """Return where an artifact lies: `a/b.csv` of step 3 at `a/b@step3.csv`, an image of a step in the grid.

    `key` is the entry's: the same entry has the same path. What is called `b@step3.csv` without a
    step has one more `@`.
    """
    marked = _MARKS.sub(lambda match: f"@{match[0]}", event.path)
    if event.step is None:
        return marked
    if in_grid(event):
        name = event.path.removesuffix(_PNG).replace("/", "~")
        return f"images/{name}+step+{event.step}+timestamp+{round(event.at * 1000)}+{_uuid(key)}{_PNG}"
    path = PurePosixPath(marked)
    return str(path.with_name(f"{path.stem}@step{event.step}{path.suffix}"))


def logged(path: str) -> Logged | None:
    """Undo `stored_path`; None for the thumbnail of an image."""
    grid = _GRID.match(path)
    if grid is not None and grid["end"] == _THUMBNAIL:
        return None
    if grid is not None:
        name = grid["key"].replace("~", "/") + _PNG
        return Logged(name, int(grid["step"]), "image", int(grid["ms"]) / 1000)
    match = _STEP.search(path)
    step = None if match is None else int(match[1])
    marked = path if match is None else path[: match.start()] + path[match.end() :]
    return Logged(_MARKS.sub(lambda marks: marks[0][1:], marked), step)


def thumbnail_path(stored: str) -> str:
    """Return where the small copy of an image in the grid lies."""
    return stored.removesuffix(_PNG) + _THUMBNAIL


def thumbnail(png: bytes) -> bytes:
    """Return a WebP of the image whose longer side is 256 pixels, as MLflow makes it.

    Raises:
        OSError, ValueError, SyntaxError: Pillow's words for what is no image, or is damaged.
    """
    from PIL import Image  # MLflow's own dependency for images, and ours

    with Image.open(io.BytesIO(png)) as picture:
        scale = _THUMBNAIL_PX / max(picture.size)
        size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
        content = io.BytesIO()
        picture.resize(size).save(content, "WEBP")
    return content.getvalue()


def tables_text(before: str | None, paths: Iterable[str], limit: int) -> tuple[str, set[str]]:
    """Return the text of the tag that lists a run's tables, and those for which it has no room.

    `limit` is in characters: MLflow cuts a longer tag, and then nobody can read it.
    """
    try:
        known = json.loads(before or "[]")
    except ValueError:  # cut by somebody
        known = []
    listed, left = list(known) if isinstance(known, list) else [], set()
    for path in paths:
        one = {"path": path, "type": "table"}
        if one in listed:
            continue
        if len(json.dumps([*listed, one])) > limit:
            left.add(path)
        else:
            listed.append(one)
    return json.dumps(listed), left


def is_table(event: Artifact) -> bool:
    """Tell whether MLflow can show the artifact as a table."""
    return event.role == "table" and event.step is None and event.path.endswith((".json", ".parquet"))


def _uuid(key: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, key)
