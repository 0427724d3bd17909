"""Runs that nobody will end any more, and the end that they are given."""

from __future__ import annotations

from dataclasses import dataclass

from mlobs.delivery.state import States
from mlobs.journal.process import is_alive
from mlobs.journal.store import RunFolder
from mlobs.read.record import RunRecord, liveness, read_run
from mlobs.sender.endings import close_if_abandoned, end_as_lost


@dataclass(frozen=True)
class Repaired:
    """What became of one run, in words.

    `is_ended`: it has an end now; `had_ended`: it had one before; `is_refused`: it was named in vain.
    """

    folder: RunFolder
    words: str
    is_ended: bool = False
    had_ended: bool = False
    is_refused: bool = False


def repair(folder: RunFolder, *, is_named: bool = False, is_forced: bool = False) -> Repaired:
    """End a run if it is dead: its process is known to be gone, or its host gives no sign of life.

    A stale run is ended unasked only if a sender had been giving signs of life with it: a run without
    one is as silent as its training. `is_named` ends it all the same, and `is_forced` also one that
    gave a sign of life just now. A run whose process lives here is never ended. Repeating it does nothing.
    """
    record = read_run(folder, liveness())
    if record is None:
        return Repaired(folder, "nothing is recorded yet")
    if record.end is not None:
        return Repaired(folder, f"has ended: {record.status}", is_ended=True, had_ended=True)
    if close_if_abandoned(folder):
        return Repaired(folder, "ended as CRASHED: its process vanished", is_ended=True)
    start = record.start
    if start is not None and is_alive(start.process) is True:
        words = f"is being recorded by pid {start.process.pid} on this host - end that first, should it hang"
        return Repaired(folder, words, is_refused=is_named)
    return _of_another_host(record, is_named=is_named, is_forced=is_forced)


def _of_another_host(record: RunRecord, *, is_named: bool, is_forced: bool) -> Repaired:
    seen_by_sender = States(record.folder.delivery).refresh().seen_at
    if not record.is_stale and not (is_named and is_forced):
        words = f"may be running: {record.reason} - name it, with --force, to end it all the same"
        return Repaired(record.folder, words, is_refused=is_named)
    if not is_named and not seen_by_sender:
        words = f"{record.reason}: name it to end it, for no sender watched it, and a training may be silent"
        return Repaired(record.folder, words)
    silence = record.reason.partition(" - ")[0]
    assert record.last_seen is not None  # of a run without an end
    reason = f"process vanished: {silence}; ended by mlobs repair"
    end_as_lost(record.folder, record.last_seen.timestamp(), reason)
    return Repaired(record.folder, f"ended as CRASHED: {silence}", is_ended=True)
