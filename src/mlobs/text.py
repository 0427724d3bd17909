"""Plain values as text: one spelling for every backend that stores text, and for people."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

from mlobs.events import Log
from mlobs.moments import date_of


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


def shortened(text: str, limit: int, where: str) -> str:
    """Return a text as it is, or its `preview` if it has more than `limit` characters."""
    return text if len(text) <= limit else preview(text, limit, where)


def log_line(log: Log) -> str:
    """Write one log event as text: time (UTC), where it came from, message, traceback."""
    time = date_of(log.at).isoformat(sep=" ", timespec="milliseconds")
    source = f"{log.level} {log.logger}".strip() if log.stream == "logging" else log.stream
    return "\n".join(filter(None, (f"{time[:-6]} {source}: {log.message}", log.exception)))


def printable(text: str) -> str:
    """The text in one line, with control characters (line ends, escapes) spelled out."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def size(size_bytes: int) -> str:
    """A size in bytes, in the unit that reads best (1 kB is 1000 bytes)."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:  # noqa: PLR2004 - the step between decimal units
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def duration(seconds: float) -> str:
    """A time in its two largest units."""
    seconds = max(0.0, seconds)
    whole = math.floor(seconds)
    for unit_s, unit, part_s, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit_s:
            return f"{whole // unit_s}{unit} {whole % unit_s // part_s}{part}"
    return f"{seconds:.1f}s"


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
