"""Plain values as text: one spelling of a param's value for every backend that stores text."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from mlobs.events import Log


def param_text(value: Any) -> str:
    """Return a param's value as text: a string as it is, lists and mappings as compact JSON.

    Scalars read as in Python (`None`, `True`, `0.1`, `nan`).
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    return repr(value) if isinstance(value, float) else str(value)


def json_bytes(value: Any, *, indent: int | None = 1) -> bytes:
    """Return the value as JSON in UTF-8, indented or in one line, in the order it came in.

    JSON has no NaN and no infinities: they become the strings "NaN", "Infinity", "-Infinity", which
    `float` reads. Bytes become Base64 text, any other object its `str`.
    """
    text = json.dumps(_plain(value), ensure_ascii=False, indent=indent)
    return text.encode("utf-8", "backslashreplace")  # a lone surrogate becomes JSON's own escape of it


def preview(text: str, limit: int, where: str) -> str:
    """Return the beginning of a text, in at most `limit` characters, saying where all of it is."""
    end = f"… ({len(text)} characters, full value in {where})"
    if len(end) >= limit:
        end = "…"[:limit]
    return text[: limit - len(end)] + end


def log_line(log: Log) -> str:
    """Write one log event as text: time (UTC), where it came from, message, traceback."""
    time = datetime.fromtimestamp(log.at, timezone.utc).isoformat(sep=" ", timespec="milliseconds")
    source = f"{log.level} {log.logger}".strip() if log.stream == "logging" else log.stream
    return "\n".join(filter(None, (f"{time[:-6]} {source}: {log.message}", log.exception)))


def _plain(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else _not_finite(value)
        case None | bool() | int() | str():
            return value
        case list() | tuple():
            return [_plain(item) for item in value]
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case _:
            return str(value)


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
