"""Threads that drive couriers: one per backend, so that a slow one delays nobody."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time

from mlobs.backend import Backend
from mlobs.delivery.courier import Courier, Step
from mlobs.delivery.lane import Lane, describe
from mlobs.journal.store import RunFolder
from mlobs.sender.calls import Watched
from mlobs.sender.succession import Held

POLL_S = 0.25  # how long news may lie in the journal before an idle lane looks
GATHER_S = 1.0  # after a batch that was not full: fewer, larger batches cost everybody less
REST = 2.0  # times as long as a batch took, a lane rests behind it: beside a training that has all cores,
# a niced process that is always runnable still costs it 3 %; one that rests two thirds of the time, 1 %
MAX_REST_S = 5.0
FAULT_S = 5.0  # after an error of our own (a full disk under the delivery state)

_log = logging.getLogger(__name__)


class LaneThread:
    """One backend's courier on a thread of its own.

    Args:
        backend: used from this thread only.
        sender_id: unique to this lane.
        held: an earlier lane hung in this backend, which is left alone until then.
    """

    def __init__(self, backend: Backend, sender_id: str, held: Held | None = None) -> None:
        self.name = backend.name
        self._backend = Watched(backend)
        self._courier = Courier(self._backend, sender_id)
        if held is not None:
            self._courier.lane.hold_back(held.reason, time.time(), held.until, held.hangs)
        self._hung = ""  # what has not returned, as long as it has not
        self._lock = threading.Lock()
        self._orders: dict[str, RunFolder | None] = {}  # by run, the last word: deliver it, or drop it
        self._given = 0
        self._drained_at = -1  # how many orders had been given when there was nothing left to send
        self._fault = ""  # an error of our own, as long as it lasts
        self._wake = threading.Event()
        self._flush = threading.Event()
        self._stopping = threading.Event()
        self._is_flushing = False  # of the thread alone
        self._is_final = False
        self._thread = threading.Thread(target=self._run, name=f"mlobs-lane-{backend.name}", daemon=True)
        self._thread.start()

    def add(self, folder: RunFolder) -> None:
        """Deliver this run too."""
        self._order(folder.run_id, folder)

    def drop(self, run_id: str) -> None:
        """Deliver nothing more of this run; `holds` tells when it is so."""
        self._order(run_id, None)

    def holds(self, run_id: str) -> bool:
        """Tell whether this lane delivers the run, or is about to."""
        with self._lock:
            return run_id in self._orders or self._courier.holds(run_id)

    def is_complete(self, run_id: str) -> bool:
        """Tell whether the backend has answered for the run's end."""
        return self._courier.is_complete(run_id)

    def flush(self) -> None:
        """Send what there is at once, without gathering larger batches."""
        self._flush.set()
        self._wake.set()

    def finish(self) -> None:
        """Nothing more will be recorded: `is_drained` tells when all is sent."""
        self._is_final = True
        self.flush()

    def is_drained(self) -> bool:
        """Tell, after `finish`, whether there is nothing left to send."""
        return self._drained_at == self._given

    def stop(self) -> None:
        """Leave after the batch in hand; what is left stays for the next sender."""
        self._stopping.set()
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; False if it did not."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def has_returned(self) -> bool:
        """A call of this lane has returned, with or without an error."""
        return self._backend.has_returned

    @property
    def is_hung(self) -> bool:
        """A call was noted that has not returned, and still has not."""
        return self._hung != ""

    def note_hung(self, hang_timeout_s: float) -> str:
        """Say what the backend has not returned from in time, and write it down once; "" if it has."""
        overdue = self._backend.overdue(hang_timeout_s)
        if overdue and not self._hung:
            self._hung = overdue
            _log.error("lane %s hangs: %s", self.name, overdue)
            self._courier.tell_hung(overdue)
        return overdue

    def lane(self) -> Lane:
        """The lane as it is now; an error of our own counts as backing off."""
        lane = self._courier.lane
        if self._hung:
            return dataclasses.replace(lane, state="hung", reason=self._hung)
        if not self._thread.is_alive():
            return dataclasses.replace(lane, state="stopped", reason="its thread has ended")
        return dataclasses.replace(lane, state="backing off", reason=self._fault) if self._fault else lane

    def _order(self, run_id: str, folder: RunFolder | None) -> None:
        with self._lock:
            self._orders[run_id] = folder
            self._given += 1
        self._wake.set()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                self._wake.wait(self._turn(self._courier))
        finally:
            self._courier.close()

    def _turn(self, courier: Courier) -> float:
        """Obey, send a batch, and return how long there is to wait then, in seconds."""
        given, is_final = self._given, self._is_final
        if self._flush.is_set():
            self._flush.clear()  # before the step: who asks during it is heard in the next turn
            self._is_flushing = True
            courier.hurry()
        fault = self._obey(courier)
        started = time.monotonic()
        step: Step | None = None
        try:
            step = courier.step(is_final=is_final)
        except Exception as error:
            fault = self._stumbled(error)
        self._fault, self._hung = fault, ""
        if step == "idle":
            self._is_flushing = False
            if is_final and not fault:
                self._drained_at = given
        if fault and step in (None, "idle"):
            return FAULT_S
        return self._pause_s(step, courier, rest_s=min(MAX_REST_S, REST * (time.monotonic() - started)))

    def _obey(self, courier: Courier) -> str:
        """Take the runs that were given, and drop those that were taken back; return what went wrong.

        One that cannot be taken now is tried again at the next turn; the others do not wait for it.
        """
        fault = ""
        with self._lock:
            orders = dict(self._orders)
        for run_id, folder in orders.items():
            try:
                courier.drop(run_id) if folder is None else courier.add(folder)
            except Exception as error:
                fault = self._stumbled(error)
                continue
            with self._lock:
                if self._orders[run_id] is folder:
                    del self._orders[run_id]
        return fault

    def _stumbled(self, error: Exception) -> str:
        fault = describe(error)
        if fault != self._fault:
            _log.error("lane %s stumbled; it goes on in %s s", self.name, FAULT_S, exc_info=error)
        return fault

    def _pause_s(self, step: Step | None, courier: Courier, *, rest_s: float) -> float:
        """Seconds to wait behind a step; while somebody waits for delivery, none behind a batch."""
        is_hurried = self._is_flushing or self._is_final
        match step:
            case "more":
                return 0.0 if is_hurried else rest_s
            case "sent":
                return 0.0 if is_hurried else max(GATHER_S, rest_s)
            case "waiting":
                return max(courier.wait_s(), 0.01)
            case _:
                return POLL_S
