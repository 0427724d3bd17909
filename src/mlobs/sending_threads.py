"""The trainer's end of delivery where there is no process: its lanes in threads of this one."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from mlobs.backend import Backend
from mlobs.journal.process import this_process
from mlobs.journal.store import RunFolder
from mlobs.sending import UNWATCHED, WAITS, Patience, Setbacks, Watch

LAST_READING_S = 1.0  # of the load; it takes milliseconds, or for ever where a driver hangs
LAST_CAPTURE_S = 10.0  # of code and environment; it takes 0.5 s, and nobody can do it later


class SenderThread:
    """The same lanes in threads of this process: live objects, or no process may be started."""

    def __init__(self, patience: Patience) -> None:
        from mlobs.sender.capturer import Capturer
        from mlobs.sender.host import Host
        from mlobs.sender.sampler import Sampler

        self._patience = patience
        self._sampler = Sampler(this_process())
        self._capturer = Capturer(this_process())
        self._host = Host(f"{os.getpid()}-{os.urandom(4).hex()}")
        self._setbacks = Setbacks("the threads of delivery cannot be started")
        self._unopened: list[tuple[RunFolder, dict[str, Backend]]] = []
        self._lock = threading.RLock()  # runs are opened and finished on any thread

    def open(self, folder: RunFolder, backends: Sequence[Backend], watch: Watch = UNWATCHED) -> None:
        """Start the lanes of these very objects, if need be, and give them the run."""
        with self._lock:
            with self._setbacks.said():
                if watch.sample_every_s is not None:
                    self._sampler.open(folder, watch.sample_every_s)
                if watch.repro != "off":
                    self._capturer.open(folder, watch.repro)
            if not backends:
                return
            self._unopened.append((folder, {str(id(backend)): backend for backend in backends}))
            self._open_all()

    def ended(self, folder: RunFolder) -> None:
        """Have what the run was made of put together."""
        with self._setbacks.said():
            self._capturer.ended(folder)

    def flush(self) -> None:
        """Make the lanes send at once."""
        with self._lock, self._setbacks.said():
            self._open_all()
            self._host.claim_waiting()
            self._host.flush()

    def revive(self) -> bool:
        """The lanes live as long as this process, if they could be started; say which hang."""
        with self._lock, self._setbacks.said():
            self._host.hung(self._patience.hang_timeout_s)
        return not self._unopened

    def allow(self, patience: Patience) -> None:
        """Let a call take so long; threads do not outlive this process."""
        self._patience = self._patience.or_longer(patience)

    def outlook(self) -> str:
        """Say that the threads end with this program, which holds the runs until then."""
        return f"{WAITS}; when this program has ended"

    def close(self, wait_s: float) -> None:
        """Stop the lanes; what is left waits in the store."""
        with self._lock:
            self._sampler.stop(min(wait_s, LAST_READING_S))
            self._capturer.finish(max(wait_s, LAST_CAPTURE_S))
            self._host.close(wait_s)

    def forget(self) -> None:
        """After a fork, in the child: threads are not inherited, and the claims are the parent's."""
        self._host.forget()

    def _open_all(self) -> None:
        """Give the lanes the runs that they have not; a setback leaves them for the next time."""
        with self._setbacks.said():
            while self._unopened:
                self._host.open(*self._unopened[0])
                del self._unopened[0]
