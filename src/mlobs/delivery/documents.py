"""Events of a kind that the backend does not keep, as JSON files that a person can read there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from mlobs.backend import Capabilities
from mlobs.delivery.memory import Lowering, Memory, Rule
from mlobs.events import Artifact, Event, Histogram, Role, Snapshot, Unknown, kind_of
from mlobs.journal.format import encode
from mlobs.names import escape_name

_FILE_NAME = r"[\w.\- /]"  # legal on every file system
_FILE_NAME_LENGTH = 60  # characters of at most 4 bytes; file systems take 255 bytes, and a number follows
_DIGEST_BYTES = 8


def as_document(path: Callable[[Any], str]) -> Rule:
    """Make the rule that turns an event into the JSON file `mlobs/<path of the event>.json`.

    Two events with one path and step both stay: the second becomes `<path>-2.json`. A file that belongs to
    the event goes beside it, into the folder `<path>/`.
    """

    def rule(event: Any, capabilities: Capabilities, memory: Memory) -> Lowering:
        kind = kind_of(event)
        if not takes_documents(capabilities):
            return skipped(kind)
        data = encode(event)
        stem = _free_stem(f"mlobs/{path(event)}", getattr(event, "step", None), data, memory)
        document = json_file(event, f"{stem}.json", data, capabilities)
        files = [replace(document, raw={"form": "document"})]  # of many events only the paths are asked for
        if isinstance(event, Snapshot) and event.blob is not None and "file" in capabilities.roles:
            files.append(_file_of(event, stem))
        reason = f"the backend does not take events of kind {kind!r}: there it is a file under mlobs/"
        return Lowering(tuple(files), "lowered", reason)

    return rule


def takes_documents(capabilities: Capabilities) -> bool:
    """Tell whether the backend has any form for a JSON file."""
    return "artifact" in capabilities.kinds and not capabilities.roles.isdisjoint(("file", "text"))


def histogram_as_document(event: Histogram, capabilities: Capabilities, memory: Memory) -> Lowering:
    """Keep a histogram as a JSON file, and beside it a picture where pictures are shown."""
    stem = f"histograms/{file_name(event.name)}"
    lowering = as_document(lambda _: stem)(event, capabilities, memory)
    if lowering.outcome == "skipped" or "image" not in capabilities.roles:
        return lowering
    data = msgspec.json.encode({"counts": event.counts, "edges": event.edges})
    document = lowering.events[0]
    assert isinstance(document, Artifact)
    picture = Artifact(
        at=event.at,
        path=f"{document.path.removesuffix('.json')}.png",
        size_bytes=len(data),
        role="image",
        media_type="image/png",
        data=data,
        step=event.step,
        raw={"form": "bars"},
    )
    return Lowering((*lowering.events, picture), "lowered", f"{lowering.reason}, and a picture")


def json_file(event: Event, path: str, data: bytes, capabilities: Capabilities) -> Artifact:
    """Return JSON as an artifact with the event's time and step."""
    role: Role = "text" if "text" in capabilities.roles else "file"
    return Artifact(
        at=_at(event),
        path=path,
        size_bytes=len(data),
        role=role,
        media_type="application/json",
        data=data,
        step=getattr(event, "step", None),
    )


def file_name(name: str) -> str:
    """Return a name of the user's as a relative path that every file system takes."""
    return escape_name(name, _FILE_NAME, is_path=True, max_length=_FILE_NAME_LENGTH)


def skipped(kind: str) -> Lowering:
    """Say that an event stays in the local store alone."""
    return Lowering(
        (), "skipped", f"the backend does not take events of kind {kind!r}; the local store has them"
    )


def _file_of(event: Snapshot, stem: str) -> Artifact:
    """Return what belongs to a snapshot's part; its facts may name it (`file`) and say its `size_bytes`."""
    name, size_bytes = event.facts.get("file"), event.facts.get("size_bytes")
    return Artifact(
        at=event.at,
        path=f"{stem}/{file_name(name if isinstance(name, str) else event.part)}",
        size_bytes=size_bytes if isinstance(size_bytes, int) else 0,
        blob=event.blob,
    )


def _free_stem(stem: str, step: int | None, data: bytes, memory: Memory) -> str:
    digest = hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
    free, number = stem, 1
    while memory.documents.setdefault((free, step), digest) != digest:
        number += 1
        free = f"{stem}-{number}"
    return free


def _at(event: Event) -> float:
    """When the event happened; every kind so far has its time in front, and so will newer ones."""
    if not isinstance(event, Unknown):
        return event.at
    first = event.fields[0] if event.fields else None
    return float(first) if isinstance(first, int | float) else 0.0
