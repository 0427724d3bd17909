"""Tables of any library as columns: pandas, Polars, Arrow, and what gives its content as Arrow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlobs.errors import UsageError
from mlobs.repro import canonical
from mlobs.repro.arrow_columns import arrow, source_of_chunked
from mlobs.repro.canonical import Buffers, Source
from mlobs.repro.pandas_frames import sources_of_frame, text_of_name
from mlobs.repro.tags import Tag


def library_of(value: object) -> str:
    """The library that a value's type comes from, or one of its bases: "pandas", "numpy", "torch", ..."""
    for base in type(value).__mro__:
        name = base.__module__.partition(".")[0]
        if name in _KNOWN:
            return _KNOWN[name]
    return type(value).__module__.partition(".")[0]


_KNOWN = {
    name: name
    for name in (
        "pandas",
        "polars",
        "pyarrow",
        "numpy",
        "torch",
        "scipy",
        "duckdb",
        "dask",
        "pyspark",
        "ray",
        "datasets",
    )
} | {"_duckdb": "duckdb", "dask_expr": "dask", "distributed": "dask"}


def is_table(value: object) -> bool:
    """Tell whether it is a table that is in memory."""
    return library_of(value) in ("pandas", "polars", "pyarrow") or is_relation(value)


def is_relation(value: object) -> bool:
    """Tell whether it is a relation of DuckDB."""
    return library_of(value) == "duckdb" and hasattr(value, "fetch_arrow_table")


def frame_of(table: Any) -> Any:
    """The table with its rows and columns: a Series or an index becomes a DataFrame, a relation one of Arrow.

    Raises:
        UsageError: it is no table.
    """
    library, name = library_of(table), type(table).__name__
    if is_relation(table):
        return table.fetch_arrow_table()
    if library == "pandas" and name.endswith("Index") and hasattr(table, "to_frame"):
        nameless = {} if hasattr(table, "levels") or table.name is not None else {"name": ""}
        return table.to_frame(index=False, **nameless)
    if library == "pandas" and hasattr(table, "iloc"):
        is_frame = hasattr(table, "columns")
        return table if is_frame else table.to_frame(name="" if table.name is None else table.name)
    if library == "pyarrow" and hasattr(table, "column_names") and hasattr(table, "num_rows"):
        return table
    if library == "polars" and name == "LazyFrame":
        raise UsageError("a LazyFrame has no content yet - fingerprint frame.collect()")
    if library == "polars" and hasattr(table, "estimated_size"):
        return table if hasattr(table, "get_columns") else table.to_frame()
    raise UsageError(
        f"{type(table).__module__}.{name} is no table - make one of it: pandas.DataFrame(...), "
        "pyarrow.table({'name': array}), reader.read_all()"
    )


def sources_of(table: Any) -> tuple[list[Source], int]:
    """The columns of a table, and its number of rows.

    Raises:
        UsageError: it is no table, or a column has no canonical form.
        MissingPackage: pyarrow, which all but flat columns of pandas need.
    """
    table = frame_of(table)
    library = library_of(table)
    if library == "pandas":
        return list(sources_of_frame(table)), len(table)
    return _of_polars(table) if library == "polars" else _of_arrow(table)


def _of_arrow(table: Any) -> tuple[list[Source], int]:
    columns = [
        source_of_chunked(table.schema.names[at], table.column(at), note_of(table.column(at).type))
        for at in places_of(table.schema)
    ]
    return [*range_of(table.schema, table.num_rows), *columns], table.num_rows


def range_of(schema: Any, rows: int) -> list[Source]:
    """The named index of a range, of which pandas keeps no column but the bounds; none if rows were cut."""
    for about in _about_pandas(schema).get("index_columns", ()):
        if not isinstance(about, dict) or about.get("kind") != "range" or about.get("name") is None:
            continue
        index = range(about["start"], about["stop"], about["step"])
        if len(index) == rows:
            return [Source(text_of_name(about["name"]), Tag("i64"), rows, _part_of_range(index))]
    return []


def _part_of_range(index: range) -> Callable[[int, int], Buffers]:
    import numpy as np

    def part(start: int, stop: int) -> Buffers:
        some = index[start:stop]
        return canonical.fixed(np.arange(some.start, some.stop, some.step, dtype=np.int64))

    return part


def _about_pandas(schema: Any) -> dict[str, Any]:
    try:
        return schema.pandas_metadata or {}
    except ValueError:  # whoever wrote it, it is not pandas's JSON, and the columns are all there
        return {}


def places_of(schema: Any) -> list[int]:
    """Which columns of Arrow are data, in order: an index that pandas put behind them comes first again.

    An index without a name is no data.
    """
    about = _about_pandas(schema)
    index = [
        name for name in about.get("index_columns", ()) if isinstance(name, str) and name in schema.names
    ]
    nameless = {one["field_name"] for one in about.get("columns", ()) if one.get("name") is None}
    first = [schema.names.index(name) for name in index if name not in nameless]
    return first + [at for at, name in enumerate(schema.names) if name not in index]


def _of_polars(frame: Any) -> tuple[list[Source], int]:
    arrow()  # or it says that pyarrow is missing
    sources = [
        source_of_chunked(text_of_name(column.name), _arrow_of(column), str(column.dtype))
        for column in frame.get_columns()
    ]
    return sources, frame.height


def _arrow_of(column: Any) -> Any:
    """Without views of strings, which a pyarrow of today casts, and one of 2024 does not."""
    import polars as pl

    oldest = getattr(pl, "CompatLevel", None)
    try:
        if column.dtype == pl.Object:  # Arrow would get the addresses of the objects
            raise arrow().ArrowTypeError("objects of Python have no type in Arrow")
        return column.to_arrow(compat_level=oldest.oldest()) if oldest else column.to_arrow()
    except arrow().ArrowException as error:
        raise UsageError(
            f"column {column.name!r} is of Polars's type {column.dtype}, which has no canonical form "
            f"({error}) - cast it to another"
        ) from error


def note_of(type_: Any) -> str:
    """The type as a person knows it, where the canonical one says less."""
    text = str(type_)
    return "" if text in _PLAIN else text


_PLAIN = frozenset(
    {"bool", "float", "double", "halffloat"} | {f"{u}int{8 << n}" for u in ("", "u") for n in range(4)}
)
