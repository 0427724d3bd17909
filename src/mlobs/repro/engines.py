"""rows1 of tables that are spread over machines, computed where their parts lie; mlobs starts no cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from mlobs.errors import UsageError
from mlobs.repro.fingerprint_value import Fingerprint
from mlobs.repro.frames import library_of
from mlobs.repro.rows import RowsPartial

_SIGN = 2**63


def is_distributed(value: object) -> bool:
    """Tell whether it belongs to Dask, Spark or Ray."""
    return library_of(value) in ("dask", "pyspark", "ray")


def fingerprint_of_distributed(frame: Any) -> Fingerprint:
    """The rows1 of a DataFrame of Dask or Spark, or a Dataset of Ray; it computes the frame once.

    Raises:
        UsageError: it is something else of theirs.
    """
    library = library_of(frame)
    if library == "dask" and hasattr(frame, "to_delayed") and hasattr(frame, "columns"):
        return _of_dask(frame)
    if library == "pyspark" and hasattr(frame, "mapInArrow"):
        return _of_spark(frame)
    if library == "ray" and hasattr(frame, "map_batches"):
        return _of_ray(frame)
    raise UsageError(
        f"{type(frame).__module__}.{type(frame).__name__} has no fingerprint - make a DataFrame of it, "
        "or add up RowsPartial.of(part) over its parts and call .fingerprint()"
    )


def _of_dask(frame: Any) -> Fingerprint:
    dask = sys.modules["dask"]  # loaded, or there were no such frame
    partials = [dask.delayed(RowsPartial.of)(part) for part in frame.to_delayed()]
    return sum(dask.compute(*partials), RowsPartial()).fingerprint()


def _of_spark(frame: Any) -> Fingerprint:
    rows = frame.mapInArrow(_partials, "n long, s1 long, s2 long").collect()
    parts = (RowsPartial(row.n, row.s1 + _SIGN, row.s2 + _SIGN) for row in rows)
    return sum(parts, RowsPartial()).fingerprint()


def _partials(batches: Iterator[Any]) -> Iterator[Any]:
    """Spark's numbers have a sign: what is sent is 2^63 less."""
    import pyarrow as pa

    for batch in batches:
        part = RowsPartial.of(batch)
        yield pa.RecordBatch.from_pydict({"n": [part.n], "s1": [part.s1 - _SIGN], "s2": [part.s2 - _SIGN]})


def _of_ray(dataset: Any) -> Fingerprint:
    found = dataset.map_batches(_partial_of_ray, batch_format="pyarrow").take_all()
    parts = (RowsPartial(int(row["n"]), int(row["s1"]) + _SIGN, int(row["s2"]) + _SIGN) for row in found)
    return sum(parts, RowsPartial()).fingerprint()


def _partial_of_ray(table: Any) -> Any:
    import pyarrow as pa

    part = RowsPartial.of(table)
    return pa.table({"n": [part.n], "s1": [part.s1 - _SIGN], "s2": [part.s2 - _SIGN]})
