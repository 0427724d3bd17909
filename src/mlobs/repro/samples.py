"""stat1 of what is in memory: shape, types, first and last rows; and what hashing all would cost."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from mlobs.repro.arrays import array_digest, plain_array, refuse_without_values
from mlobs.repro.fingerprint_value import Fingerprint
from mlobs.repro.frames import library_of, sources_of
from mlobs.repro.tables import fingerprint_of_sources, hasher, sized

_ROWS = 1_000  # at each end
_VALUES = 1 << 16  # of an array, at each end
_S_PER_BYTE = 1e-9  # a quarter of the speed that was measured on an idle machine
_S_PER_OBJECT = 3e-7
_S_PER_STORED = 5e-8  # of a sparse matrix, which is put in order first


def cost_s(value: Any) -> float:
    """About how long the content of a table or an array takes to hash, in seconds, on a busy machine."""
    if library_of(value) == "pandas" and hasattr(value, "memory_usage"):
        types = value.dtypes if hasattr(value, "columns") else [value.dtype]
        objects = sum(str(dtype) in ("object", "string", "str", "category") for dtype in types) * len(value)
        used = value.memory_usage(deep=False)
        return float(getattr(used, "sum", lambda: used)()) * _S_PER_BYTE + objects * _S_PER_OBJECT
    if hasattr(value, "estimated_size"):
        return float(value.estimated_size()) * _S_PER_BYTE
    if library_of(value) == "scipy":
        return float(value.nnz) * _S_PER_STORED
    if hasattr(value, "numel") and hasattr(value, "element_size"):
        return float(value.numel() * value.element_size()) * _S_PER_BYTE
    if getattr(getattr(value, "dtype", None), "kind", "") == "O":
        return float(value.size) * _S_PER_OBJECT
    return float(getattr(value, "nbytes", 0) or 0) * _S_PER_BYTE


def fingerprint_of_table_sample(table: Any) -> Fingerprint:
    """A weak fingerprint of a table: how many rows it has, and the content of the first and last 1,000.

    Raises:
        UsageError: a column has no canonical form.
    """
    rows = len(table)
    ends = [_part(table, 0, min(rows, _ROWS)), _part(table, max(0, rows - _ROWS), rows)]
    found = [fingerprint_of_sources(sources, count) for sources, count in map(sources_of, ends)]
    one = hasher("mlobs stat1").update(struct.pack("<Q", rows) + b"".join(sized(part.text) for part in found))
    return Fingerprint(
        f"stat1:{one.hexdigest()}",
        "stat",
        rows,
        notes={"compared": f"the first and last {_ROWS} of {rows} rows"},
    )


def fingerprint_of_array_sample(array: Any) -> Fingerprint:
    """A weak fingerprint of an array or tensor: its type and shape, and the first and last 65,536 values.

    Raises:
        UsageError: its values have no canonical form.
    """
    shape = tuple(int(size) for size in array.shape)
    if hasattr(array, "numel"):  # of torch: only the ends come off a device
        refuse_without_values(array)
        flat = array.detach().reshape(-1)
        ends = [flat[:_VALUES], flat[-_VALUES:]]
    else:
        _, values = plain_array(array)
        ends = [values.flat[:_VALUES], values.flat[-_VALUES:]]
    one = hasher("mlobs stat1").update(struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
    for part in ends:
        one.update(bytes.fromhex(array_digest(part)))
    return Fingerprint(
        f"stat1:{one.hexdigest()}",
        "stat",
        shape[0] if shape else None,
        notes={"compared": f"the first and last {_VALUES} values", "shape": str(list(shape))},
    )


def fingerprint_of_sparse_size(matrix: Any) -> Fingerprint:
    """A weak fingerprint of a matrix of scipy.sparse: its shape, and how many values it stores."""
    shape = tuple(map(int, matrix.shape))
    one = hasher("mlobs stat1").update(struct.pack(f"<{len(shape) + 1}Q", *shape, matrix.nnz))
    return Fingerprint(
        f"stat1:{one.hexdigest()}", "stat", shape[0], notes={"compared": "shape and stored values"}
    )


def fingerprint_of_unread(value: Any) -> Fingerprint:
    """A name for data that would have to be computed or read first: its type, and its columns."""
    columns = getattr(value, "column_names", None) or getattr(value, "columns", None)
    if columns is None and hasattr(value, "scanner"):
        columns = value.schema.names
    known = f"[{', '.join(map(str, columns))}]" if isinstance(columns, Iterable) else ""
    return Fingerprint(
        f"name:{type(value).__module__}.{type(value).__qualname__}{known}",
        "name",
        notes={"why": "its content would have to be read first - pass it without a budget"},
    )


def _part(table: Any, start: int, stop: int) -> Any:
    if hasattr(table, "iloc"):
        return table.iloc[start:stop]
    return table.slice(start, stop - start)
