"""Which runs a report is about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

from mlobs.errors import UsageError
from mlobs.journal.store import Store
from mlobs.read.frames import Choice, read_runs
from mlobs.read.location import StoreLike, open_store
from mlobs.read.record import RunRecord, liveness, load_run, read_run
from mlobs.read.run_index import RunIndex

RunsLike: TypeAlias = Any  # None, a run, several of them, or a frame with a column `run_id`


class Chosen(NamedTuple):
    """The runs of a report, and whether older ones are left out for their number."""

    records: list[RunRecord]
    is_cut: bool


def choose(runs: RunsLike, *, store: StoreLike, choice: Choice, limit: int) -> Chosen:
    """Read the runs that are asked for, in the order they were named; None is the newest ones, oldest first.

    Raises:
        UsageError: a run is not there, or there is none at all.
        StoreError: there is no such store.
    """
    is_cut = False
    if runs is None:
        found, is_cut = _newest(open_store(store), choice, limit)
    else:
        found = [one for one in (_read(run, store) for run in _several(runs)) if _takes(choice, one)]
    if not found:
        of = f" of experiment {choice.experiment!r}" if choice.experiment is not None else ""
        such = "" if choice == Choice(experiment=choice.experiment) else "such "
        raise UsageError(f"there are no {such}runs{of} to report on - type: mlobs runs")
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


def _newest(store: Store, choice: Choice, limit: int) -> tuple[list[RunRecord], bool]:
    every = list(read_runs(store, choice))
    is_alive = liveness()
    newest = (read_run(store.run(one.run_id), is_alive) for one in every[-limit:])  # [-0:] is all
    return [one for one in newest if one is not None], 0 < limit < len(every)


def _takes(choice: Choice, record: RunRecord) -> bool:
    if choice == Choice():
        return True
    with RunIndex(Store(record.folder.store)) as index:
        run = index.summary(record.folder)
        return run is not None and choice.takes(run)
