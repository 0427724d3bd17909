"""Texts, and mappings or lists as JSON."""

from __future__ import annotations

from mlobs.errors import UsageError
from mlobs.payloads.data import data
from mlobs.payloads.payload import Payload, media_type_of, named_text
from mlobs.text import json_bytes


def text(name: str, content: str) -> Payload:
    """A text under `name`, which gets the suffix `.txt` if it has none.

    Raises:
        UsageError: it is no text.
    """
    if not isinstance(content, str):
        raise UsageError(
            f"log_text({name!r}) got {type(content).__name__}; expected str - log_dict takes mappings"
        )
    path = named_text(name, ".txt")
    return Payload(
        path, "text", media_type_of(path, "text/plain"), content.encode("utf-8", "backslashreplace")
    )


def document(name: str, value: object) -> Payload:
    """A mapping or list as JSON under `name`, which gets the suffix `.json` if it has none.

    Raises:
        UsageError: it is nested deeper than 100 levels.
    """
    return Payload(named_text(name, ".json"), "text", "application/json", json_bytes(data(value)))
