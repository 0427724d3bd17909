"""Runs of a store as a pandas frame, and which of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from mlobs.errors import UsageError
from mlobs.events import Status
from mlobs.moments import moment_of
from mlobs.read.aggregates import Aggregate, Chooser
from mlobs.read.location import StoreLike, open_store
from mlobs.read.point_cache import PointReader
from mlobs.read.points import Points
from mlobs.read.record import liveness
from mlobs.read.run_index import RunIndex
from mlobs.read.run_summary import RunSummary
from mlobs.read.where import condition

if TYPE_CHECKING:
    import pandas as pd

Where: TypeAlias = str | Callable[[RunSummary], bool] | None
STATUSES: tuple[str, ...] = get_args(Status)
_TEXTS = ("run_id", "experiment", "name", "status")
_TIMES = ("started", "ended")


@dataclass(frozen=True)
class Choice:
    """Which runs are asked for; what is None does not matter.

    `since` is a moment in Unix seconds: runs that started then or later. `condition` is `where` as it was
    typed, for messages.
    """

    experiment: str | None = None
    status: str | None = None
    where: Callable[[RunSummary], bool] | None = None
    since: float | None = None
    condition: str | None = None

    @classmethod
    def of(
        cls,
        *,
        experiment: str | None = None,
        status: str | None = None,
        where: Where = None,
        since: datetime | str | None = None,
    ) -> Choice:
        """Understand what a caller wrote.

        Raises:
            UsageError: there is no such status, or the condition or the moment is none.
        """
        if status is not None and status.upper() not in STATUSES:
            raise UsageError(f"status is {status!r}; expected one of {', '.join(STATUSES)}")
        return cls(
            experiment=experiment,
            status=status.upper() if status is not None else None,
            where=condition(where) if isinstance(where, str) else where,
            since=moment_of(since) if since is not None else None,
            condition=where if isinstance(where, str) else None,
        )

    def takes(self, run: RunSummary) -> bool:
        """Tell whether a run is asked for."""
        if self.experiment is not None and run.experiment != self.experiment:
            return False
        if self.status is not None and run.status != self.status:
            return False
        if self.since is not None and (run.started_at is None or run.started_at < self.since):
            return False
        return self.where is None or bool(self.where(run))


def read_runs(store: StoreLike = None, choice: Choice | None = None) -> Iterator[RunSummary]:
    """Read the runs of a store in short, oldest first; one that has recorded nothing is left out.

    Raises:
        StoreError: there is no such store.
    """
    choice = choice or Choice()
    with RunIndex(open_store(store)) as index:
        for run in index.summaries():
            if choice.takes(run):
                yield run


def runs(
    *,
    store: StoreLike = None,
    experiment: str | None = None,
    status: str | None = None,
    where: Where = None,
    since: datetime | str | None = None,
    aggregate: Aggregate = "last",
    system: bool = False,
) -> pd.DataFrame:
    """Return one row per run, oldest first.

    Columns: `run_id`, `experiment`, `name`, `status`, `started`, `ended` (UTC), `reason`,
    `parent_run_id`, then `params.*`, `metrics.*` (the value recorded last) and `tags.*`, each in the
    order in which the names first appear. What a run does not have is missing (NaN, None or NaT).

    - `where` is a condition such as "params.lr < 0.1 and metrics['val/acc'].max > 0.9", or a function of
      a `RunSummary`. A run that lacks what is asked for is left out.
    - `since` leaves out what started before: a datetime, ISO 8601, or "7d" for the last seven days.
    - `aggregate` chooses the value of each metric: "last", "first", "min", "max", "mean", or "at max
      val/acc" for that of the step where another metric is best; or a mapping of metrics to these.
    - `system` adds the columns `metrics.system/*`, the load of the program and its machine.

    Raises:
        UsageError: one of the arguments is not understood, or `aggregate` names a metric that none of the
            runs has; the message says what is expected.
        StoreError: there is no such store.
    """
    import pandas as pd

    opened = open_store(store)
    chooser = Chooser(aggregate, lambda run_id: _points(opened.run(run_id)))
    choice = Choice.of(experiment=experiment, status=status, where=where, since=since)
    found = list(read_runs(opened, choice))
    chooser.check_names(found)
    columns: dict[str, Any] = {
        name: pd.Series([getattr(run, name) for run in found], dtype=object) for name in _TEXTS
    }
    for name in _TIMES:
        columns[name] = pd.to_datetime(
            pd.Series([getattr(one, name) for one in found], dtype=object), utc=True
        )
    for name in ("reason", "parent_run_id"):
        columns[name] = pd.Series([getattr(run, name) for run in found], dtype=object)
    columns |= _spread("params", [run.params for run in found])
    columns |= _spread("metrics", [chooser.values(run, system=system) for run in found])
    columns |= _spread("tags", [run.tags for run in found])
    frame: pd.DataFrame = pd.DataFrame(columns)
    return frame


def _points(folder: Any) -> Points:
    found = PointReader(liveness()).points(folder)
    return found[0] if found is not None else Points({})


def _spread(group: str, of_runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make a column of each name that occurs in any of the mappings."""
    names: Iterable[str] = dict.fromkeys(name for values in of_runs for name in values)
    return {f"{group}.{name}": _column([values.get(name) for values in of_runs]) for name in names}


def _column(values: list[Any]) -> Any:
    """A column of the type that pandas infers, unless that would round an integer."""
    import pandas as pd

    column = pd.Series(values)
    if column.dtype.kind == "f" and any(isinstance(one, int) and int(float(one)) != one for one in values):
        return pd.Series(values, dtype=object)
    return column
