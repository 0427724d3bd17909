"""The trainer's end of delivery: the sender's process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from mlobs.backend import Backend
from mlobs.delivery.orders import Flush, Hello, OpenRun, Order, RunEnded, to_line
from mlobs.delivery.registry import spec_of
from mlobs.journal import access
from mlobs.journal.process import this_process
from mlobs.journal.store import RunFolder, Store
from mlobs.spawning import import_path, spawn
from mlobs.troubles import log

MAX_STARTS = 3  # a sender that died so often will not live: `mlobs sync` does its work later
WAITS = "the rest waits in the store"


class Patience(NamedTuple):
    """How long a sender may take, in seconds: to go on after its program, and for one vendor's call."""

    linger_s: float
    hang_timeout_s: float

    def or_longer(self, other: Patience) -> Patience:
        """The longer of both, each."""
        return Patience(*map(max, self, other))


class Watch(NamedTuple):
    """What is recorded of the program beside what it logs.

    Its load every `sample_every_s` seconds, None: never; of its code and environment what the setting
    `repro` says.
    """

    sample_every_s: float | None = None
    repro: str = "off"

    @property
    def is_needed(self) -> bool:
        """Anything at all is."""
        return self.sample_every_s is not None or self.repro != "off"


UNWATCHED = Watch()


class Sending(Protocol):
    """What a run needs of delivery. No method waits for a backend.

    No method raises for what delivery lacks, such as another thread: the runs are recorded all the
    same, and that is said once.
    """

    def open(self, folder: RunFolder, backends: Sequence[Backend], watch: Watch = UNWATCHED) -> None:
        """Deliver this run to these backends from now on, and watch the program for it."""
        ...

    def ended(self, folder: RunFolder) -> None:
        """The end of this run is recorded."""
        ...

    def flush(self) -> None:
        """Somebody waits: send what there is at once."""
        ...

    def revive(self) -> bool:
        """Somebody still waits: start it again if it died; tell whether anything will be sent."""
        ...

    def allow(self, patience: Patience) -> None:
        """It may take so long; the largest word counts."""
        ...

    def outlook(self) -> str:
        """What will become of what is not delivered yet: a sentence that ends before the command to type."""
        ...

    def close(self, wait_s: float) -> None:
        """This program ends; a batch in hand may take `wait_s` more."""
        ...

    def forget(self) -> None:
        """After a fork, in the child: delivery is the parent's."""
        ...


class Setbacks:
    """What goes wrong where delivery is set up; it is said once, and costs no run its record."""

    def __init__(self, problem: str) -> None:
        self._problem, self._is_said = problem, False

    @contextlib.contextmanager
    def said(self) -> Iterator[None]:
        """Say what goes wrong inside, and go on behind it."""
        try:
            yield
        except Exception as error:
            if not self._is_said:
                reason = f"{self._problem} ({type(error).__name__}: {error})"
                log.warning("%s; runs are recorded, and `mlobs sync` delivers them", reason)
            self._is_said = True


