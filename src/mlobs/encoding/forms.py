"""The one table of raw forms: what `Artifact.raw` says, and what makes the final content of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, TypeAlias

import msgspec
from msgspec.structs import asdict, replace

from mlobs.encoding import markdown, pictures
from mlobs.errors import MlobsError
from mlobs.events import Artifact, Unknown, kind_of
from mlobs.journal.format import decode_event
from mlobs.text import json_bytes

Encoder: TypeAlias = Callable[[Artifact, BinaryIO], bytes]


def encode(event: Artifact, content: BinaryIO) -> bytes:
    """The final content of an artifact that was kept raw; the same every time.

    Raises:
        MlobsError: the content is damaged, or a newer mlobs wrote it in a form that is not known here.
        OSError: it cannot be read.
    """
    raw = event.raw or {}
    if isinstance(inner := raw.get("raw"), dict):  # a text about content that is raw itself
        content = io.BytesIO(encode(replace(event, raw=inner), content))
    form = raw.get("form")
    encoder = FORMS.get(str(form))
    if encoder is None:
        raise MlobsError(
            f"{event.path!r} was kept as {form!r}, which this mlobs cannot read - install a newer one"
        )
    try:
        return encoder(event, content)
    except (ValueError, TypeError, KeyError, IndexError, msgspec.DecodeError) as error:
        raise MlobsError(f"the raw content of {event.path!r} is damaged: {error}") from error


def _array(event: Artifact, content: BinaryIO) -> bytes:
    assert event.raw is not None
    return pictures.png_of_samples(content.read(), event.raw["shape"])


def _heat_map(event: Artifact, content: BinaryIO) -> bytes:
    document = msgspec.json.decode(content.read())
    rows = [[float(value) for value in row] for row in document["matrix"]]
    labels = document.get("labels")
    is_confusion = (event.raw or {}).get("of") == "confusion_matrix"
    return pictures.heat_map(
        rows,
        document.get("rows", labels),
        document.get("columns", labels),
        axes=("actual", "predicted") if is_confusion else None,
    )


def _bars(event: Artifact, content: BinaryIO) -> bytes:
    del event
    document = msgspec.json.decode(content.read())
    return pictures.bars(document["counts"], document["edges"])


def _table(event: Artifact, content: BinaryIO) -> bytes:
    return markdown.table(event, content).encode()


def _reference(event: Artifact, content: BinaryIO) -> bytes:
    return markdown.reference(event, content).encode()


def _line(event: Artifact, content: BinaryIO) -> bytes:
    del event
    return content.read()


def _document(event: Artifact, content: BinaryIO) -> bytes:
    del event
    recorded = decode_event(content.read())
    fields = {"fields": recorded.fields} if isinstance(recorded, Unknown) else asdict(recorded)
    return json_bytes({"kind": kind_of(recorded), **fields})


FORMS: Mapping[str, Encoder] = {
    "array": _array,
    "heat map": _heat_map,
    "bars": _bars,
    "table": _table,
    "reference": _reference,
    "line": _line,
    "document": _document,
}
KEPT = frozenset({"array", "heat map"})  # whose final content takes the raw content's place on the disk


QUICK = frozenset({"line", "document"})  # made in microseconds


def is_slow(event: Any) -> bool:
    """Tell whether making an event's final content takes milliseconds."""
    return is_raw(event) and event.raw["form"] not in QUICK


def is_raw(event: Any) -> bool:
    """Tell whether an event is an artifact whose content is not in its final form."""
    return type(event) is Artifact and event.raw is not None and "form" in event.raw
