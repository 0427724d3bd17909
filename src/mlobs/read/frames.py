"""Runs and metrics of a store as pandas frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_args

from mlobs.errors import UsageError
from mlobs.events import Status
from mlobs.names import SYSTEM_PREFIX
from mlobs.read.location import StoreLike, open_store
from mlobs.read.point_frame import frame_of_points
from mlobs.read.points import Points, that_count, with_superseded
from mlobs.read.record import RunRecord, liveness, read_run, scan_writers

if TYPE_CHECKING:
    import pandas as pd

STATUSES: tuple[str, ...] = get_args(Status)
_TEXTS = ("run_id", "experiment", "name", "status")
_TIMES = ("started", "ended")


def read_runs(
    store: StoreLike = None, *, experiment: str | None = None, status: str | None = None
) -> Iterator[RunRecord]:
    """Read the runs of a store one after the other, oldest first; one that has recorded nothing is left out.

    Raises:
        UsageError: there is no such status.
        StoreError: there is no such store.
    """
    if status is not None and status.upper() not in STATUSES:
        raise UsageError(f"status is {status!r}; expected one of {', '.join(STATUSES)}")
    is_alive = liveness()
    for folder in open_store(store).runs():
        record = read_run(folder, is_alive)
        if record is None or (experiment is not None and record.experiment != experiment):
            continue
        if status is None or record.status == status.upper():
            yield record


def runs(
    *,
    store: StoreLike = None,
    experiment: str | None = None,
    status: str | None = None,
    system: bool = False,
) -> pd.DataFrame:
    """Return one row per run, oldest first.

    Columns: `run_id`, `experiment`, `name`, `status`, `started`, `ended` (UTC), `reason`,
    `parent_run_id`, then `params.*`, `metrics.*` (the value recorded last) and `tags.*`, each in the
    order in which the names first appear. What a run does not have is missing (NaN, None or NaT).
    `system` adds the columns `metrics.system/*`, the load of the program and its machine.

    Raises:
        StoreError: there is no such store.
    """
    import pandas as pd

    records = list(read_runs(store, experiment=experiment, status=status))
    columns: dict[str, Any] = {
        name: pd.Series([getattr(record, name) for record in records], dtype=object) for name in _TEXTS
    }
    for name in _TIMES:
        columns[name] = pd.to_datetime(
            pd.Series([getattr(one, name) for one in records], dtype=object), utc=True
        )
    for name in ("reason", "parent_run_id"):
        columns[name] = pd.Series([getattr(record, name) for record in records], dtype=object)
    columns |= _spread("params", [record.params for record in records])
    columns |= _spread("metrics", [_chosen(record.last_metrics, system=system) for record in records])
    columns |= _spread("tags", [record.tags for record in records])
    frame: pd.DataFrame = pd.DataFrame(columns)
    return frame


def metrics(
    *,
    store: StoreLike = None,
    run_ids: str | Iterable[str] | None = None,
    keys: str | Iterable[str] | None = None,
    superseded: bool = False,
) -> pd.DataFrame:
    """Return every recorded point: `run_id`, `key`, `step` (int64), `value` (float64), `at` (UTC).

    Runs come oldest first, or as `run_ids` names them (ids, unique beginnings, or "latest"). The
    points of a run are in recorded order: its writers are merged by time, and the order of one
    writer's points never changes. A (key, step) that was recorded twice is there twice; what a
    rewind took back is not, unless `superseded` asks for it: a column of that name then tells the
    two apart. `keys` chooses metrics by their names. A million points take about 2 s.

    Raises:
        UsageError: one of `run_ids` is not in the store, or means more than one run.
        StoreError: there is no such store.
    """
    opened, is_alive = open_store(store), liveness()
    chosen = [run_ids] if isinstance(run_ids, str) else run_ids
    folders = opened.runs() if chosen is None else (opened.find(run) for run in chosen)
    names: dict[str, int] = {}
    found: list[tuple[str, Points]] = []
    marks: list[bool] = []
    for folder in folders:
        scans = scan_writers(folder, is_alive, names)
        if scans and superseded:
            points, rewound = with_superseded([one.points for one in scans])
            found.append((folder.run_id, points))
            marks += rewound
        elif scans:
            found.append((folder.run_id, that_count([one.points for one in scans])))
    chosen_keys = [keys] if isinstance(keys, str) else keys
    return frame_of_points(found, chosen_keys, superseded=marks if superseded else None)


def _chosen(metrics: dict[str, float], *, system: bool) -> dict[str, float]:
    """The metrics that a table of runs shows."""
    if system:
        return metrics
    return {name: value for name, value in metrics.items() if not name.startswith(SYSTEM_PREFIX)}


def _spread(group: str, of_records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make a column of each name that occurs in any of the mappings."""
    names = dict.fromkeys(name for values in of_records for name in values)
    return {f"{group}.{name}": _column([values.get(name) for values in of_records]) for name in names}


def _column(values: list[Any]) -> Any:
    """A column of the type that pandas infers, unless that would round an integer."""
    import pandas as pd

    column = pd.Series(values)
    if column.dtype.kind == "f" and any(isinstance(one, int) and int(float(one)) != one for one in values):
        return pd.Series(values, dtype=object)
    return column
