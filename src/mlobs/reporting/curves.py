"""Every metric of every run, thinned to what a page can carry."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlobs.names import SYSTEM_PREFIX
from mlobs.read.record import RunRecord
from mlobs.reporting.thinning import Curve, thin

ALL_POINTS = 180_000  # about 2 MB of the file; with the library that makes 4
MOST_OF_A_CURVE = 2_000  # twice the pixels of a wide chart: more cannot be seen
LEAST_OF_A_CURVE = 100
MOST_CURVES = 4_000
_DIGITS = 7


@dataclass(frozen=True)
class Curves:
    """Curves by metric, each with the number of its run; `left_out` are metrics that found no place."""

    of: dict[str, list[tuple[int, Curve]]]
    left_out: tuple[str, ...]
    most: int

    @property
    def recorded(self) -> int:
        """How many points there were."""
        return sum(curve.recorded for _, curve in self._all())

    @property
    def shown(self) -> int:
        """How many of them the page has."""
        return sum(len(curve.values) for _, curve in self._all())

    def _all(self) -> Iterator[tuple[int, Curve]]:
        return (one for curves in self.of.values() for one in curves)


def curves_of(records: Sequence[RunRecord]) -> Curves:
    """Thin the curves of all runs so that they fit one page; those that most runs have come first."""
    counts = Counter(name for record in records for name in record.last_metrics)
    names = sorted(counts, key=lambda name: (name.startswith(SYSTEM_PREFIX), -counts[name]))
    kept: list[str] = []
    total = 0
    for name in names:
        total += counts[name]
        if total <= MOST_CURVES or not kept:
            kept.append(name)
    number = sum(counts[name] for name in kept)
    most = min(MOST_OF_A_CURVE, max(LEAST_OF_A_CURVE, ALL_POINTS // max(1, number)))
    of: dict[str, list[tuple[int, Curve]]] = {name: [] for name in kept}
    for run, record in enumerate(records):
        for name, curve in _curves(record, most):
            if name in of:
                of[name].append((run, curve))
    return Curves(of, tuple(name for name in names if name not in of), most)


def _curves(record: RunRecord, most: int) -> Iterator[tuple[str, Curve]]:
    import numpy as np

    points = record.points
    columns = (("codes", "i4"), ("steps", "i8"), ("values", "f8"), ("ats", "f8"))
    codes, steps, values, ats = (np.frombuffer(getattr(points, name), dtype) for name, dtype in columns)
    for name, code in points.names.items():
        rows = codes == code
        if rows.any():
            yield name, thin(steps[rows], values[rows], ats[rows], most)


def document(curve: Curve, started: float) -> dict[str, Any]:
    """A curve as the page reads it: steps and milliseconds since `started` as differences.

    Values have 7 significant digits; NaN is null, an infinity a text. A mean that is None is the one before.
    """
    import numpy as np

    milliseconds = np.rint((curve.ats - started) * 1000).astype("i8")
    facts: dict[str, Any] = {
        "n": curve.recorded,
        "s": np.diff(curve.steps, prepend=0).tolist(),
        "t": np.diff(milliseconds, prepend=0).tolist(),
        "v": [_short(value) for value in curve.values.tolist()],
    }
    if curve.means is not None:
        is_new = np.diff(curve.means, prepend=np.nan) != 0
        means = zip(curve.means.tolist(), is_new.tolist(), strict=True)
        facts["m"] = [_short(mean) if new else None for mean, new in means]
    return facts


def _short(value: float) -> float | int | str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    rounded = float(f"{value:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded  # noqa: PLR2004 - 2**53 is larger
