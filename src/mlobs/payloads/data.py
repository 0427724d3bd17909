"""Data as JSON: whole, whatever its size, where a parameter would only be described."""

from __future__ import annotations

import base64
import datetime as dt
from typing import Any

from mlobs.values import Extent, plain, text_of

_DEPTH = 100  # Python's own recursion ends at some 300


def data(value: object) -> Any:
    """The value as JSON knows it: nothing is left out.

    Times and durations become ISO 8601, bytes Base64, other objects their `str`.

    Raises:
        UsageError: it is nested deeper than 100 levels.
    """
    return plain(value, extent=_DATA)


def _told(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dt.timedelta):
        return _duration(value)
    return text_of(value)


def _duration(value: dt.timedelta) -> str:
    """The duration in ISO 8601, spelled as pandas spells it."""
    if callable(isoformat := getattr(value, "isoformat", None)):  # pandas' own, of nanoseconds
        return str(isoformat())
    minutes, seconds = divmod(value.seconds, 60)
    part = f".{value.microseconds:06}" if value.microseconds else ""
    return f"P{value.days}DT{minutes // 60}H{minutes % 60}M{seconds}{part}S"


_DATA = Extent(_DEPTH, array_items=0, describe=_told, is_whole=True)