class SenderProcess:
    """A process of its own, started with the first run; it outlives this one if it has to.

    It lives in a session of its own and writes its output to a file of the store, so neither the
    terminal's Ctrl-C nor a pipe on this program's output concerns it.
    """

    def __init__(self, store: Store, patience: Patience) -> None:
        self._store, self._patience = store, patience
        self._process: subprocess.Popen[bytes] | None = None
        self._sender_id, self._starts = "", 0
        self._setbacks = Setbacks("the sender cannot be started")
        self._backlog, self._pipe_identity = b"", (0, 0)
        self._opened: list[OpenRun] = []
        self._lock = threading.RLock()  # runs are opened and finished on any thread

    def open(self, folder: RunFolder, backends: Sequence[Backend], watch: Watch = UNWATCHED) -> None:
        """Tell the sender of this run; the first starts it."""
        with self._lock, self._setbacks.said():
            specs = tuple(spec_of(backend) for backend in backends)
            order = OpenRun(os.fsencode(folder.path), specs, watch.sample_every_s, watch.repro)
            self._opened.append(order)
            if not self.is_alive():
                self._start()  # tells it of this run too
            else:
                self._tell(order)

    def ended(self, folder: RunFolder) -> None:
        """Tell the sender; start another if it died, which captures what the first did not."""
        with self._lock, self._setbacks.said():
            if not self.is_alive():
                self._start()
            self._tell(RunEnded(os.fsencode(folder.path)))

    def flush(self) -> None:
        """Tell the sender that somebody waits; start another if it died."""
        with self._lock, self._setbacks.said():
            if not self.is_alive():
                self._start()
            self._tell(Flush())

    def revive(self) -> bool:
        """Start another sender if it died, so long as there is hope; tell it what it had no room for."""
        with self._lock, self._setbacks.said():
            if not self.is_alive():
                self.flush()
            else:
                self._push()
        return self.is_alive()

    def allow(self, patience: Patience) -> None:
        """Let the sender take so long, if that is longer than it may already."""
        with self._lock, self._setbacks.said():
            longer = self._patience.or_longer(patience)
            if longer != self._patience:
                self._patience = longer
                if self.is_alive():
                    self._tell(self._hello())

    def outlook(self) -> str:
        """Say how long the sender goes on."""
        if not self.is_alive():
            return WAITS
        linger_s = self._patience.linger_s
        return f"the sender goes on for up to {linger_s:g} s after this program; for what is left then"

    def is_alive(self) -> bool:
        """Tell whether the sender's process runs."""
        return self._process is not None and self._process.poll() is None

    def close(self, wait_s: float) -> None:  # noqa: ARG002 - it needs no time of this process
        """Let it go on by itself: it notices the end of this process."""
        self._push()
        if self._process is not None and self.is_alive():
            self._process.returncode = 0  # or `Popen` warns that somebody forgot to wait for it

    def forget(self) -> None:
        """After a fork, in the child: the life line is the parent's alone."""
        if self._process is not None:
            self._process.returncode = 0  # it is not this process's to wait for
        self._hang_up()

    def _start(self) -> None:
        if self._starts >= MAX_STARTS:
            return
        self._starts += 1
        self._hang_up()
        self._sender_id = f"{os.getpid()}-{os.urandom(4).hex()}"
        access.make_folder(self._store.senders)
        self._process = spawn(self._store.senders / f"{self._sender_id}.log")
        assert self._process.stdin is not None
        if hasattr(os, "set_blocking"):  # Windows has it from Python 3.12 on
            os.set_blocking(self._process.stdin.fileno(), False)  # a stopped sender must not stop us
        self._backlog, self._pipe_identity = b"", _identity(self._process.stdin.fileno())
        self._tell(self._hello())
        for order in self._opened:
            self._tell(order)

    def _hang_up(self) -> None:
        """Close this end of the pipe to the sender, which died or is another process's."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process = None

    def _tell(self, order: Order) -> None:
        """Write an order, or keep it for the next time if the pipe is full."""
        with self._lock:
            self._backlog += to_line(order)
            self._push()

    def _push(self) -> None:
        """Write as much as the pipe takes of what the sender was not told yet."""
        with self._lock:
            if not self._backlog or self._process is None or self._process.stdin is None:
                return
            pipe = self._process.stdin.fileno()
            try:
                if _identity(pipe) != self._pipe_identity:
                    return  # somebody closed it and opened another file there: orders hold secrets
                written = os.write(pipe, self._backlog)
            except OSError:
                return  # full: next time; broken: the sender died, and `flush` or `open` starts another
            self._backlog = self._backlog[written:]

    def _hello(self) -> Hello:
        linger_s, hang_timeout_s = self._patience
        return Hello(this_process(), self._sender_id, linger_s, import_path(), hang_timeout_s)


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
