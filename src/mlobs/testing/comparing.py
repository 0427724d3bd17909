"""What a vendor holds beside what it was given, field by field."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from msgspec.structs import asdict

from mlobs.events import Artifact, Event, Unknown, kind_of

_STORAGE = frozenset(
    {"blob", "data", "raw"}
)  # of a file: where its content lies; the bytes have their own rule


def facts(event: Event, losses: Collection[str]) -> dict[str, Any]:
    """The event's fields that the vendor has to hold: all but the declared losses ("log.level")."""
    if isinstance(event, Unknown):
        return {"kind": event.kind, "fields": event.fields}
    kind = kind_of(event)
    left_out = _STORAGE if isinstance(event, Artifact) else frozenset[str]()
    return {
        name: value
        for name, value in asdict(event).items()
        if name not in left_out and f"{kind}.{name}" not in losses
    }


def differences(sent: Event, held: Event, losses: Collection[str], precision_s: float) -> dict[str, str]:
    """The fields that the vendor holds otherwise, by their names ("log.level"), with both values."""
    there = facts(held, losses)
    return {
        f"{kind_of(sent)}.{name}": f"{value!r} became {there.get(name)!r}"
        for name, value in facts(sent, losses).items()
        if not _is_same(name, value, there.get(name), precision_s)
    }


def _is_same(name: str, sent: Any, held: Any, precision_s: float) -> bool:
    if name == "at":
        return isinstance(held, float | int) and abs(sent - held) <= precision_s
    if name == "meta":
        return (sent or None) == (held or None)
    return bool(sent == held)
