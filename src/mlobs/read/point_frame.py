"""Points in columns as a pandas frame in long form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mlobs.read.points import Points

if TYPE_CHECKING:
    import pandas as pd


def frame_of_points(
    of_runs: Sequence[tuple[str, Points]],
    keys: Iterable[str] | None = None,
    *,
    superseded: Sequence[bool] | None = None,
) -> pd.DataFrame:
    """Put the points of runs, which share one numbering of names, into a frame.

    `superseded`, a mark for each point, becomes a column.
    """
    import numpy as np
    import pandas as pd

    text = pd.Series([""]).dtype  # object, or pandas 3's str

    def column(name: str, dtype: str) -> Any:
        parts = [np.frombuffer(getattr(points, name), dtype) for _, points in of_runs]
        return np.concatenate(parts) if parts else np.empty(0, dtype)

    names = of_runs[0][1].names if of_runs else {}
    codes, microseconds = column("codes", "i4"), np.rint(column("ats", "f8") * 1e6).astype("i8")
    lengths = [len(points) for _, points in of_runs]
    frame: pd.DataFrame = pd.DataFrame(
        {  # text is taken from its few different values: a million strings would cost 0.1 s
            "run_id": pd.Index([run_id for run_id, _ in of_runs], dtype=text).repeat(lengths),
            "key": pd.Index(list(names), dtype=text).take(codes),
            "step": column("steps", "i8"),
            "value": column("values", "f8"),
            "at": pd.DatetimeIndex((microseconds * 1000).view("M8[ns]"), tz="UTC"),
        }
    )
    if superseded is not None:
        frame["superseded"] = np.array(superseded, "?")
    if keys is None:
        return frame
    wanted = [names[key] for key in set(keys) if key in names]
    chosen: pd.DataFrame = frame[np.isin(codes, wanted)].reset_index(drop=True)
    return chosen
