"""Tables as Parquet, each column in the type that it has: by polars of its own frames, else by pyarrow."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from mlobs.errors import UsageError
from mlobs.payloads.columns import Columns, columns_of, frame_of, listed
from mlobs.values import text_of

Cells: TypeAlias = Callable[[Iterable[Any]], list[Any]]


def parquet(name: str, value: Any, cells: Cells) -> bytes:
    """The content of a Parquet file; `cells` makes values that Parquet does not know ones that it does.

    Raises:
        UsageError: it is no table, its columns have no type or one name, or Parquet's package is missing.
    """
    content = io.BytesIO()
    try:
        if callable(write := getattr(value, "write_parquet", None)):
            write(content)
        elif isinstance(value, list | tuple | Mapping) or hasattr(value, "column_names"):
            _write_columns(name, columns_of(name, value), cells, content)
        else:
            frame = frame_of(name, value)
            named_by_text = frame.set_axis([text_of(one) for one in frame.columns], axis=1)
            named_by_text.to_parquet(content, engine="pyarrow", index=False)
    except ImportError as error:
        raise UsageError(
            f"log_table({name!r}): Parquet needs a package - pip install 'mlobs[parquet]'"
        ) from error
    except UsageError:
        raise
    except Exception as error:  # pyarrow: a column of values of several types
        hint = "name it without .parquet"
        raise UsageError(f"log_table({name!r}) cannot become Parquet: {error} - {hint}") from error
    return content.getvalue()


def _write_columns(name: str, columns: Columns, cells: Cells, content: io.BytesIO) -> None:
    import pyarrow as pa
    from pyarrow import parquet as pq

    twice = [one for one in columns.names if columns.names.count(one) > 1]
    if twice:
        raise UsageError(f"log_table({name!r}): two columns are called {twice[0]!r}, which Parquet refuses")
    arrays = [_arrow(column, cells) for column in columns.values]
    pq.write_table(pa.Table.from_arrays(arrays, columns.names), content)


def _arrow(column: Any, cells: Cells) -> Any:
    """The column in its own type; of objects that have none there, their texts."""
    import pyarrow as pa

    if isinstance(column, pa.Array | pa.ChunkedArray):
        return column
    is_typed = hasattr(column, "dtype") and getattr(column, "ndim", 0) == 1
    try:
        return pa.array(column if is_typed else list(column), from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        return pa.array(cells(listed(column)))
