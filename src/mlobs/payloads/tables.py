"""Tables: a DataFrame, rows or columns, as JSON that MLflow and pandas read, or as Parquet."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from mlobs.errors import UsageError
from mlobs.payloads.columns import columns_of, listed
from mlobs.payloads.data import data
from mlobs.payloads.parquet import parquet
from mlobs.payloads.payload import Payload, clean_path, named

_PARQUET = ".parquet"
_MAX_JSON_CELLS = 2_000_000  # about 4 s in the caller and 40 MB; Parquet takes a twentieth of both


def table(name: str, value: Any) -> Payload:
    """A table under NAME.json, or NAME.parquet if the name says so.

    `value` is a DataFrame (pandas, polars, pyarrow, anything with `to_pandas`), a list of dicts
    (rows), or a dict of columns of one length. JSON is `{"columns": [...], "data": [[...]]}`, pandas'
    orient "split": missing values and NaN are null there, infinities the texts "Infinity" and
    "-Infinity", times and durations ISO 8601, bytes Base64. An index that is not 0, 1, 2, ... becomes
    columns.

    Raises:
        UsageError: it is no table, or too large for JSON, or Parquet's package is missing.
    """
    path = clean_path(name)
    if path.lower().endswith(_PARQUET):
        content = parquet(name, value, cells)
        return Payload(path, "table", "application/vnd.apache.parquet", content)
    columns = columns_of(name, value)
    size = len(columns.names) * columns.rows
    if size > _MAX_JSON_CELLS:
        raise UsageError(
            f"log_table({name!r}) got {size:,} cells; expected at most {_MAX_JSON_CELLS:,} in JSON - "
            f"name it {name + _PARQUET!r} (pip install 'mlobs[parquet]')"
        )
    rows = zip(*(cells(listed(column)) for column in columns.values), strict=True)
    content = msgspec.json.encode({"columns": columns.names, "data": list(rows)})
    return Payload(named(name, ".json"), "table", "application/json", content)


def cells(values: Iterable[Any]) -> list[Any]:
    """The values as JSON has them: NaN, NaT and NA are null, infinities the text that `float` reads."""
    return [_cell(value) for value in values]


def _cell(value: Any) -> Any:
    if value is None or type(value) is bool or (type(value) is str and value.isascii()):
        return value
    if isinstance(value, float):
        return _finite(value)
    if type(value).__name__ in ("datetime64", "timedelta64"):  # NumPy's
        (value,) = listed(value.reshape(1))  # pyright: ignore[reportAttributeAccessIssue]
    if type(value).__name__ in ("NAType", "NaTType"):  # pandas': no value, which equals nothing
        return None
    return _finite(data(value))


def _finite(value: Any) -> Any:
    """A value, and what is inside of it, by the same rule."""
    match value:
        case float():
            if math.isfinite(value):
                return value
            return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case list():
            return [_finite(one) for one in value]
        case dict():
            return {key: _finite(one) for key, one in value.items()}
        case _:
            return value
