"""Tables: a DataFrame, rows or columns, as JSON that MLflow and pandas read, or as Parquet."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from mlobs.errors import UsageError
from mlobs.payloads.payload import Payload, clean_path, named
from mlobs.values import plain, text_of

_PARQUET = ".parquet"
_MAX_JSON_CELLS = 2_000_000  # about 4 s in the caller and 40 MB; Parquet takes a twentieth of both


def table(name: str, value: Any) -> Payload:
    """A table under NAME.json, or NAME.parquet if the name says so.

    `value` is a DataFrame (pandas, polars, anything with `to_pandas`), a list of dicts (rows), or a
    dict of columns of one length. JSON is `{"columns": [...], "data": [[...]]}`, pandas' orient
    "split": missing values and NaN are null there, times ISO 8601. An index that is not 0, 1, 2, ...
    becomes columns.

    Raises:
        UsageError: it is no table, or too large for JSON, or Parquet's package is missing.
    """
    path = clean_path(name)
    if path.lower().endswith(_PARQUET):
        return Payload(path, "table", "application/vnd.apache.parquet", _parquet(name, _frame(name, value)))
    columns, rows = _rows_of(name, value)
    cells = len(columns) * len(rows)
    if cells > _MAX_JSON_CELLS:
        raise UsageError(
            f"log_table({name!r}) got {cells:,} cells; expected at most {_MAX_JSON_CELLS:,} in JSON - "
            f"name it {name + _PARQUET!r} (pip install 'mlobs[parquet]')"
        )
    content = msgspec.json.encode({"columns": columns, "data": rows})
    return Payload(named(name, ".json"), "table", "application/json", content)


def _rows_of(name: str, value: Any) -> tuple[list[str], list[list[Any]]]:
    if isinstance(value, list | tuple):
        return _of_records(name, value)
    if isinstance(value, Mapping):
        return _of_columns(name, value)
    frame = _frame(name, value)
    series = [frame.iloc[:, at] for at in range(frame.shape[1])]  # names may be there twice
    columns = [_cells(one.tolist()) for one in series]
    return [text_of(one) for one in frame.columns], list(map(list, zip(*columns, strict=True)))


def _of_records(name: str, records: Iterable[Any]) -> tuple[list[str], list[list[Any]]]:
    rows = list(records)
    for row in rows:
        if not isinstance(row, Mapping):
            raise UsageError(
                f"log_table({name!r}) got a list with {type(row).__name__}; "
                "expected a list of dicts, such as [{'id': 1, 'score': 0.5}]"
            )
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return [text_of(key) for key in columns], [_cells(row.get(key) for key in columns) for row in rows]


def _of_columns(name: str, columns: Mapping[Any, Any]) -> tuple[list[str], list[list[Any]]]:
    try:
        lists = {text_of(key): _cells(_listed(one)) for key, one in columns.items()}
    except TypeError as error:
        raise UsageError(f"log_table({name!r}): a column is no list of values: {error}") from error
    lengths = {key: len(one) for key, one in lists.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"log_table({name!r}) got columns of lengths {lengths}; expected one length")
    return list(lists), list(map(list, zip(*lists.values(), strict=True)))


def _listed(column: Any) -> list[Any]:
    if isinstance(column, str | bytes):
        raise TypeError(f"{column!r} is text")
    return list(column.tolist() if callable(getattr(column, "tolist", None)) else column)


def _cells(values: Iterable[Any]) -> list[Any]:
    return [_cell(value) for value in values]


def _cell(value: Any) -> Any:
    """The value as JSON has it: NaN, NaT and NA are null, infinities the text that `float` reads."""
    if type(value) in (str, int, bool):
        return plain(value) if type(value) is int else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if type(value).__name__ in ("NAType", "NaTType"):  # pandas': no value, which equals nothing
        return None
    known = plain(value)
    return _finite(known) if isinstance(known, float | list | dict) else known


def _finite(value: Any) -> Any:
    """Values inside of a cell by the same rule."""
    match value:
        case float():
            return _cell(value)
        case list():
            return [_finite(one) for one in value]
        case dict():
            return {key: _finite(one) for key, one in value.items()}
        case _:
            return value


def _frame(name: str, value: Any) -> Any:
    """The value as a DataFrame without an index that says something."""
    import pandas as pd

    if callable(to_pandas := getattr(value, "to_pandas", None)):
        value = to_pandas()
    if isinstance(value, pd.Series):
        value = value.to_frame()
    elif isinstance(value, list | tuple | Mapping):
        columns, rows = _rows_of(name, value)
        value = pd.DataFrame(rows, columns=columns)
    if not isinstance(value, pd.DataFrame):
        raise UsageError(
            f"log_table({name!r}) got {type(value).__name__}; expected a DataFrame, a list of dicts, "
            "or a dict of columns"
        )
    is_plain = isinstance(value.index, pd.RangeIndex) and value.index.name is None
    return value if is_plain else value.reset_index()


def _parquet(name: str, frame: Any) -> bytes:
    content = io.BytesIO()
    named_by_text = frame.set_axis([text_of(one) for one in frame.columns], axis=1)
    try:
        named_by_text.to_parquet(content, engine="pyarrow", index=False)
    except ImportError as error:
        raise UsageError(
            f"log_table({name!r}): Parquet needs a package - pip install 'mlobs[parquet]'"
        ) from error
    except Exception as error:  # pyarrow: a column of values of several types
        hint = "name it without .parquet"
        raise UsageError(f"log_table({name!r}) cannot become Parquet: {error} - {hint}") from error
    return content.getvalue()
