"""System metrics: a thread that samples the load of one program for its runs.

It is a thread of its own because a driver or a network file system may not answer: then samples
stop, and delivery goes on. The thread is the sender's, or the program's with `delivery="thread"`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mlobs.events import Process
from mlobs.journal.process import is_alive
from mlobs.journal.store import RunFolder
from mlobs.names import SYSTEM_PREFIX
from mlobs.sender.load import Reading, values_between
from mlobs.sender.meter import Failure, Meter
from mlobs.sender.samples import Samples, samples_of

FIRST_S = 1.0  # the first sample comes so soon, or short runs would have none
STOP_S = 1.0
OVERDUE_S = 60.0  # a reading takes milliseconds
FAILED = f"{SYSTEM_PREFIX}failed_readings"

_log = logging.getLogger(__name__)
_Read = Callable[[], tuple[Reading, list[Failure]]]


@dataclass
class _Sampled:
    """A run that is sampled: how often, when next (monotonic clock), and since when."""

    samples: Samples
    every_s: float
    due_at: float
    before: Reading
    failed: int = 0
    said: set[tuple[str, str]] = field(default_factory=set)


class Sampler:
    """Records the load of `program` into each of its open runs that was given to `open`.

    What goes wrong is said once, in the run and in the log, and counted; it ends nothing.
    """

    def __init__(self, program: Process) -> None:
        self._program = program
        self._read: _Read | None = None
        self._runs: dict[Path, _Sampled] = {}  # of the thread alone
        self._orders: list[tuple[RunFolder, float]] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread: threading.Thread | None = None
        self._busy_since: float | None = None
        self._complained: set[str] = set()

    def open(self, folder: RunFolder, every_s: float) -> None:
        """Sample the program for this run, from now on to its end, every `every_s` seconds."""
        with self._lock:
            self._orders.append((folder, every_s))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mlobs-system", daemon=True)
                self._thread.start()
        self._wake.set()

    def note_hung(self) -> None:
        """Say once that a reading does not return; what it hangs in, nobody can end."""
        since = self._busy_since  # the thread may end it at any moment
        if since is not None and time.monotonic() - since > OVERDUE_S:
            self._complain(f"a reading of the load has not returned for {OVERDUE_S:g} s; samples wait for it")

    def stop(self, wait_s: float = STOP_S) -> None:
        """Record nothing more; a reading in hand is waited for so long, and then dropped."""
        self._is_stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(wait_s)

    def _run(self) -> None:
        while not self._is_stopping:
            self._wake.clear()
            self._busy_since = time.monotonic()
            try:
                self._take_orders()
                self._sample(time.monotonic())
            except Exception:
                _log.exception("system metrics: no sample was taken")
            self._busy_since = None
            self._wake.wait(self._pause_s())
        self._leave_all()

    def _pause_s(self) -> float | None:
        due_at = min((run.due_at for run in self._runs.values()), default=None)
        return None if due_at is None else max(0.0, due_at - time.monotonic())

    def _take_orders(self) -> None:
        with self._lock:
            orders, self._orders = self._orders, []
        for folder, every_s in orders:
            try:
                self._begin(folder, every_s)
            except Exception as error:
                self._complain(f"run {folder.run_id} gets no system metrics: {error!r}")

    def _begin(self, folder: RunFolder, every_s: float) -> None:
        if self._read is None:
            self._read = Meter(self._program.pid, folder.store).read
        before, _ = self._read()  # the first sample says what failed
        samples = samples_of(folder, self._program)
        if samples is not None:
            self._leave(folder.path)  # the same program goes on with a run of its own
            due_at = before.at_s + min(FIRST_S, every_s)
            self._runs[folder.path] = _Sampled(samples, every_s, due_at, before)

    def _sample(self, now: float) -> None:
        due = {path: run for path, run in self._runs.items() if run.due_at <= now}
        if not due or self._read is None:
            return
        for run in due.values():
            run.due_at = max(run.due_at + run.every_s, now + run.every_s / 2)  # the machine may have slept
        at = time.time()
        try:
            reading, failures = self._read()
        except ProcessLookupError:
            self._leave_all()
            return
        if is_alive(self._program) is False:
            self._leave_all()
            return
        for path, run in due.items():
            try:
                self._record(path, run, at, reading, failures)
            except FileNotFoundError:
                self._leave(path)  # somebody deleted the run
            except Exception as error:
                run.failed += 1
                self._complain(f"a sample was not recorded: {error!r}")

    def _record(
        self, path: Path, run: _Sampled, at: float, reading: Reading, failures: list[Failure]
    ) -> None:
        if run.samples.has_ended():
            self._leave(path)
        if self._is_stopping or path not in self._runs:
            return
        run.failed += len(failures)
        for failure in failures:
            self._say(run, at, failure)
        values = values_between(run.before, reading)
        run.before = reading
        if run.failed:
            values[FAILED] = float(run.failed)
        run.samples.add(at, values)

    def _say(self, run: _Sampled, at: float, failure: Failure) -> None:
        """Say what failed, once for each part and type of error: the words may differ each time."""
        if (failure.part, failure.error) not in run.said:
            run.said.add((failure.part, failure.error))
            message = f"system metrics: {failure.part} could not be read: {failure.error}: {failure.reason}"
            self._complain(message)
            run.samples.say(at, message)

    def _leave_all(self) -> None:
        for path in list(self._runs):
            self._leave(path)

    def _leave(self, path: Path) -> None:
        run = self._runs.pop(path, None)
        if run is not None:
            run.samples.close()

    def _complain(self, message: str) -> None:
        if message not in self._complained:
            self._complained.add(message)
            _log.warning("%s", message)
