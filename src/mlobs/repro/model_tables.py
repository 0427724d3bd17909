"""Tables inside models: pandas and sparse matrices, by their values and not by how they keep them."""

from __future__ import annotations

from typing import Any

from mlobs.repro.model_names import Named


def frame(value: Any) -> Named:
    """A DataFrame: its columns in order, by position, since names may repeat."""
    columns = [value.iloc[:, i] for i in range(value.shape[1])]
    return Named(
        "pandas.DataFrame",
        {"names": value.columns, "index": value.index, "columns": [_column(one) for one in columns]},
    )


def series(value: Any) -> Named:
    """A Series: name, index, values."""
    return Named("pandas.Series", {"name": value.name, "index": value.index, **_column(value).parts})


def index(value: Any) -> Named:
    """An index; one of a range is its bounds, one of several levels is its levels."""
    if hasattr(value, "levels"):
        levels = [value.get_level_values(i) for i in range(value.nlevels)]
        return Named("pandas.MultiIndex", {"levels": levels, "names": list(value.names)})
    if hasattr(value, "step"):
        bounds = range(value.start, value.stop, value.step)
        return Named("pandas.RangeIndex", {"range": bounds, "name": value.name})
    return Named("pandas.Index", {"name": value.name, **_column(value).parts})


def array(value: Any) -> Named:
    """An array of pandas's own: codes and categories, times in UTC, else its elements."""
    return _column(value)


def _column(value: Any) -> Named:
    held = getattr(value, "array", value)
    dtype = held.dtype
    kind = str(dtype)
    if hasattr(dtype, "categories"):
        parts = {"codes": held.codes, "categories": held.categories, "ordered": bool(dtype.ordered)}
        return Named("column", {"dtype": "category", "codes": parts.pop("codes").astype("int64"), **parts})
    if dtype.kind in "biufc" and hasattr(held, "to_numpy") and not _has_missing(held):
        return Named(
            "column", {"dtype": kind, "values": held.to_numpy(dtype=getattr(dtype, "numpy_dtype", None))}
        )
    if dtype.kind in "mM" and hasattr(held, "asi8"):
        return Named("column", {"dtype": kind, "values": held.asi8})
    values = [None if _is_missing(one) else one for one in held]
    return Named("column", {"dtype": kind, "values": values})


def _has_missing(held: Any) -> bool:
    """Whether an array of a nullable dtype has gaps; in those of numpy's dtypes NaN is a value."""
    is_of_numpy = type(held).__name__ in {"NumpyExtensionArray", "PandasArray"}
    return not is_of_numpy and bool(held.isna().any())


def _is_missing(one: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_scalar(one) and pd.isna(one))


def sparse(value: Any) -> Named:
    """A sparse matrix or array of scipy: its entries in order, each place once; stored zeros are entries."""
    entries = value.tocoo(copy=True)
    entries.sum_duplicates()
    places = getattr(entries, "coords", None) or (entries.row, entries.col)
    order = _by_place(places)
    parts = {"shape": tuple(int(one) for one in value.shape), "values": entries.data[order]}
    return Named(
        f"sparse {value.format}", {**parts, "places": [one[order].astype("int64") for one in places]}
    )


def _by_place(places: Any) -> Any:
    import numpy as np

    return np.lexsort(places[::-1])
