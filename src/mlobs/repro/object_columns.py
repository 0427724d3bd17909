"""Columns of Python objects to canonical buffers: one type for the whole column, or a clear error.

The type is that of all values together; nothing is ever told by its `repr`.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from mlobs.errors import UsageError
from mlobs.repro import canonical
from mlobs.repro.canonical import Array, Buffers
from mlobs.repro.numpy_columns import Encoder, encoder_of
from mlobs.repro.tags import NULL, Tag

_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - of times without a zone
_EPOCH_UTC = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_MICROSECOND = dt.timedelta(microseconds=1)
_EXACT = 2**53  # not every integer above is a float
_DECIMAL_BYTES = 32
_MOST_DIGITS = 76  # as many as 32 bytes hold for certain
_NUMBERS = {
    "boolean": "bool",
    "floating": "float64",
    "mixed-integer-float": "float64",
    "complex": "complex128",
}


def encoder_of_objects(values: Array, column: str) -> Encoder | None:
    """How the objects of a whole column are encoded; None if they are lists or dicts.

    Raises:
        UsageError: they are of several types, or of one without a canonical form.
    """
    from pandas.api.types import infer_dtype

    found = infer_dtype(values, skipna=True)
    if found == "integer" or found in _NUMBERS:
        return _of_numbers(values, _NUMBERS.get(found) or _integers_of(values, column), column)
    if found == "decimal":
        scale = _scale_of(values, column)
        return Encoder(Tag("dec", detail=str(scale)), lambda some, _: _decimals(some, scale))
    if found in ("datetime", "datetime64", "date", "time", "timedelta", "timedelta64"):
        return _of_moments(values, found.rstrip("64"), column)
    if found == "string":
        return Encoder(
            Tag("utf8"), lambda some, _: canonical.texts([_utf8(one, column) for one in _listed(some)])
        )
    if found == "bytes":
        return Encoder(Tag("bytes"), lambda some, _: canonical.texts(_listed(some)))
    if found == "empty":
        return Encoder(NULL, lambda _some, _valid: [])
    if found == "mixed" and _is_nested(_present(values)):
        return None
    raise _mixed(values, column)


def _mixed(values: Array, column: str) -> UsageError:
    """What types are in a column, the commonest first."""
    counts = Counter(type(value).__name__ for value in _present(values))
    described = ", ".join(f"{count} x {name}" for name, count in counts.most_common(4))
    return UsageError(
        f"{column} holds {described}, which have no one canonical type - "
        "convert it first, for example with .astype(str)"
    )


def _missing(values: Array) -> Array:
    """Which objects are None, NaN, NaT or NA."""
    import pandas as pd

    return pd.isna(values)


def _present(values: Array) -> Array:
    return values[~_missing(values)]


def _listed(values: Array) -> list[Any]:
    return [None if gone else value for value, gone in zip(values, _missing(values), strict=True)]


def _utf8(value: str | None, column: str) -> bytes | None:
    try:
        return None if value is None else value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{column} holds {value!r}, which is no valid Unicode - keep such values as bytes"
        ) from error


def _is_nested(present: Array) -> bool:
    """Tell whether all are lists, or all dicts."""
    kinds = {
        "dict"
        if isinstance(value, dict)
        else isinstance(value, list | tuple) or getattr(value, "ndim", 0) > 0
        for value in present
    }
    return kinds in ({"dict"}, {True})


# Numbers


def _of_numbers(values: Array, dtype: str, column: str) -> Encoder:
    import numpy as np

    if dtype == "float64":
        dtype = _float_of(_present(values), column)
    if dtype == "complex128" and _is_wide(_present(values), dtype):
        raise _too_wide(column, dtype)
    inner = encoder_of(np.dtype(dtype), column)

    def encode(some: Array, _valid: Array | None) -> Buffers:
        missing = _missing(some)
        return inner.encode(np.where(missing, 0, some).astype(dtype), ~missing)

    return Encoder(inner.tag, encode)


def _float_of(present: Array, column: str) -> str:
    """The type of floats, and of integers among them, that holds each of them exactly."""
    import numpy as np

    if any(isinstance(value, int | np.integer) and abs(int(value)) > _EXACT for value in present):
        raise UsageError(f"{column} holds floats, and integers that no float can be - make it one of them")
    if _is_wide(present, "float64"):
        raise _too_wide(column, "float64")
    is_single = {getattr(value, "dtype", None) for value in present} == {np.dtype("f4")}
    return "float32" if is_single else "float64"


def _is_wide(present: Array, dtype: str) -> bool:
    import numpy as np

    kinds = {getattr(value, "dtype", None) for value in present}
    return any(kind.itemsize > np.dtype(dtype).itemsize for kind in kinds if kind is not None)


def _too_wide(column: str, dtype: str) -> UsageError:
    return UsageError(f"{column} holds numbers wider than {dtype} - convert it with .astype({dtype!r})")


def _integers_of(values: Array, column: str) -> str:
    present = _present(values)
    low, high = int(min(present)), int(max(present))
    if low >= -(2**63) and high < 2**63:
        return "int64"
    if low >= 0 and high < 2**64:
        return "uint64"
    raise UsageError(f"{column} holds integers of more than 64 bits - keep them as text or decimal.Decimal")


def _scale_of(values: Array, column: str) -> int:
    """How many digits behind the point the decimals of a column need."""
    present = _present(values)
    if not all(value.is_finite() for value in present):
        raise UsageError(f"{column} holds a decimal that is infinite - replace it by a missing value")
    scale = max([0, *(-int(value.as_tuple().exponent) for value in present)])
    if any(value and value.adjusted() + 1 + scale > _MOST_DIGITS for value in present):
        raise UsageError(
            f"{column} holds decimals that take more than {_MOST_DIGITS} digits together - "
            "round them, or keep them as text"
        )
    return scale


def _decimals(values: Array, scale: int) -> Buffers:
    import numpy as np

    missing = _missing(values)
    whole = (0 if gone else _unscaled(value, scale) for value, gone in zip(values, missing, strict=True))
    content = b"".join(one.to_bytes(_DECIMAL_BYTES, "little", signed=True) for one in whole)
    return [canonical.validity(~missing), np.frombuffer(content, np.uint8)]


def _unscaled(value: Any, scale: int) -> int:
    """The integer that stands for a decimal of this scale: exact, whatever the context's precision."""
    if not value:  # 0E+999999 too
        return 0
    sign, digits, exponent = value.as_tuple()
    size = int("".join(map(str, digits))) * int(10 ** (exponent + scale))
    return -size if sign else size


