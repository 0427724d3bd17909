"""What is in a table, whatever it came as: columns of one length, with their names as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mlobs.errors import UsageError
from mlobs.values import text_of


class Columns(NamedTuple):
    """Columns as they came: lists, or arrays and series of any library. A name may be there twice."""

    names: list[str]
    values: Sequence[Any]
    rows: int


def columns_of(name: str, value: Any) -> Columns:
    """The columns of a DataFrame of any library, of rows, or of a mapping; no value is converted yet.

    Raises:
        UsageError: it is no table.
    """
    if isinstance(value, list | tuple):
        return _of_records(name, value)
    if isinstance(value, Mapping):
        return _of_mapping(name, value)
    if callable(getattr(value, "get_columns", None)):  # polars
        return Columns(list(value.columns), value.get_columns(), len(value))
    if isinstance(names := getattr(value, "column_names", None), list):  # pyarrow
        return Columns(names, value.columns, value.num_rows)
    frame = frame_of(name, value)
    series = [frame.iloc[:, at] for at in range(frame.shape[1])]
    return Columns([text_of(one) for one in frame.columns], series, len(frame))


def listed(column: Any) -> list[Any]:
    """The values of a column as Python's own, as far as its library has a way."""
    if getattr(getattr(column, "dtype", None), "kind", "") in ("m", "M"):
        import pandas as pd  # NumPy makes numbers of nanoseconds

        column = pd.Series(column)
    for method in ("to_pylist", "to_list", "tolist"):  # pyarrow; polars, pandas; NumPy, torch
        if callable(getattr(column, method, None)):
            return list(getattr(column, method)())
    return list(column)


def frame_of(name: str, value: Any) -> Any:
    """The value as a DataFrame of pandas; an index that is not 0, 1, 2, ... becomes columns.

    Raises:
        UsageError: it is none.
    """
    import pandas as pd

    if callable(to_pandas := getattr(value, "to_pandas", None)):
        value = to_pandas()
    if isinstance(value, pd.Series):
        value = value.to_frame()
    if not isinstance(value, pd.DataFrame):
        ways = (one for one in ("collect", "compute") if callable(getattr(value, one, None)))
        raise UsageError(
            f"log_table({name!r}) got {type(value).__name__}; expected a DataFrame, a list of dicts, "
            "or a dict of columns" + "".join(f" - call .{one}() first" for one in ways)
        )
    index = value.index
    if isinstance(index, pd.RangeIndex) and index.name is None and (index.start, index.step) == (0, 1):
        return value
    return value.set_axis(_renamed(index, {text_of(one) for one in value.columns}), axis=0).reset_index()


def _renamed(index: Any, taken: set[str]) -> Any:
    """The index, with names that no column has: `index_b` where there is a column `b`."""
    names: list[Any] = []
    for number, given in enumerate(index.names):
        plain_name = "index" if index.nlevels == 1 else f"level_{number}"  # pandas' own words
        wanted = plain_name if given is None else given
        while text_of(wanted) in taken:
            wanted = f"index_{text_of(wanted)}"
        taken.add(text_of(wanted))
        names.append(wanted)
    return index.set_names(names)


def _of_records(name: str, records: Iterable[Any]) -> Columns:
    rows = list(records)
    for row in rows:
        if not isinstance(row, Mapping):
            raise UsageError(
                f"log_table({name!r}) got a list with {type(row).__name__}; "
                "expected a list of dicts, such as [{'id': 1, 'score': 0.5}]"
            )
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return Columns([text_of(key) for key in keys], _Lazy(rows, keys), len(rows))


def _of_mapping(name: str, columns: Mapping[Any, Any]) -> Columns:
    names = [text_of(key) for key in columns]
    try:
        values = [_sized(column) for column in columns.values()]
        lengths = {key: len(one) for key, one in zip(names, values, strict=True)}
    except TypeError as error:
        raise UsageError(f"log_table({name!r}): a column is no list of values: {error}") from error
    if len({len(one) for one in values}) > 1:
        raise UsageError(f"log_table({name!r}) got columns of lengths {lengths}; expected one length")
    return Columns(names, values, len(values[0]) if values else 0)


def _sized(column: Any) -> Any:
    if isinstance(column, str | bytes):
        raise TypeError(f"{column!r} is text")
    if isinstance(column, Mapping):
        raise TypeError("it is a mapping - log the DataFrame itself, or frame.to_dict('list')")
    return column if hasattr(column, "__getitem__") else list(column)


class _Lazy(Sequence[Any]):
    """The columns of rows, each made when it is asked for: a table that is too large costs nothing."""

    def __init__(self, rows: Sequence[Mapping[Any, Any]], keys: Sequence[Any]) -> None:
        self._rows, self._keys = rows, keys

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, at: Any) -> Any:
        key = self._keys[at]  # the IndexError that ends an iteration has to come where there are no rows too
        return [row.get(key) for row in self._rows]
