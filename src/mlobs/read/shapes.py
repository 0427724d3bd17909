"""The long frame of points, smoothed, aligned and made wide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mlobs.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

Align: TypeAlias = Literal["step", "time"]
_AXES: dict[str, str] = {"step": "step", "time": "elapsed_s"}


def check_shape(wide: object, smooth: object, align: object, *, superseded: bool) -> None:
    """Refuse what no frame can be made of, before anything is read.

    Raises:
        UsageError: an argument is not understood.
    """
    if wide not in (True, False, "metrics", "runs"):
        raise UsageError(f'wide is {wide!r}; expected True, "metrics" (a column each) or "runs"')
    if align not in _AXES:
        raise UsageError(f'align is {align!r}; expected "step", or "time": seconds since the run\'s start')
    if smooth is not None and not _is_smoothing(smooth):
        raise UsageError(
            f"smooth is {smooth!r}; expected a weight from 0 to below 1, or a number of points from 2 on"
        )
    if superseded and (wide or smooth is not None):
        raise UsageError("superseded points are in the long form alone, as they were recorded")


def _is_smoothing(smooth: object) -> bool:
    if isinstance(smooth, bool) or not isinstance(smooth, int | float) or not math.isfinite(smooth):
        return False
    return 0 <= smooth < 1 or (smooth >= 2 and smooth == int(smooth))  # noqa: PLR2004 - the mean of 1 point is itself


def elapsed(frame: pd.DataFrame, begun: Mapping[str, float]) -> Any:
    """The seconds from each run's start to each point."""
    at = frame["at"].dt.tz_localize(None).to_numpy("M8[ns]").astype("i8")
    starts = frame["run_id"].map({run_id: round(start * 1e6) * 1000 for run_id, start in begun.items()})
    return (at - starts.astype("int64").to_numpy()) / 1e9


def smoothed(frame: pd.DataFrame, smooth: float) -> pd.Series:
    """The values of each run's metric, smoothed in the order in which they stand; see `metrics`."""
    groups = frame.groupby(["run_id", "key"], sort=False, observed=True)["value"]
    return groups.transform(lambda values: smoothed_series(values, smooth)).astype("float64")


def smoothed_values(values: Sequence[float], smooth: float) -> list[float]:
    """Values of one metric, smoothed as `smoothed_series` does."""
    import pandas as pd

    smooth_values: list[float] = smoothed_series(pd.Series(values, dtype="float64"), smooth).tolist()
    return smooth_values


def smoothed_series(values: pd.Series, smooth: float) -> pd.Series:
    """Values of one metric, smoothed; what is not finite stays, and is left out of the mean."""
    import numpy as np

    finite = values.where(np.isfinite(values))
    series: pd.Series = _mean(finite, smooth).where(finite.notna(), values)
    return series


def _mean(values: pd.Series, smooth: float) -> Any:
    if smooth < 1:
        return values.ewm(alpha=1 - smooth, adjust=True, ignore_na=True).mean()
    return values.rolling(int(smooth), min_periods=1).mean()


def widened(
    frame: pd.DataFrame,
    wide: bool | Literal["metrics", "runs"],  # noqa: FBT001 - the caller's own argument, passed on
    align: Align,
    smooth: float | None,
    keys: Sequence[str] | None,
) -> pd.DataFrame:
    """A column for each metric, or for each run, under the axis; see `metrics`.

    Raises:
        UsageError: a column for each run of more than one metric is asked for.
    """
    import numpy as np
    import pandas as pd

    axis = _AXES[align]
    of_runs = wide == "runs" or (wide is True and keys is not None and len(set(keys)) == 1)
    found = list(pd.unique(frame["key"]))
    if of_runs and len(found) > 1:
        raise UsageError(f"a column for each run is of one metric; give one of keys={found}")
    rows = frame.drop_duplicates(["run_id", "key", axis], keep="last")
    order = rows[axis].argsort(kind="stable")
    rows = rows.iloc[order].reset_index(drop=True)
    if smooth is not None:
        rows["value"] = smoothed(rows, smooth)
    index, column = ([axis], "run_id") if of_runs else (["run_id", axis], "key")
    table = rows.set_index([*index, column])["value"].unstack(column)  # noqa: PD010 - pivot_table would group, and copy, a million rows
    if not of_runs:  # runs in the order of the long form
        order_of = {run_id: number for number, run_id in enumerate(pd.unique(frame["run_id"]))}
        numbers = [order_of[run_id] for run_id in table.index.get_level_values("run_id")]
        table = table.iloc[np.argsort(np.array(numbers, "i8"), kind="stable")]
    shape: pd.DataFrame = table.reindex(columns=pd.Index(pd.unique(frame[column]), name=column))
    return shape
