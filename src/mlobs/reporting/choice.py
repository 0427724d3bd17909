"""Which runs a report is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from mlobs.errors import UsageError
from mlobs.read.location import StoreLike, open_store
from mlobs.read.record import RunRecord, liveness, load_run, read_run

RunsLike: TypeAlias = Any  # None, a run, several of them, or a frame with a column `run_id`


class Chosen(NamedTuple):
    """The runs of a report, and whether older ones are left out for their number."""

    records: list[RunRecord]
    is_cut: bool


def choose(runs: RunsLike, *, store: StoreLike, experiment: str | None, limit: int) -> Chosen:
    """Read the runs that are asked for, in the order they were named; None is the newest ones, oldest first.

    Raises:
        UsageError: a run is not there, or there is none at all.
        StoreError: there is no such store.
    """
    is_cut = False
    if runs is None:
        newest = _newest(store, experiment)
        found = list(islice(newest, limit or None))[::-1]
        is_cut = next(newest, None) is not None
    else:
        named = [_read(run, store) for run in _several(runs)]
        found = [one for one in named if experiment is None or one.experiment == experiment]
    if not found:
        of = f" of experiment {experiment!r}" if experiment is not None else ""
        raise UsageError(f"there are no runs{of} to report on - type: mlobs runs")
    return Chosen(list({one.run_id: one for one in found}.values()), is_cut)


def _several(runs: RunsLike) -> Iterable[Any]:
    if isinstance(runs, str | RunRecord):
        return [runs]
    if hasattr(runs, "columns"):
        if "run_id" not in runs.columns:
            raise UsageError("the frame of runs has no column 'run_id' - give what mlobs.runs() returns")
        ids: Iterable[Any] = runs["run_id"]
        return ids
    several: Iterable[Any] = runs
    return several


def _read(run: Any, store: StoreLike) -> RunRecord:
    if isinstance(run, RunRecord):
        return run
    return load_run(str(run), store=store)


def _newest(store: StoreLike, experiment: str | None) -> Iterator[RunRecord]:
    is_alive = liveness()
    for folder in reversed(list(open_store(store).runs())):
        record = read_run(folder, is_alive)
        if record is not None and (experiment is None or record.experiment == experiment):
            yield record
