"""Runs with the whole snapshot of their program: the sender, which steps behind it, may end it later."""

from __future__ import annotations

import time
from collections.abc import Callable

from mlobs.journal.store import RunFolder, Store
from mlobs.read.location import StoreLike
from mlobs.read.record import RunRecord, liveness, load_run, read_run
from mlobs.repro.entry import ENTRY
from mlobs.repro.recipe import recipe_tags, root_of

CAPTURE_S = 60.0  # a sender is the last that a busy machine serves; alone it takes 0.5 s
_LOOK_S = 0.1
_OF_SENDER = frozenset({"code", "environment"})  # parts of the snapshot
_WAITING = "waiting for the sender, which still captures what the run was made of"


def load_whole_run(run: str, store: StoreLike, tell: Callable[[str], None] | None = None) -> RunRecord:
    """Load a run; of one that has just ended wait until its snapshot is whole, for at most a minute.

    `tell` is told that it waits.

    Raises:
        UsageError: there is no such run.
        StoreError: there is no such store.
    """
    return _when_whole(load_run(run, store=store), tell)


def wait_until_whole(folder: RunFolder, tell: Callable[[str], None] | None = None) -> None:
    """Wait likewise for the snapshot of a run that has just ended; others cost a look at two folders."""
    if any(Store(folder.store).senders.glob("*.log")) and _age_s(folder) < CAPTURE_S:
        record = read_run(folder, liveness())
        if record is not None:
            _when_whole(record, tell)


def when_captured(run: RunRecord) -> RunRecord:
    """Read a run again once its program's snapshot is whole, for at most a minute from now."""
    until = time.monotonic() + CAPTURE_S
    while not root_of(run).snapshots.keys() >= _OF_SENDER and time.monotonic() < until:
        time.sleep(_LOOK_S)
        run = read_run(run.folder, liveness()) or run
    return run


def is_being_captured(record: RunRecord) -> bool:
    """Tell whether a sender has yet to record what a run was made of: code, environment, or the recipe.

    It keeps a file of its name open until it is done; of one that was killed the file stays, so that a
    minute after the last sign of the run's program nobody waits for it.
    """
    root = root_of(record)
    if root.latest is None or not _is_of_latest(root, ENTRY):
        return False
    last_sign = root.end.at if root.end is not None else root.latest.at
    if time.time() - last_sign > CAPTURE_S:
        return False
    if not any(Store(root.folder.store).senders.glob(f"{root.latest.process.pid}-*.log")):
        return False
    return not all(_is_of_latest(root, part) for part in _OF_SENDER) or _is_without_recipe(record, root)


def _when_whole(record: RunRecord, tell: Callable[[str], None] | None) -> RunRecord:
    if record.end is None or not is_being_captured(record):
        return record
    if tell is not None:
        tell(_WAITING)
    while record.end is not None and is_being_captured(record):
        time.sleep(_LOOK_S)
        record = read_run(record.folder, liveness()) or record
    return record


def _is_of_latest(root: RunRecord, part: str) -> bool:
    """Tell whether a part of the snapshot was taken since the run was opened last."""
    one = root.snapshots.get(part)
    return one is not None and root.latest is not None and one.at >= root.latest.at


def _is_without_recipe(record: RunRecord, root: RunRecord) -> bool:
    """Tell whether the last word on a run that has ended is missing: the tags that name its recipe."""
    if record.end is None or root.end is None:
        return False
    expected = recipe_tags(record, root)
    return expected is not None and not record.tags.items() >= expected.values.items()


def _age_s(folder: RunFolder) -> float:
    """Seconds since somebody wrote into a run's journals."""
    return time.time() - max((path.stat().st_mtime for path in folder.journals()), default=0.0)
