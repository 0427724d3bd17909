"""Metrics of runs as pandas frames: long or wide, smoothed, beside steps or times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from mlobs.errors import UsageError
from mlobs.journal.store import RunFolder
from mlobs.read.location import StoreLike, find_runs, open_store
from mlobs.read.point_cache import PointReader
from mlobs.read.point_frame import frame_of_points
from mlobs.read.points import Points, with_superseded
from mlobs.read.record import liveness, scan_writers, started_at
from mlobs.read.shapes import Align, check_shape, elapsed, smoothed, widened

if TYPE_CHECKING:
    import pandas as pd

Runs = str | Iterable[str] | None
FRAME_POINTS = 1_000_000  # about 100 MB as a frame


def metrics(
    *,
    store: StoreLike = None,
    run_ids: Runs = None,
    keys: str | Iterable[str] | None = None,
    wide: bool | Literal["metrics", "runs"] = False,
    smooth: float | None = None,
    align: Align = "step",
    superseded: bool = False,
) -> pd.DataFrame:
    """Return every recorded point: `run_id`, `key`, `step` (int64), `value` (float64), `at` (UTC).

    Runs come oldest first, or as `run_ids` names them (ids, unique beginnings, or "latest"). The
    points of a run are in recorded order: its writers are merged by time, and the order of one
    writer's points never changes. A (key, step) that was recorded twice is there twice; what a
    rewind took back is not, unless `superseded` asks for it: a column of that name then tells the
    two apart. `keys` chooses metrics by their names. A million points take about 2 s at first, and
    0.3 s when they are read again.

    - `wide` makes a column of each metric, under (`run_id`, `step`); "runs", or one key, a column of
      each run under `step`. Of a point that was recorded twice the latest counts.
    - `smooth` from 0 to below 1 is the weight of TensorBoard's smoothing, an exponential mean without
      its bias to 0; a whole number from 2 on is the mean of so many points up to each. NaN and infinities
      are left as they are. It fills a column `smoothed`, or takes the place of the values if `wide`.
    - `align="time"` puts seconds since the run's start in place of the step: a column `elapsed_s`.

    Raises:
        UsageError: one of `run_ids` is not in the store, or means more than one run; or an argument
            is not understood.
        StoreError: there is no such store.
    """
    check_shape(wide, smooth, align, superseded=superseded)
    folders, chosen = list(_folders(store, run_ids)), _keys(keys)
    if superseded:
        frame, begun = _with_superseded(folders, chosen)
    else:
        frame, begun = _that_count(folders, chosen)
    if align == "time":
        frame["elapsed_s"] = elapsed(frame, begun)
    if wide:
        return widened(frame, wide, align, smooth, chosen)
    if smooth is not None:
        frame["smoothed"] = smoothed(frame, smooth)
    return frame


def metric_frames(
    *,
    store: StoreLike = None,
    run_ids: Runs = None,
    keys: str | Iterable[str] | None = None,
    points: int = FRAME_POINTS,
) -> Iterator[pd.DataFrame]:
    """Yield the points that `metrics` returns, in the same order, in frames of at most `points` rows each.

    For what does not fit into memory: no more is held than one frame and 4 MB. At the first reading of a
    run that several processes wrote, that was rewound, or that is running, its points are held, 28 bytes
    each; so they are where no cache can be written. A frame holds points of one run.

    Raises:
        UsageError: one of `run_ids` is not in the store, or means more than one run, or `points` is below 1.
        StoreError: there is no such store.
    """
    if points < 1:
        raise UsageError(f"points is {points}; expected the most rows of a frame, 1 or more")
    return _frames(list(_folders(store, run_ids)), _keys(keys), points)


def _frames(folders: Iterable[RunFolder], keys: list[str] | None, most: int) -> Iterator[pd.DataFrame]:
    for folder in folders:
        for part, _ in PointReader(liveness()).parts(folder, most):
            frame = frame_of_points([(folder.run_id, part)], keys)
            if len(frame):
                yield frame


def _folders(store: StoreLike, run_ids: Runs) -> Iterable[RunFolder]:
    return open_store(store).runs() if run_ids is None else find_runs(store, run_ids)


def _keys(keys: str | Iterable[str] | None) -> list[str] | None:
    return None if keys is None else [keys] if isinstance(keys, str) else list(keys)


def _that_count(
    folders: Iterable[RunFolder], keys: list[str] | None
) -> tuple[pd.DataFrame, dict[str, float]]:
    reader = PointReader(liveness())
    found: list[tuple[str, Points]] = []
    begun: dict[str, float] = {}
    for folder in folders:
        read = reader.points(folder)
        if read is not None:
            found.append((folder.run_id, read[0]))
            begun[folder.run_id] = read[1]
    return frame_of_points(found, keys), begun


def _with_superseded(
    folders: Iterable[RunFolder], keys: list[str] | None
) -> tuple[pd.DataFrame, dict[str, float]]:
    names: dict[str, int] = {}
    found: list[tuple[str, Points]] = []
    marks: list[bool] = []
    begun: dict[str, Any] = {}
    is_alive = liveness()
    for folder in folders:
        scans = scan_writers(folder, is_alive, names)
        if scans:
            points, rewound = with_superseded([one.points for one in scans])
            found.append((folder.run_id, points))
            marks += rewound
            begun[folder.run_id] = started_at(scans)
    return frame_of_points(found, keys, superseded=marks), begun
