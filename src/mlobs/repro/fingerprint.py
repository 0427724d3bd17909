"""`fingerprint`: the identity of data, whatever it is: tables, arrays, files, folders, URIs.

What is equal is the data and not its form: a table has one fingerprint in pandas, Polars, Arrow and DuckDB,
and after it went through a Parquet file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeAlias

import msgspec

from mlobs.errors import UsageError
from mlobs.repro.arrays import fingerprint_of_array, fingerprint_of_set, fingerprint_of_sparse
from mlobs.repro.engines import fingerprint_of_distributed, is_distributed
from mlobs.repro.fingerprint_diff import ROWS_NOTE, diff_fingerprints
from mlobs.repro.fingerprint_value import Column, Fingerprint
from mlobs.repro.frames import frame_of, is_table, library_of, sources_of
from mlobs.repro.pins import fingerprint_of_delta, fingerprint_of_uri, is_delta, is_uri
from mlobs.repro.rows import RowsPartial
from mlobs.repro.samples import (
    cost_s,
    fingerprint_of_array_sample,
    fingerprint_of_sparse_size,
    fingerprint_of_table_sample,
    fingerprint_of_unread,
)
from mlobs.repro.stat_cache import StatCache
from mlobs.repro.table_streams import fingerprint_of_stream, fingerprint_table_file, is_stream
from mlobs.repro.tables import fingerprint_of_sources
from mlobs.repro.trees import fingerprint_of_path, fingerprint_of_stats

__all__ = [
    "Column",
    "Fingerprint",
    "RowsPartial",
    "StatCache",
    "diff_fingerprints",
    "fingerprint",
    "fingerprint_table_file",
]

Wanted: TypeAlias = Literal["auto", "content", "rows", "pinned", "stat"]

_WANTED = ("auto", "content", "rows", "pinned", "stat")
_CELLS_WITH_ROWS = 1_000_000  # up to here a table's fingerprint has that of its rows too: about 20 ms
_BYTES_WITH_ROWS = 1 << 26  # and up to here: hashing texts by rows takes eight times their memory


def fingerprint(
    obj: Any, *, strength: Wanted = "auto", cache: StatCache | None = None, budget_s: float | None = None
) -> Fingerprint:
    """The fingerprint of data, as strong as it gets, or as it is wanted.

    `obj` is a table (pandas, Polars, pyarrow, a relation of DuckDB, a dataset of Arrow or Hugging Face), an
    array or tensor (NumPy, torch, anything with `__array__`), a matrix of scipy.sparse, a list, tuple or dict
    of these, the path of a file or a folder, or a URI. A frame of Dask, Spark or Ray gives "rows".

    With `budget_s`, in seconds, "auto" gives "stat" where the content would take longer, as estimated
    beforehand, and "name" for what would have to be computed or read first. `cache` saves reading files
    that did not change since.

    Raises:
        UsageError: it is nothing of these, or cannot be had that strong; the message says what to type.
        MissingPackage: pyarrow, which all tables but flat ones of pandas need.
    """
    if strength not in _WANTED:
        raise UsageError(f"strength={strength!r} is unknown; expected one of {', '.join(_WANTED)}")
    budget_s = budget_s if strength == "auto" else None
    if isinstance(obj, str | os.PathLike):
        return _of_place(obj, strength, cache, budget_s)
    if strength == "pinned":
        raise UsageError(
            f"{_named(obj)} is in memory, and no storage keeps a version of it - use strength='content'"
        )
    if budget_s is not None and (is_distributed(obj) or is_stream(obj)):
        return fingerprint_of_unread(obj)
    if is_distributed(obj):
        return _of_distributed(obj, strength)
    if is_stream(obj):
        return _of_stream(obj, strength)
    if is_table(obj):
        return _of_table(obj, strength, budget_s)
    if strength == "rows":
        raise UsageError(f"{_named(obj)} is no table, and has no rows to compare - use strength='content'")
    return _of_values(obj, strength, cache, budget_s)


def _named(obj: object) -> str:
    return f"{type(obj).__module__}.{type(obj).__qualname__}"


# Places


def _of_place(
    place: str | os.PathLike[str], strength: Wanted, cache: StatCache | None, budget_s: float | None
) -> Fingerprint:
    if isinstance(place, str) and is_uri(place):
        return _of_uri(place, strength)
    path = Path(place)
    if not os.fspath(place) or not os.path.exists(path):  # noqa: PTH110 - Path's raises for a name too long
        raise UsageError(
            f"there is no file or folder {os.fspath(place)[:200]!r} - check the path, or pass the data itself"
        )
    if strength in ("auto", "pinned") and is_delta(path):
        return fingerprint_of_delta(path)
    if strength in ("rows", "pinned"):
        raise UsageError(
            f"{path} has none of strength {strength!r} - use 'content', or fingerprint_table_file(path)"
        )
    return (
        fingerprint_of_stats(path)
        if strength == "stat"
        else fingerprint_of_path(path, cache=cache, budget_s=budget_s)
    )


def _of_uri(uri: str, strength: Wanted) -> Fingerprint:
    found = fingerprint_of_uri(uri)
    if strength in ("content", "rows", "stat") or (strength == "pinned" and found.strength != "pinned"):
        raise UsageError(
            f"{found.text} lies elsewhere, so it has no fingerprint of strength {strength!r} - "
            "load it and pass the data, or name a version that cannot change"
        )
    return found


# Tables


def _of_distributed(frame: Any, strength: Wanted) -> Fingerprint:
    if strength not in ("auto", "rows"):
        raise UsageError(
            f"{_named(frame)} is spread over machines, its rows have no one order - use strength='rows'"
        )
    return fingerprint_of_distributed(frame)


def _of_stream(dataset: Any, strength: Wanted) -> Fingerprint:
    if strength == "stat":
        raise UsageError(
            f"{_named(dataset)} is read piece by piece - use strength='content', or its files' path"
        )
    return fingerprint_of_stream(dataset, rows_only=strength == "rows")


def _of_table(table: Any, strength: Wanted, budget_s: float | None) -> Fingerprint:
    table = frame_of(table)
    if strength == "stat" or (budget_s is not None and cost_s(table) > budget_s):
        return fingerprint_of_table_sample(table)
    sources, rows = sources_of(table)
    if strength == "rows":
        return RowsPartial.of_sources(sources, rows).fingerprint()
    found = fingerprint_of_sources(sources, rows, _size_bytes(table))
    if rows * len(sources) > _CELLS_WITH_ROWS or (found.size_bytes or 0) > _BYTES_WITH_ROWS:
        return found
    in_any_order = RowsPartial.of_sources(sources, rows).fingerprint().text
    return msgspec.structs.replace(found, notes={**found.notes, ROWS_NOTE: in_any_order})


def _size_bytes(table: Any) -> int | None:
    if hasattr(table, "estimated_size"):
        return int(table.estimated_size())
    if hasattr(table, "memory_usage"):
        used = table.memory_usage(deep=False)
        return int(getattr(used, "sum", lambda: used)())
    return int(table.nbytes) if hasattr(table, "nbytes") else None


# Arrays, and several together


def _of_values(obj: Any, strength: Wanted, cache: StatCache | None, budget_s: float | None) -> Fingerprint:
    if library_of(obj) == "scipy" and hasattr(obj, "tocsr"):
        is_weak = strength == "stat" or (budget_s is not None and cost_s(obj) > budget_s)
        return fingerprint_of_sparse_size(obj) if is_weak else fingerprint_of_sparse(obj)
    if library_of(obj) == "torch" and isinstance(getattr(obj, "tensors", None), tuple):  # a TensorDataset
        obj = obj.tensors
    if isinstance(obj, Mapping):
        return _of_parts(
            [(str(name), part) for name, part in obj.items()], strength, cache, budget_s, is_named=True
        )
    if isinstance(obj, list | tuple):
        return _of_parts(
            [(str(at), part) for at, part in enumerate(obj)], strength, cache, budget_s, is_named=False
        )
    if not (hasattr(obj, "shape") and hasattr(obj, "dtype")):
        raise UsageError(_refusal(obj))
    if strength == "stat" or (budget_s is not None and cost_s(obj) > budget_s):
        return fingerprint_of_array_sample(obj)
    return fingerprint_of_array(obj)


def _of_parts(
    parts: list[tuple[str, Any]],
    strength: Wanted,
    cache: StatCache | None,
    budget_s: float | None,
    *,
    is_named: bool,
) -> Fingerprint:
    """Each part in what is left of the time."""
    found: dict[str, Fingerprint] = {}
    began = perf_counter()
    for name, part in parts:
        if name in found:
            raise UsageError(f"two parts have the name {name!r}, as text - give them different ones")
        if isinstance(part, str | int | float | bool | None):
            raise UsageError(
                f"a {type(part).__name__} among data has no fingerprint - "
                "pass numbers as numpy.asarray(...), rows as pandas.DataFrame(...), paths as their folder"
            )
        left_s = None if budget_s is None else max(0.0, budget_s - (perf_counter() - began))
        found[name] = fingerprint(part, strength=strength, cache=cache, budget_s=left_s)
    if not found:
        raise UsageError("an empty collection has no fingerprint - leave it out")
    return fingerprint_of_set(found, is_named=is_named)


def _refusal(obj: object) -> str:
    if library_of(obj) == "torch" or hasattr(obj, "__getitem__"):
        return (
            f"{_named(obj)} makes its items on demand, so their content is unknown - "
            "fingerprint the files or the tensors behind it: fingerprint('folder'), fingerprint((x, y))"
        )
    return (
        f"{_named(obj)} is nothing that can be fingerprinted - "
        "pass a table, an array, a list or dict of them, or a path"
    )
