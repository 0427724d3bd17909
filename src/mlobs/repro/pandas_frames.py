"""A table of pandas as columns: its dtypes, its index, its traps."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from mlobs.errors import UsageError
from mlobs.repro import canonical
from mlobs.repro.arrow_columns import arrow, buffers_of, source_of_chunked
from mlobs.repro.canonical import Array, Buffers, Encode, Source
from mlobs.repro.numpy_columns import Encoder, encoder_of
from mlobs.repro.object_columns import encoder_of_objects
from mlobs.repro.tags import NULL, TEXTS, Tag


def sources_of_frame(frame: Any) -> Iterator[Source]:
    """The columns of a DataFrame: named index levels first. An index without a name is no data.

    Raises:
        UsageError: a column has no canonical form.
        MissingPackage: pyarrow, for nested columns.
    """
    for at, name in enumerate(frame.index.names):
        if name is not None:
            yield _source(text_of_name(name), _series_of(frame.index.get_level_values(at)))
    for at, name in enumerate(frame.columns):  # by place: two columns may have one name
        yield _source(text_of_name(name), frame.iloc[:, at])


def _series_of(index: Any) -> Any:
    """An index as a column of the same dtype, which `to_series` of pandas 3 guesses anew."""
    import pandas as pd

    return pd.Series(index, dtype=index.dtype)


def text_of_name(name: object) -> str:
    """A column's name as text, as pyarrow writes it to Parquet: 3 is "3", and a pair "('a', '3')"."""
    text = str(tuple(map(str, name))) if isinstance(name, tuple) else str(name)
    return text.encode("utf-8", "backslashreplace").decode()


def _source(name: str, series: Any) -> Source:
    note = str(series.dtype)
    source = _typed(name, series)
    return source._replace(note=note) if note not in _PLAIN else source


_PLAIN = frozenset(
    {"bool", "float16", "float32", "float64"}
    | {f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)}
)


def _typed(name: str, series: Any) -> Source:
    import numpy as np
    import pandas as pd

    dtype, column = series.dtype, f"column {name!r}"
    if isinstance(dtype, pd.CategoricalDtype):
        return _categorical(name, series)
    if isinstance(dtype, pd.DatetimeTZDtype):
        ticks = pd.DatetimeIndex(series).tz_convert(None).to_numpy()
        return _of_values(name, Encoder(Tag("instant"), canonical.numpy_moments), ticks)
    if isinstance(dtype, pd.SparseDtype):
        return _typed(name, series.sparse.to_dense())
    if isinstance(dtype, pd.ArrowDtype) or getattr(dtype, "storage", "") in ("pyarrow", "pyarrow_numpy"):
        return source_of_chunked(name, _as_arrow(series))
    if isinstance(dtype, pd.StringDtype):
        return _objects(name, series.to_numpy(dtype=object))
    if hasattr(dtype, "numpy_dtype") and hasattr(dtype, "na_value") and dtype.na_value is pd.NA:
        return _nullable(name, series.array, np.dtype(dtype.numpy_dtype), column)
    if not isinstance(dtype, np.dtype):
        raise UsageError(
            f"{column} is of dtype {dtype}, which has no canonical form - "
            f"convert it, for example with .astype(str)"
        )
    values = series.to_numpy()
    return (
        _objects(name, values) if dtype.kind == "O" else _of_values(name, encoder_of(dtype, column), values)
    )


def _of_values(name: str, encoder: Encoder, values: Array) -> Source:
    return Source(
        name, encoder.tag, len(values), lambda start, stop: encoder.encode(values[start:stop], None)
    )


def _as_arrow(series: Any) -> Any:
    pa = arrow()
    found = pa.array(series.array, from_pandas=True)
    return found if hasattr(found, "num_chunks") else pa.chunked_array([found])


def _objects(name: str, values: Array) -> Source:
    """Python objects. Texts go through Arrow where it is installed: the same bytes, 3 x as fast."""
    column = f"column {name!r}"
    encoder = encoder_of_objects(values, column)
    if encoder is None:
        return source_of_chunked(name, _nested(values, column))
    if encoder.tag.kind == "utf8" and find_spec("pyarrow"):
        return Source(
            name, encoder.tag, len(values), lambda start, stop: _fast_texts(values[start:stop], encoder)
        )
    return _of_values(name, encoder, values)


def _fast_texts(values: Array, encoder: Encoder) -> Buffers:
    pa = arrow()
    try:
        return buffers_of(pa.array(values, pa.large_string(), from_pandas=True))
    except (
        pa.ArrowException,
        UnicodeError,
        TypeError,
    ):  # the slow way knows what is wrong, and of which column
        return encoder.encode(values, None)


def _nested(values: Array, column: str) -> Any:
    pa = arrow()
    try:
        found = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise UsageError(
            f"{column} holds lists or dicts that are not all of one type ({error}) - "
            "make them so, or keep them as JSON text"
        ) from error
    return found if hasattr(found, "num_chunks") else pa.chunked_array([found])


def _nullable(name: str, values: Any, dtype: Any, column: str) -> Source:
    encoder = encoder_of(dtype, column)

    def chunk(start: int, stop: int) -> Buffers:
        part = values[start:stop]
        return encoder.encode(part.to_numpy(dtype=dtype, na_value=dtype.type(0)), ~part.isna())

    return Source(name, encoder.tag, len(values), chunk)


def _categorical(name: str, series: Any) -> Source:
    """Categories as the values that they stand for."""
    import pandas as pd
    from pandas.api.types import infer_dtype

    if infer_dtype(series.cat.categories) != "string":  # one that no row has would count for the type
        series = series.cat.remove_unused_categories()
    categories, codes = series.cat.categories, series.cat.codes.to_numpy()
    if not len(categories):
        return Source(name, NULL, len(codes), lambda _start, _stop: [])
    tag = _typed(name, _series_of(categories)).tag
    if isinstance(categories.dtype, pd.DatetimeTZDtype):
        categories = categories.tz_convert(None)
    values = categories.to_numpy()
    if tag.kind in TEXTS and (table := _fast_table(values, tag)) is not None:
        return Source(name, tag, len(codes), lambda start, stop: _taken(table, codes[start:stop]))
    if values.dtype.kind != "O":
        encode = encoder_of(values.dtype, name).encode
    else:
        encoder = encoder_of_objects(values, f"column {name!r}")
        if encoder is None:
            raise UsageError(f"column {name!r} has categories that are lists or dicts - make them text")
        encode = encoder.encode
    return Source(name, tag, len(codes), lambda start, stop: _gathered(values, codes[start:stop], encode))


def _fast_table(values: Array, tag: Tag) -> Any:
    """Texts as Arrow's; None without pyarrow, and for texts that only the slow way can name."""
    if not find_spec("pyarrow"):
        return None
    pa = arrow()
    try:
        return pa.array(
            values, pa.large_string() if tag.kind == "utf8" else pa.large_binary(), from_pandas=True
        )
    except (pa.ArrowException, UnicodeError, TypeError):
        return None


def _taken(table: Any, codes: Array) -> Buffers:
    return buffers_of(table.take(arrow().array(codes, mask=codes < 0)))


def _gathered(values: Array, codes: Array, encode: Encode) -> Buffers:
    valid = codes >= 0
    found = values[codes]
    if found.dtype.kind == "O":
        found[~valid] = None
    return encode(found, valid)