# Times


def _of_moments(values: Array, found: str, column: str) -> Encoder:
    present = _present(values)
    if not len(present):  # NaT alone
        return Encoder(NULL, lambda _some, _valid: [])
    if found == "date":
        if any(isinstance(value, dt.datetime) for value in present):
            raise _mixed(values, column)
        return Encoder(Tag("date"), _dates)
    if found == "timedelta":
        return Encoder(Tag("duration"), _moments(_duration, column))
    zones = {getattr(value, "tzinfo", None) is not None for value in present}
    if found == "time" and zones == {False}:
        return Encoder(Tag("time"), _moments(_time, column))
    if found == "datetime" and len(zones) == 1:
        return Encoder(Tag("instant" if True in zones else "datetime"), _moments(_datetime, column))
    if found == "time":
        raise UsageError(f"{column} holds times of day with a zone - make them text")
    raise UsageError(f"{column} holds times with and without a zone - give all the same, or make them text")


def _dates(values: Array, _valid: Array | None = None) -> Buffers:
    import numpy as np

    missing = _missing(values)
    days = [0 if gone else (value - _EPOCH.date()).days for value, gone in zip(values, missing, strict=True)]
    return canonical.fixed(np.array(days, np.int32), ~missing)


def _moments(
    parts: Callable[[Any], tuple[int, int]], column: str
) -> Callable[[Array, Array | None], Buffers]:
    """An encoder of what `parts` takes to microseconds and the nanoseconds above them."""

    def encode(values: Array, _valid: Array | None = None) -> Buffers:
        import numpy as np

        missing = _missing(values)
        found: Iterable[tuple[int, int]] = (
            (0, 0) if gone else parts(value) for value, gone in zip(values, missing, strict=True)
        )
        try:
            both = np.array(list(found), np.int64).reshape(-1, 2)
        except (ValueError, OverflowError) as error:
            raise UsageError(
                f"{column} holds times that Python's datetime cannot ({error}) - "
                "make it a column of times, for example with .astype('datetime64[s]')"
            ) from error
        rest = both[:, 1].astype("<u2")
        return [
            canonical.validity(~missing),
            canonical.little(both[:, 0]),
            rest if rest.any() else canonical.empty(),
        ]

    return encode


def _datetime(value: Any) -> tuple[int, int]:
    import pandas as pd

    if not isinstance(value, dt.datetime):  # NumPy's
        value = pd.Timestamp(value)
    nanosecond = getattr(value, "nanosecond", 0)
    plain = value.to_pydatetime(warn=False) if isinstance(value, pd.Timestamp) else value
    return (plain - (_EPOCH if plain.tzinfo is None else _EPOCH_UTC)) // _MICROSECOND, nanosecond


def _duration(value: Any) -> tuple[int, int]:
    import pandas as pd

    if not isinstance(value, dt.timedelta):  # NumPy's
        value = pd.Timedelta(value)
    if isinstance(value, pd.Timedelta):
        parts = value.components
        whole = dt.timedelta(
            parts.days, parts.seconds, parts.microseconds, parts.milliseconds, parts.minutes, parts.hours
        )
        return whole // _MICROSECOND, parts.nanoseconds
    return value // _MICROSECOND, 0


def _time(value: dt.time) -> tuple[int, int]:
    seconds = 3600 * value.hour + 60 * value.minute + value.second
    return 1_000_000 * seconds + value.microsecond, 0
