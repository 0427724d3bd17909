"""Threads that drive couriers: one per backend, so that a slow one delays nobody."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from mlobs.backend import Backend
from mlobs.delivery.courier import Courier, Step
from mlobs.delivery.lane import Lane
from mlobs.journal.store import RunFolder

POLL_S = 0.25  # how long news may lie in the journal before an idle lane looks
GATHER_S = 1.0  # after a batch that was not full: fewer, larger batches cost everybody less
FAULT_S = 5.0  # after an error of our own (a full disk under the delivery state)

_log = logging.getLogger(__name__)


class LaneThread:
    """One backend's courier on a thread of its own."""

    def __init__(self, backend: Backend, sender_id: str) -> None:
        self.name = backend.name
        self._courier = Courier(backend, sender_id)
        self._orders: queue.SimpleQueue[Callable[[Courier], None]] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._is_flushing = self._is_final = False
        self._given = self._obeyed = 0
        self._drained_at = -1  # how many orders had been given when there was nothing left to send
        self._thread = threading.Thread(target=self._run, name=f"mlobs-lane-{backend.name}", daemon=True)
        self._thread.start()

    def add(self, folder: RunFolder) -> None:
        """Deliver this run too."""
        self._order(lambda courier: courier.add(folder))

    def drop(self, run_id: str) -> None:
        """Deliver nothing more of this run."""
        self._order(lambda courier: courier.drop(run_id))

    def is_complete(self, run_id: str) -> bool:
        """Tell whether the backend has answered for the run's end."""
        return self._courier.is_complete(run_id)

    def flush(self) -> None:
        """Send what there is at once, without gathering larger batches."""
        self._is_flushing = True
        self._wake.set()

    def finish(self) -> None:
        """Nothing more will be recorded: `is_drained` tells when all is sent."""
        self._is_final = True
        self.flush()

    def is_drained(self) -> bool:
        """Tell, after `finish`, whether there is nothing left to send."""
        return self._drained_at == self._given or not self._thread.is_alive()

    def stop(self) -> None:
        """Leave after the batch in hand; what is left stays for the next sender."""
        self._stopping.set()
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; False if it did not."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def lane(self) -> Lane:
        """The lane's state as it is now."""
        return self._courier.lane

    def _order(self, order: Callable[[Courier], None]) -> None:
        self._given += 1
        self._orders.put(order)
        self._wake.set()

    def _run(self) -> None:
        courier = self._courier
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                is_final = self._is_final
                while not self._orders.empty():
                    self._orders.get()(courier)
                    self._obeyed += 1
                step = self._step(courier)
                if step == "idle":
                    self._is_flushing = is_final
                if step == "idle" and is_final:
                    self._drained_at = self._obeyed
                self._wake.wait(self._pause_s(step, courier))
        finally:
            courier.close()

    def _step(self, courier: Courier) -> Step | None:
        try:
            return courier.step(is_final=self._is_final)
        except Exception:
            _log.exception("lane %s stumbled; it goes on in %s s", courier.backend.name, FAULT_S)
            return None

    def _pause_s(self, step: Step | None, courier: Courier) -> float:
        match step:
            case "more":
                return 0.0
            case "sent":
                return 0.0 if self._is_flushing else GATHER_S
            case "waiting":
                return max(courier.wait_s(), 0.01)
            case "idle":
                return POLL_S
            case _:
                return FAULT_S
