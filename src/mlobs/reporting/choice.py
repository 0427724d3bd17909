"""Which runs a report is about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

from mlobs.errors import UsageError
from mlobs.journal.store import Store
from mlobs.read.frames import Choice, read_runs
from mlobs.read.location import StoreLike, open_store
from mlobs.read.no_runs import no_such_runs
from mlobs.read.record import RunRecord, liveness, load_run, read_run
from mlobs.read.run_summary import RunSummary

RunsLike: TypeAlias = Any  # None, a run, several of them, or a frame with a column `run_id`


class Chosen(NamedTuple):
    """The runs of a report, whether older ones are left out for their number, and which of those named."""

    records: list[RunRecord]
    is_cut: bool
    left_out: tuple[str, ...] = ()


def choose(runs: RunsLike, *, store: StoreLike, choice: Choice, limit: int) -> Chosen:
    """Read the runs that are asked for, in the order they were named; None is the newest ones, oldest first.

    Raises:
        UsageError: a run is not there, or there is none at all, or the limit is negative.
        StoreError: there is no such store.
    """
    if limit < 0:
        raise UsageError(f"limit is {limit}; expected the number of runs, or 0 for all")
    is_cut, left_out = False, []
    if runs is None:
        found, is_cut = _newest(open_store(store), choice, limit)
    else:
        named = [_read(run, store) for run in _several(runs)]
        found = [one for one in named if _takes(choice, one)]
        taken = {one.run_id for one in found}
        left_out = [one.run_id for one in named if one.run_id not in taken]
    if not found:
        raise UsageError(f"{no_such_runs(open_store(store), choice)} - type: mlobs runs")
    return Chosen(list({one.run_id: one for one in found}.values()), is_cut, tuple(dict.fromkeys(left_out)))


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
    return choice == Choice() or choice.takes(RunSummary.of(record))
