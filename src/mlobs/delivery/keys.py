"""Keys of entries: that of the recorded event itself, and those of what lowering makes of it."""

from __future__ import annotations


def derived_key(key: str, part: int) -> str:
    """The key of the part-th event that lowering made of one; the first keeps the event's own."""
    return key if part == 0 else f"{key}/{part}"


def root_key(key: str) -> str:
    """The key of the recorded event that an entry's key derives from."""
    return key.partition("/")[0]
