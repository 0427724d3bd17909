"""Artifacts as events: texts and tables in blocks, pictures as thumbnails, the rest by name and digest."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import msgspec

from mlobs.backends.appinsights_envelopes import MAX_TEXT, pieces, units
from mlobs.events import Artifact

# Of content up to these sizes all is kept, in bytes by role. A block costs about 9 kB, see the docs' costs.
LIMITS: Mapping[str, int] = {
    "text": 1 << 20,
    "table": 1 << 20,
    "matrix": 1 << 20,
    "confusion_matrix": 1 << 20,
    "image": 5900,  # as a data URI in one property
    "figure": 5900,
    "file": 32_768,
    "model": 32_768,
}
_RASTER = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_THUMBNAIL_PX = (256, 192, 128, 96, 64, 32)  # longer side, tried in this order
_READ_BYTES = 1 << 20
_ROWS = {"table": "data", "matrix": "matrix", "confusion_matrix": "matrix"}  # where the JSON has its rows
Part = dict[str, "str | None"]


class Content(NamedTuple):
    """The properties of each event that stands for an artifact; `is_whole`: all of its bytes are in them."""

    parts: list[Part]
    measurements: dict[str, float]
    is_whole: bool

    def reason(self, artifact: Artifact) -> str:
        """Say in what form an artifact is there that is not there as a whole."""
        limit = LIMITS.get(artifact.role, LIMITS["file"])
        also = ", and a thumbnail" if "thumbnail" in self.parts[0] else ""
        return (
            f"Application Insights keeps {artifact.role!r} content up to {limit:,} bytes: "
            f"of this it has path, size and SHA-256{also}"
        )


def describe(artifact: Artifact, blob: BinaryIO) -> Content:
    """Turn an artifact into parts; the same content gives the same parts."""
    limit = LIMITS.get(artifact.role, LIMITS["file"])
    content = blob.read(limit + 1)
    digest = hashlib.sha256(content)
    size_bytes = len(content)
    is_picture = artifact.media_type in _RASTER and artifact.role in ("image", "figure")
    if size_bytes <= limit or is_picture:
        content += blob.read()
        digest, size_bytes = hashlib.sha256(content), len(content)
    else:
        while portion := blob.read(_READ_BYTES):
            digest.update(portion)
            size_bytes += len(portion)
    facts: Part = {
        "path": artifact.path,
        "role": artifact.role,
        "media_type": artifact.media_type,
        "sha256": digest.hexdigest(),
    }
    if is_picture:
        return _picture(facts, content, limit)
    if size_bytes > limit:
        return Content([facts], {"size_bytes": size_bytes}, is_whole=False)
    parts = list(_rows(artifact, content) or _blocks(content))
    for number, part in enumerate(parts):
        part |= {"block": str(number), "blocks": str(len(parts))}
    return Content([facts | part for part in parts], {"size_bytes": size_bytes}, is_whole=True)


def rebuild(parts: list[dict[str, str]]) -> bytes | None:
    """Undo `describe`: the bytes, None if the parts do not hold them all.

    `parts` are in the order of their blocks.
    """
    first = parts[0]
    if "thumbnail" in first:
        return base64.b64decode(first["thumbnail"].partition(",")[2]) if "is_whole" in first else None
    if "blocks" not in first or len(parts) != int(first["blocks"]):
        return None
    data = "".join(part.get("data", "") for part in parts)
    match first.get("encoding"):
        case "rows":
            rows = [row for part in parts for row in msgspec.json.decode(part["data"])]
            frame = msgspec.json.decode(first["frame"])
            content = _framed(frame, _ROWS[first["role"]], rows)
        case "base64":
            content = base64.b64decode(data)
        case _:
            content = data.encode()
    return content if hashlib.sha256(content).hexdigest() == first["sha256"] else None


def _rows(artifact: Artifact, content: bytes) -> list[Part] | None:
    """Whole rows of a table or matrix per block, so that KQL can expand them; None if it has no such form."""
    field = _ROWS.get(artifact.role)
    if field is None or artifact.media_type != "application/json":
        return None
    try:
        document = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return None
    rows = document.get(field) if isinstance(document, dict) else None
    if not isinstance(rows, list) or not rows:
        return None
    frame = {name: None if name == field else value for name, value in document.items()}
    if _framed(frame, field, rows) != content:
        return None  # spelled otherwise than we would: its bytes count
    parts: list[Part] = [
        {"encoding": "rows", "row0": str(row0), "data": text} for row0, text in _packed(rows)
    ]
    parts[0]["frame"] = msgspec.json.encode(frame).decode()
    return parts


def _packed(rows: list[Any]) -> Iterator[tuple[int, str]]:
    """Yield the number of a block's first row and its rows as JSON; a row that is too long stands alone."""
    row0, size = 0, 2
    texts: list[str] = []
    for number, row in enumerate(rows):
        text = msgspec.json.encode(row).decode()
        length = units(text) + 1
        if texts and size + length > MAX_TEXT:
            yield row0, f"[{','.join(texts)}]"
            row0, texts, size = number, [], 2
        texts.append(text)
        size += length
    yield row0, f"[{','.join(texts)}]"


def _framed(frame: Mapping[str, Any], field: str, rows: list[Any]) -> bytes:
    return msgspec.json.encode({name: rows if name == field else value for name, value in frame.items()})


def _blocks(content: bytes) -> Iterator[Part]:
    try:
        text, encoding = content.decode(), None
    except UnicodeDecodeError:
        text, encoding = base64.b64encode(content).decode(), "base64"
    if encoding is None and "\0" in text:
        text, encoding = base64.b64encode(content).decode(), "base64"
    for piece in pieces(text, MAX_TEXT):
        yield {"encoding": encoding, "data": piece}


def _picture(facts: Part, content: bytes, limit: int) -> Content:
    if len(content) <= limit:
        uri = _data_uri(str(facts["media_type"]), content)
        part = facts | {"thumbnail": uri, "is_whole": "true"}
        return Content([part], {"size_bytes": len(content), **_size(content)}, is_whole=True)
    part = facts | {"thumbnail": _thumbnail(content)}
    return Content([part], {"size_bytes": len(content), **_size(content)}, is_whole=False)


def _size(content: bytes) -> dict[str, float]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as picture:
            return {"width_px": picture.width, "height_px": picture.height}
    except (OSError, ValueError, SyntaxError):  # Pillow's words for what is no image
        return {}


def _thumbnail(content: bytes) -> str | None:
    """A JPEG small enough for a property, as a data URI; None if it is no image."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError):
        return None
    for side in _THUMBNAIL_PX:
        small = picture.copy()
        small.thumbnail((side, side))
        target = io.BytesIO()
        small.save(target, "JPEG", quality=75)
        uri = _data_uri("image/jpeg", target.getvalue())
        if len(uri) <= MAX_TEXT:
            return uri
    return None


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def as_json(value: Any) -> str:
    """A small value of ours as JSON on one line; what JSON cannot hold becomes text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
