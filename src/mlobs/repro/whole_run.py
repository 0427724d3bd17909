"""Runs with the whole snapshot of their program: the sender, which steps behind it, may end it later."""

from __future__ import annotations

import time
from collections.abc import Callable

from mlobs.events import Tags
from mlobs.journal.locks import is_locked
from mlobs.journal.store import RunFolder, Store
from mlobs.read.location import StoreLike
from mlobs.read.record import RunRecord, liveness, load_run, read_run
from mlobs.repro.entry import ENTRY
from mlobs.repro.parts import root_of
from mlobs.repro.recipe import MACHINE_TAG, is_named, recipe_tags

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
    return record if record.end is None else when_captured(record, tell)


def wait_until_whole(folder: RunFolder, tell: Callable[[str], None] | None = None) -> None:
    """Wait likewise for the snapshot of a run that has just ended; others cost a look at two folders."""
    if any(Store(folder.store).senders.glob("*.log")) and _age_s(folder) < CAPTURE_S:
        record = read_run(folder, liveness())
        if record is not None and record.end is not None:
            when_captured(record, tell)


def when_captured(run: RunRecord, tell: Callable[[str], None] | None = None) -> RunRecord:
    """Read a run again once its program's snapshot is whole, at most a minute after the last sign of it."""
    if tell is not None and is_being_captured(run):
        tell(f"waiting for the sender, which still captures what run {run.run_id} was made of")
    while is_being_captured(run):
        time.sleep(_LOOK_S)
        run = read_run(run.folder, liveness()) or run
    return run


def is_being_captured(record: RunRecord) -> bool:
    """Tell whether a sender has yet to record what a run was made of: code, environment, or the recipe.

    It keeps a file of its name locked until it is done. Where there are no locks, the file of one that was
    killed stays, so that a minute after the last sign of the run's program nobody waits for it.
    """
    root = root_of(record)
    if root.latest is None or not _is_of_latest(root, ENTRY):
        return False
    age_s = time.time() - root.end.at if root.end is not None else _age_s(root.folder)
    if age_s > CAPTURE_S:
        return False
    outputs = Store(root.folder.store).senders.glob(f"{root.latest.process.pid}-*.log")
    if all(is_locked(output) is False for output in outputs):
        return False
    return not all(_is_of_latest(root, part) for part in _OF_SENDER) or _is_unnamed(root)


def _is_of_latest(root: RunRecord, part: str) -> bool:
    """Tell whether a part of the snapshot was taken since the run was opened last."""
    one = root.snapshots.get(part)
    return one is not None and root.latest is not None and one.at >= root.latest.at


def _is_unnamed(root: RunRecord) -> bool:
    """Tell whether the last word on a run that has ended, and on those below it, is missing: its recipe.

    One that was resumed has the word of the attempt before.
    """
    if root.end is None or root.latest is None or recipe_tags(root) is None:
        return False
    if root.latest.attempt == 1 or not is_named(root):
        return not is_named(root)
    said = (one for one in root.events() if isinstance(one, Tags) and MACHINE_TAG in one.values)
    return all(one.at < root.latest.at for one in said)


def _age_s(folder: RunFolder) -> float:
    """Seconds since somebody wrote into a run's journals."""
    return time.time() - max((path.stat().st_mtime for path in folder.journals()), default=0.0)
