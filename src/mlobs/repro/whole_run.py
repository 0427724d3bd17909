"""Runs with the whole snapshot of their program: the sender, which steps behind it, may end it later."""

from __future__ import annotations

import time
from collections.abc import Callable

from mlobs.journal.store import Store
from mlobs.read.location import StoreLike
from mlobs.read.record import RunRecord, liveness, load_run, read_run
from mlobs.repro.entry import ENTRY
from mlobs.repro.recipe import root_of

CAPTURE_S = 60.0  # a sender is the last that a busy machine serves; alone it takes 0.5 s
_LOOK_S = 0.1
_OF_SENDER = frozenset({"code", "environment"})  # parts of the snapshot


def load_whole_run(run: str, store: StoreLike, tell: Callable[[str], None] | None = None) -> RunRecord:
    """Load a run; of one that has just ended wait until its snapshot is whole, for at most a minute.

    `tell` is told that it waits.

    Raises:
        UsageError: there is no such run.
        StoreError: there is no such store.
    """
    record = load_run(run, store=store)
    if tell is not None and record.end is not None and is_being_captured(root_of(record)):
        tell("waiting for the sender, which still captures what the run was made of")
    while record.end is not None and is_being_captured(root_of(record)):
        time.sleep(_LOOK_S)
        record = read_run(record.folder, liveness()) or record
    return record


def when_captured(run: RunRecord) -> RunRecord:
    """Read a run again once its program's snapshot is whole, for at most a minute from now."""
    until = time.monotonic() + CAPTURE_S
    while not root_of(run).snapshots.keys() >= _OF_SENDER and time.monotonic() < until:
        time.sleep(_LOOK_S)
        run = read_run(run.folder, liveness()) or run
    return run


def is_being_captured(root: RunRecord) -> bool:
    """Tell whether the sender of a run's program has yet to capture its code or environment.

    It keeps a file of that name open until it is done; of one that was killed the file stays, so that a
    minute after the run's last sign nobody waits for it.
    """
    if root.latest is None or ENTRY not in root.snapshots or root.snapshots.keys() >= _OF_SENDER:
        return False
    last_sign = root.end.at if root.end is not None else root.latest.at
    if time.time() - last_sign > CAPTURE_S:
        return False
    senders = Store(root.folder.store).senders
    return any(senders.glob(f"{root.latest.process.pid}-*.log"))
