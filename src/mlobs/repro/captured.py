"""Runs whose snapshot may still be in the making: the sender finishes it after the program's end."""

from __future__ import annotations

import time

from mlobs.read.location import StoreLike
from mlobs.read.record import RunRecord, liveness, load_run, read_run
from mlobs.repro.entry import ENTRY
from mlobs.repro.recipe import root_of

CAPTURE_S = 60.0  # a repository of 100,000 files on a slow disk takes some 20 s
FRESH_S = 15.0  # a run that ended longer ago has all that it will ever have
LOOK_S = 0.1
_PARTS = {"code", "environment"}


def load_captured(run: str, store: StoreLike = None) -> RunRecord:
    """Read a run as `load_run` does; of one that has just ended, wait until its code is kept.

    It waits `FRESH_S` after the run's end at most, and not at all with `repro="off"`.

    Raises:
        UsageError: there is no such run, or more than one, or it has not recorded anything yet.
        StoreError: there is no such store.
    """
    record = load_run(run, store=store)
    if record.ended is None or ENTRY not in root_of(record).snapshots:
        return record
    return when_captured(record, record.ended.timestamp() + FRESH_S - time.time())


def when_captured(run: RunRecord, timeout_s: float = CAPTURE_S) -> RunRecord:
    """Read the run again once its program's snapshot is complete, or will not be any more."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if root_of(run).snapshots.keys() >= _PARTS:
            break
        time.sleep(LOOK_S)
        run = read_run(run.folder, liveness()) or run
    return run
