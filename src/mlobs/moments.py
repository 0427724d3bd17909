"""Moments as people write them: ISO 8601, or how long ago."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime, timezone

from mlobs.errors import UsageError

_AGO = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*")
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def utc(at: float | None) -> datetime | None:
    """The date of a moment in Unix seconds; None of None, 0, and what is beyond all calendars.

    Whoever recorded the latter had no clock, or counted milliseconds: it hides no run.
    """
    try:
        return datetime.fromtimestamp(at, timezone.utc) if at else None
    except (ValueError, OverflowError, OSError):
        return None


def date_of(at: float) -> datetime:
    """The date likewise, for where one has to stand: the first of all where there is none."""
    return utc(at) or EPOCH


def moment_of(value: datetime | str, *, now: Callable[[], float] = time.time) -> float:
    """Return a moment in Unix seconds: of a datetime, of ISO 8601, or of "7d": that long before now.

    The units are s, m, h, d and w. What names no time zone is UTC, as all times are that mlobs shows.

    Raises:
        UsageError: the text is neither.
    """
    if isinstance(value, str):
        ago = _AGO.fullmatch(value)
        if ago is not None:
            return now() - float(ago[1]) * _UNIT_S[ago[2]]
        try:
            value = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))  # Python 3.10 knows no Z
        except ValueError as error:
            raise UsageError(
                f'{value!r} is no moment; expected ISO 8601, such as "2024-01-31" or "2024-01-31 12:00", '
                'or how long ago: "30m", "12h", "7d", "2w"'
            ) from error
    return (value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)).timestamp()
