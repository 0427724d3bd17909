"""Fewer points that look the same: of each bucket the least and the greatest value stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FEWEST = 8  # points, below which there are no buckets to speak of


@dataclass(frozen=True)
class Curve:
    """A metric of one run by step: three arrays of equal length, `ats` in Unix seconds.

    `recorded` counts the points before thinning. `means` holds, beside each point, the mean of the finite
    values in its bucket, for smoothing; None where nothing was left out.
    """

    steps: Any
    values: Any
    ats: Any
    recorded: int
    means: Any = None


def thin(steps: Any, values: Any, ats: Any, most: int) -> Curve:
    """Order points by step (those of one step as they came) and keep at most about `most` of them.

    Equally many points go into each bucket. Of each bucket the least and the greatest finite value stay,
    and the first that is NaN or infinite, so that no spike and no gap disappears; of all, the first and
    the last point stay. Where many values are not finite up to `most` * 1.5 points stay.
    """
    import numpy as np

    order = np.argsort(steps, kind="stable")
    steps, values, ats = steps[order], values[order], ats[order]
    count = len(values)
    if count <= max(most, FEWEST):
        return Curve(steps, values, ats, count)
    buckets = max(FEWEST // 2, most // 2)
    width = -(-count // buckets)
    kept = _extremes(values, width)
    return Curve(steps[kept], values[kept], ats[kept], count, _means(values, width)[kept // width])


def _extremes(values: Any, width: int) -> Any:
    import numpy as np

    grid = _grid(values, width)
    offsets = np.arange(len(grid)) * width
    is_finite = np.isfinite(grid)
    has_values = is_finite.any(axis=1)
    least = np.where(is_finite, grid, np.inf).argmin(axis=1) + offsets
    greatest = np.where(is_finite, grid, -np.inf).argmax(axis=1) + offsets
    odd = ~is_finite
    odd[-1, len(values) - offsets[-1] :] = False  # the filling of the last bucket
    gaps = odd.argmax(axis=1) + offsets
    ends = [0, len(values) - 1]
    return np.unique(np.concatenate([least[has_values], greatest[has_values], gaps[odd.any(axis=1)], ends]))


def _means(values: Any, width: int) -> Any:
    import numpy as np

    grid = _grid(values, width)
    is_finite = np.isfinite(grid)
    counts = is_finite.sum(axis=1)
    with np.errstate(over="ignore"):
        sums = np.where(is_finite, grid, 0.0).sum(axis=1)
    return np.divide(sums, counts, out=np.full(len(grid), np.nan), where=counts > 0)


def _grid(values: Any, width: int) -> Any:
    """The values in rows of `width`, the last one filled up with NaN."""
    import numpy as np

    rows = -(-len(values) // width)
    grid = np.full(rows * width, np.nan)
    grid[: len(values)] = values
    return grid.reshape(rows, width)
