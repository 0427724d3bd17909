"""The lanes of one program: which runs go to which backends, and when everything has gone."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlobs.backend import Backend
from mlobs.delivery.claim import Claim
from mlobs.delivery.lane import Lane, describe
from mlobs.delivery.state import StateWriter
from mlobs.journal.store import RunFolder
from mlobs.sender.descriptors import room_for_runs
from mlobs.sender.disk import Disk
from mlobs.sender.endings import close_if_abandoned, trim
from mlobs.sender.lanes import LaneThread
from mlobs.sender.succession import Held
from mlobs.sender.vitals import vitals

JOIN_S = 5.0  # a lane that is asked to stop has this long to finish its batch
KEPT_RUNS = 64  # complete runs are kept open for late events of other writers; each holds a descriptor
LEAVE_LOOK_S = 0.01
KEEP_S = 2.0  # thousands of runs take a disk many seconds: orders and the watchdog wait no longer

_log = logging.getLogger(__name__)


@dataclass
class _Run:
    """A run that this host delivers (`is_taken`), waits to deliver, or is done with (`is_dropped`)."""

    folder: RunFolder
    lanes: tuple[LaneThread, ...]
    claim: Claim | None = None
    is_taken: bool = False
    is_dropped: bool = False


class Host:
    """Runs one lane thread per backend. All methods are called from one thread.

    A backend is known by a key: the same key is the same backend, and one lane, whatever runs and
    trackers name it. A run that cannot be claimed now (another sender has it, there are too many)
    waits for its turn; complete ones make room. What goes wrong with one run stops no other.

    Args:
        most_runs: so many are delivered at a time; each holds a descriptor.
        is_durable: runs are forced onto the disk before they are released; this takes milliseconds.
        held: lanes to be held back for a while, by the backend's key.
    """

    def __init__(
        self,
        sender_id: str,
        *,
        most_runs: int | None = None,
        is_durable: bool = False,
        held: Mapping[str, Held] | None = None,
    ) -> None:
        self._sender_id, self._is_durable = sender_id, is_durable
        self._held = held or {}
        self._most_runs = most_runs or room_for_runs()
        self._lanes: dict[str, LaneThread] = {}
        self._runs: dict[Path, _Run] = {}
        self._disk = Disk()
        self._unkept: deque[Path] = deque()  # whose turn it is to be forced onto the disk
        self._is_lingering = self._ends_abandoned = False
        self._complained: set[tuple[Path, str]] = set()

    def open(self, folder: RunFolder, backends: Mapping[str, Backend], claim: Claim | None = None) -> None:
        """Deliver a run to these backends, as soon as no other sender on this host does.

        `claim`: the caller has acquired it; the host releases it.
        """
        for key, backend in backends.items():
            if key not in self._lanes:
                lane_id = f"{self._sender_id}.{len(self._lanes)}"
                self._lanes[key] = LaneThread(backend, lane_id, self._held.get(key))
        lanes = [self._lanes[key] for key in backends]
        before = self._runs.get(folder.path)
        if before is not None:  # the run was gone on with in the same program
            lanes += before.lanes
            claim = claim or before.claim
        self._runs[folder.path] = _Run(folder, tuple(dict.fromkeys(lanes)), claim)
        self.claim_waiting()

    def claim_waiting(self) -> bool:
        """Take the runs that another sender has left meanwhile; True when there are none left to take."""
        self._let_go_of_complete_runs()
        waiting = [run for run in self._runs.values() if not run.is_taken]
        room = self._most_runs - (len(self._runs) - len(waiting))
        for run in waiting:
            if room > 0 or run.claim is not None:
                room -= self._attempt(run, self._take)
        for run in self._taken():
            self._attempt(run, _renew)
        return all(run.is_taken for run in waiting)

    def flush(self) -> None:
        """Send what there is at once, without gathering larger batches."""
        for lane in self._lanes.values():
            lane.flush()

    def keep_on_disk(self, for_s: float = KEEP_S) -> bool:
        """Force what the runs' writers have recorded so far onto the disk itself (fsync); True when done.

        After `for_s` it stops behind a run, and the next call goes on there.
        """
        deadline = time.monotonic() + for_s
        self._unkept = self._unkept or deque(self._runs)
        while self._unkept:
            run = self._runs.get(self._unkept.popleft())
            if run is not None:
                self._disk.keep(run.folder)
            if time.monotonic() >= deadline:
                break
        return not self._unkept

    def end_abandoned(self) -> None:
        """Record the end of the runs whose process is gone and did not, also of those taken later."""
        self._ends_abandoned = True
        for run in self._taken():
            self._attempt(run, _end_if_abandoned)

    def finish(self) -> None:
        """Nothing more will be recorded: send the rest."""
        for lane in self._lanes.values():
            lane.finish()

    def is_drained(self) -> bool:
        """Tell, after `finish`, whether everything has been sent."""
        return self.claim_waiting() and all(lane.is_drained() for lane in self._lanes.values())

    def open_lanes(self) -> dict[str, Lane]:
        """After `finish`: the lanes that still have something to send, by their backend's name."""
        return {lane.name: lane.lane() for lane in self._lanes.values() if not lane.is_drained()}

    def hung(self, hang_timeout_s: float) -> dict[str, str]:
        """The lanes whose call has not returned in time, by key, and what it was; each is written down."""
        overdue = {key: lane.note_hung(hang_timeout_s) for key, lane in self._lanes.items()}
        return {key: reason for key, reason in overdue.items() if reason}

    def has_returned(self, key: str) -> bool:
        """Tell whether a call of this backend has returned here, with or without an error."""
        return key in self._lanes and self._lanes[key].has_returned

    def holds(self, folder: Path) -> bool:
        """Tell whether the run in this folder was opened and not released yet."""
        return folder in self._runs

    def beat(self) -> None:
        """Leave a sign of life with every run that is not complete yet."""
        for run in self._taken():
            if not all(lane.is_complete(run.folder.run_id) for lane in run.lanes):
                self._attempt(run, self._leave_vitals)

    def announce_lingering(self) -> None:
        """Let others who want these runs know that they may ask for them."""
        self._is_lingering = True
        for run in self._taken():
            self._attempt(run, _describe_lingering)

    def leave(self, wait_s: float = JOIN_S) -> bool:
        """Deliver nothing more of the runs so far and release them; False if a lane is still at work.

        Its run is then released by a later look.
        """
        for run in self._runs.values():
            self._drop(run)
        deadline = time.monotonic() + wait_s
        while not self._release_dropped_runs() and time.monotonic() < deadline:
            time.sleep(LEAVE_LOOK_S)
        return not self._runs

    def forget(self) -> None:
        """After a fork, in the child: let go of the inherited claims, which stay the parent's."""
        for run in self._runs.values():
            if run.claim is not None:
                run.claim.release()

    def close(self, wait_s: float = JOIN_S, *, with_trim: bool = False) -> bool:
        """Stop the lanes after their batch in hand and release the runs; False if one takes longer."""
        for lane in self._lanes.values():
            lane.stop()
        deadline = time.monotonic() + wait_s
        stopped = [lane.join(_left_s(deadline, lane)) for lane in self._lanes.values()]
        for run in self._taken():
            if self._is_durable:
                self._attempt(run, self._leave_vitals)
            if with_trim:
                self._attempt(run, _trim)
            _release(run)
        return all(stopped)

    def _taken(self) -> list[_Run]:
        return [run for run in self._runs.values() if run.is_taken]

    def _take(self, run: _Run) -> bool:
        run.claim = run.claim or Claim(run.folder.delivery)
        if not run.claim.acquire():
            run.claim = None
            return False
        if self._is_lingering:
            _describe_lingering(run)
        if self._ends_abandoned:
            self._attempt(run, _end_if_abandoned)
        for lane in run.lanes:
            lane.add(run.folder)
        run.is_taken = True
        return True

    def _leave_vitals(self, run: _Run) -> None:
        StateWriter(run.folder.delivery, f"{self._sender_id}-vitals").append(vitals())

    def _let_go_of_complete_runs(self) -> None:
        """Release the oldest runs whose end every backend has: a sweep has thousands."""
        taken = self._taken()
        for run in taken[: max(0, len(taken) - min(KEPT_RUNS, self._most_runs // 2))]:
            if all(lane.is_complete(run.folder.run_id) for lane in run.lanes):
                self._drop(run)
        self._release_dropped_runs()

    def _drop(self, run: _Run) -> None:
        if not run.is_dropped:
            run.is_dropped = True
            for lane in run.lanes:
                lane.drop(run.folder.run_id)

    def _release_dropped_runs(self) -> bool:
        """Release those that no lane delivers any more; True when none is left."""
        dropped = [run for run in self._runs.values() if run.is_dropped]
        gone = [run for run in dropped if not any(lane.holds(run.folder.run_id) for lane in run.lanes)]
        for run in gone:
            del self._runs[run.folder.path]
            if run.is_taken and self._is_durable:
                self._attempt(run, self._leave_vitals)
                self._disk.keep(run.folder)
            if run.is_taken:
                self._attempt(run, _trim)
            self._disk.forget(run.folder)
            _release(run)
        return len(gone) == len(dropped)

    def _attempt(self, run: _Run, do: Callable[[_Run], bool | None]) -> bool:
        """Do something for one run; what goes wrong is logged once, and is False."""
        try:
            return bool(do(run))
        except Exception as error:
            complaint = (run.folder.path, describe(error))
            if complaint not in self._complained:
                self._complained.add(complaint)
                _log.exception("run %s: it is tried again", run.folder.run_id)
            return False


def _left_s(deadline: float, lane: LaneThread) -> float:
    return 0.0 if lane.is_hung else max(0.0, deadline - time.monotonic())


def _renew(run: _Run) -> None:
    assert run.claim is not None
    run.claim.renew()


def _describe_lingering(run: _Run) -> None:
    assert run.claim is not None
    run.claim.describe(is_lingering=True)


def _end_if_abandoned(run: _Run) -> None:
    if close_if_abandoned(run.folder):
        _log.info("run %s: its process vanished", run.folder.run_id)


def _trim(run: _Run) -> None:
    trim(run.folder)


def _release(run: _Run) -> None:
    if run.claim is not None:
        run.claim.release()
