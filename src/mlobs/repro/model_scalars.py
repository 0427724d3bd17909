"""Digests of single values inside models: each is its type and its value, in an encoding that is frozen."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from blake3 import blake3

MFP1 = "mlobs mfp1"


def digest(tag: str, body: bytes) -> bytes:
    """The digest of a value of this sort: BLAKE3 with the context "mlobs mfp1" over tag, zero byte, body."""
    return blake3(tag.encode() + b"\0" + body, derive_key_context=MFP1).digest()


def qualified(thing: Any) -> str:
    """Where a class or function is defined, and its name there."""
    return f"{thing.__module__}.{thing.__qualname__}"


def _float_bytes(value: float) -> bytes:
    return struct.pack("<d", value if value == value else float("nan"))  # noqa: PLR0124 - every NaN is one


def _text(tag: str, spell: Callable[[Any], str]) -> Callable[[Any], bytes]:
    return lambda value: digest(tag, spell(value).encode("utf-8", "surrogatepass"))


SCALARS: dict[type, Callable[[Any], bytes]] = {
    type(None): _text("none", lambda _: ""),
    type(...): _text("ellipsis", lambda _: ""),
    type(NotImplemented): _text("not implemented", lambda _: ""),
    bool: _text("bool", lambda value: "1" if value else "0"),
    int: _text("int", hex),
    float: lambda value: digest("float", _float_bytes(value)),
    complex: lambda value: digest("complex", _float_bytes(value.real) + _float_bytes(value.imag)),
    str: _text("str", lambda value: value),
    bytes: lambda value: digest("bytes", value),
    bytearray: lambda value: digest("bytearray", bytes(value)),
    memoryview: lambda value: digest("bytes", value.tobytes()),
    range: _text("range", lambda value: f"{value.start} {value.stop} {value.step}"),
    date: _text("date", date.isoformat),
    time: _text("time", lambda value: f"{value.isoformat()} {value.fold}"),
    datetime: _text("datetime", lambda value: f"{value.isoformat()} {value.fold}"),
    timedelta: _text("timedelta", lambda value: f"{value.days} {value.seconds} {value.microseconds}"),
    Decimal: _text("decimal", str),
}
