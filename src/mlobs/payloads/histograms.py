"""Histograms: values counted in the caller, or counts that the user has."""

from __future__ import annotations

import time
from typing import Any

from mlobs.errors import UsageError
from mlobs.events import Histogram, Meta
from mlobs.payloads.arrays import as_array
from mlobs.values import name_of

MAX_BINS = 10_000  # beyond that nobody sees a bin, and a step takes 160 kB


def histogram(
    name: str, values: Any, bins: int, counts: Any, edges: Any, step: int | None, meta: Meta | None
) -> Histogram:
    """Count `values` in `bins` bins of one width, or take `counts` between `edges`.

    Values that are not finite are in no bin; `meta` says how many there were.

    Raises:
        UsageError: there are neither values nor counts with edges, or they do not fit together.
    """
    import numpy as np

    call = f"log_histogram({name!r})"
    facts: dict[str, Any] = {}
    if values is not None and counts is None and edges is None:
        if type(bins) is not int or not 1 <= bins <= MAX_BINS:
            raise UsageError(f"{call}: bins is {bins!r}; expected 1 to {MAX_BINS:,}")
        array = as_array(call, values).ravel()
        finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
        if finite.size < array.size:
            facts = {"not_finite": int(array.size - finite.size)}
        if finite.size == 0:
            raise UsageError(f"{call} got no finite value out of {array.size}; expected at least one")
        numbers, borders = _counted(finite, bins)
    elif values is None and counts is not None and edges is not None:
        numbers, borders = as_array(call, counts), as_array(call, edges).astype(np.float64)
        _check(call, numbers, borders)
    else:
        raise UsageError(f"{call} takes values, or counts and edges - type: {call[:-1]}, values)")
    return Histogram(
        time.time(),
        step,
        name_of(name),
        [float(one) for one in numbers.tolist()],
        [float(one) for one in borders.tolist()],
        {**(meta or {}), **facts} if facts else meta,
    )


def _counted(values: Any, bins: int) -> tuple[Any, Any]:
    """Counts and edges; values that hardly differ get bins as wide as their numbers can tell apart."""
    import numpy as np

    wide = values.astype(np.float64) if values.dtype.kind == "b" or values.itemsize < 4 else values  # noqa: PLR2004 - a half overflows
    try:
        return np.histogram(wide, bins=bins)
    except ValueError:
        pass  # NumPy: the type has fewer numbers between the least and the greatest value than there are bins
    low, high = float(wide.min()), float(wide.max())
    half = max(0.5, bins * float(np.spacing(max(abs(low), abs(high)))))  # NumPy's own for equal values
    try:
        return np.histogram(wide.astype(np.float64), bins=bins)
    except ValueError:
        return np.histogram(wide.astype(np.float64), bins=bins, range=(low - half, high + half))


def _check(call: str, counts: Any, edges: Any) -> None:
    import numpy as np

    if counts.ndim != 1 or edges.shape != (counts.size + 1,) or counts.size == 0 or counts.size > MAX_BINS:
        raise UsageError(f"{call} got {counts.shape} counts and {edges.shape} edges; expected one more edge")
    if not np.isfinite(edges).all() or not (np.diff(edges) >= 0).all():
        raise UsageError(f"{call}: edges have to be finite and to grow")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise UsageError(f"{call}: counts have to be finite, 0 or more")
