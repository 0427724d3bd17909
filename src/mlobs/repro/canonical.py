"""Values to canonical buffers: the bytes that tfp1 hashes, the same from every library.

Each kind of column has a fixed number of buffers, so that no two chunks of one type have the same bytes.
Validity is a buffer of bits, least significant first, and empty where nothing is missing. Numbers are
little endian. Nothing here knows pandas or Arrow; NumPy is imported by the functions that need it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from mlobs.errors import UsageError
from mlobs.repro.tags import Tag

Array: TypeAlias = Any  # of NumPy, which is not imported here
Buffers: TypeAlias = list[Any]
Encode: TypeAlias = Callable[[Array, "Array | None"], Buffers]  # of values, and of which are valid

CHUNK = 65_536  # rows; a chunk of 8-byte values is 512 KiB, and stays in a core's own cache
_QUIET_NAN = {2: 0x7E00, 4: 0x7FC00000, 8: 0x7FF8000000000000}
_TICKS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000}
_NOT_A_TIME = -(2**63)


class Source(NamedTuple):
    """A column: `chunk(start, stop)` gives the canonical buffers of these rows."""

    name: str
    tag: Tag
    rows: int
    chunk: Callable[[int, int], Buffers]
    note: str = ""


def empty() -> Array:
    """A buffer of no bytes."""
    import numpy as np

    return np.empty(0, np.uint8)


def little(values: Array) -> Array:
    """The values one after the other, little endian; a copy only where they are not so already."""
    import numpy as np

    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))


def validity(valid: Array | None) -> Array:
    """The bits of what is valid; no bytes if everything is."""
    import numpy as np

    if valid is None or valid.all():
        return empty()
    return np.packbits(valid, bitorder="little")


def fixed(values: Array, valid: Array | None = None) -> Buffers:
    """Numbers that have no NaN: integers, days. What is missing becomes 0."""
    import numpy as np

    bits = validity(valid)
    if valid is not None and bits.size:
        values = np.where(valid, values, values.dtype.type(0))
    return [bits, little(values)]


def bools(values: Array, valid: Array | None = None) -> Buffers:
    """Truth values, one bit each."""
    import numpy as np

    bits = validity(valid)
    if bits.size:
        values = values & valid
    return [bits, np.packbits(values, bitorder="little")]


def floats(values: Array, valid: Array | None = None) -> Buffers:
    """Floats: what is missing and every NaN become the one quiet NaN; -0.0 stays."""
    import numpy as np

    values = little(values)
    some_missing = valid is not None and not valid.all()
    if not some_missing and not _has_nan(values):
        return [values]
    missing = np.isnan(values)
    bits = values.view(f"<u{values.dtype.itemsize}")
    quiet = bits.dtype.type(_QUIET_NAN[values.dtype.itemsize])
    if not some_missing and np.count_nonzero(missing) == np.count_nonzero(bits == quiet):
        return [values]  # every NaN is the quiet one, as of NumPy's own
    if valid is not None:
        missing |= ~valid
    return [little(np.where(missing, quiet, bits)).view(values.dtype)]


def complexes(values: Array, valid: Array | None = None) -> Buffers:
    """Complex numbers: the real and the imaginary part in turn, each a float; missing is twice NaN."""
    import numpy as np

    values = little(values)
    parts = values.view(values.real.dtype.newbyteorder("<"))
    return floats(parts, None if valid is None else np.repeat(valid, 2))


def moments(ticks: Array, unit: str, valid: Array | None = None) -> Buffers:
    """Times and durations: microseconds, rounded down, and the nanoseconds above them if there are any.

    Raises:
        UsageError: microseconds since 1970 do not fit into 64 bits.
    """
    import numpy as np

    bits = validity(valid)
    if valid is not None and bits.size:
        ticks = np.where(valid, ticks, 0)
    if unit == "ns":
        whole = ticks // 1_000
        rest = (ticks - whole * 1_000).astype("<u2")
        return [bits, little(whole), rest if rest.any() else empty()]
    factor = 1_000_000 // _TICKS_PER_S[unit]
    limit = (2**63 - 1) // factor
    if factor > 1 and ticks.size and (ticks.max() > limit or ticks.min() < -limit):
        raise _too_far()
    return [bits, little(ticks * factor if factor > 1 else ticks), empty()]


def numpy_moments(values: Array, valid: Array | None = None) -> Buffers:
    """The same of datetime64 and timedelta64 in any unit from years to nanoseconds; NaT is missing.

    Raises:
        UsageError: the unit is another, or microseconds since 1970 do not fit into 64 bits.
    """
    import numpy as np

    unit, count = np.datetime_data(values.dtype)
    letter = values.dtype.kind
    if unit in ("ps", "fs", "as", "generic") or (letter == "m" and unit in ("Y", "M")):
        raise UsageError(f"times in unit {unit!r} have no canonical form - convert to {letter}8[ns]")
    ticks = _ticks(values)
    if count != 1 or unit not in (*_TICKS_PER_S, "ns"):  # also [25s], [100ns]
        unit = unit if unit in (*_TICKS_PER_S, "ns") else "s"
        plain = values.astype(f"{letter}8[{unit}]")
        if not np.array_equal(_ticks(plain.astype(values.dtype)), ticks):  # NumPy lets them wrap around
            raise _too_far()
        ticks = _ticks(plain)
    present = ticks != _NOT_A_TIME
    return moments(ticks, unit, present if valid is None else present & valid)


def _ticks(values: Array) -> Array:
    import numpy as np

    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False)).view(np.int64)


def _too_far() -> UsageError:
    return UsageError(
        "a time lies too far from 1970: microseconds reach 292,000 years, nanoseconds 292 - "
        "replace such marks for 'never' by missing values"
    )


def texts(values: list[bytes | None]) -> Buffers:
    """Byte strings: their lengths, and all of them behind each other; None is missing."""
    import numpy as np

    valid = np.fromiter((value is not None for value in values), bool, len(values))
    lengths = np.fromiter((len(value or b"") for value in values), "<u4", len(values))
    return [validity(valid), lengths, np.frombuffer(b"".join(filter(None, values)), np.uint8)]


def has_value(tag: Tag, buffers: Buffers) -> bool:
    """Tell whether a chunk has one value that is not missing."""
    import numpy as np

    if tag.kind == "ext":
        return has_value(tag.children[0][1], buffers)
    if tag.kind == "null" or not buffers:
        return False
    first = buffers[0]
    if first.dtype.kind == "f":
        return bool(first.size and not (np.isnan(first[0]) and np.isnan(first).all()))
    return not first.size or bool(first.any())


def _has_nan(values: Array) -> bool:
    """Tell it from the maximum, which is NaN if any value is: one pass that the processor vectorises."""
    import numpy as np

    if not values.size:
        return False
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return bool(np.isnan(values.max()))
