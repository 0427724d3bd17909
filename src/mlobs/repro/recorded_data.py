"""Fingerprints as events keep them: types and digests by name, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from mlobs.events import Dataset, Strength
from mlobs.repro.fingerprint_value import Column, Fingerprint
from mlobs.secrets import masked

Value = TypeVar("Value")

_STRENGTHS: dict[str, Strength] = {
    "content": "content",
    "rows": "rows",
    "pinned": "pinned",
    "stat": "stat",
}


def types_of(found: Fingerprint) -> dict[str, str]:
    """The types of a table's columns, by name and in order; a second column of a name is called `NAME#2`."""
    return _by_name((one.name, one.tag) for one in found.columns)


def digests_of(found: Fingerprint) -> dict[str, str]:
    """What each column of a table, or each file of a folder, holds."""
    return dict(found.files) or _by_name((one.name, one.digest) for one in found.columns)


def recorded_fingerprint(
    event: Dataset, digests: Mapping[str, str] | None = None, columns: Mapping[str, str] | None = None
) -> Fingerprint:
    """The fingerprint that an event was made from; `digests` and `columns` in place of the event's own."""
    digests = digests or event.digests or {}
    columns = columns or event.columns or {}
    notes: Any = (event.meta or {}).get("notes", {})
    return Fingerprint(
        text=event.fingerprint,
        strength=_STRENGTHS.get(event.strength, "name"),
        rows=event.rows,
        columns=tuple(Column(name, tag, digests[name]) for name, tag in columns.items() if name in digests),
        files={} if columns else dict(digests),
        notes={str(key): str(value) for key, value in notes.items()} if isinstance(notes, dict) else {},
    )


def public_uri(uri: str) -> str:
    """A URI without signatures, keys and passwords."""
    from mlobs.repro.pins import fingerprint_of_uri

    if uri.startswith("delta:"):  # its fingerprint is the table's id, and a path holds no key
        return masked(uri)
    return fingerprint_of_uri(uri).text.partition(":")[2]


def _by_name(pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, value in pairs:
        number, free = 1, name
        while free in found:
            number += 1
            free = f"{name}#{number}"
        found[free] = value
    return found
