"""The tracked program: this process's open runs, its sender, and its one budget for finishing."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import Any, Literal, NamedTuple, Protocol

from mlobs.events import Status
from mlobs.finishing import Budget
from mlobs.journal.store import Store
from mlobs.sending import Patience, SenderProcess, Sending
from mlobs.sending_threads import SenderThread


class Ending(NamedTuple):
    """How a run ends: what `RunFinished` records of it. `reason` is one sentence."""

    status: Status
    reason: str = ""
    traceback: str | None = None
    exit_code: int | None = None


FINISHED = Ending("FINISHED")


class OpenRun(Protocol):
    """What the program does to its runs when it ends.

    `face` is what its users hold of the run, `thread` is where it was opened. `is_apart`: it is
    current nowhere but where it was opened. `noted` is how it ends if nobody says otherwise.
    """

    face: Any
    thread: threading.Thread
    is_apart: bool
    noted: Ending

    @property
    def is_child(self) -> bool:
        """The run was opened below another."""
        ...

    @property
    def is_open(self) -> bool:
        """Nobody has ended the run yet."""
        ...

    def end(self, ending: Ending) -> None:
        """Record the end, at once, without waiting for anyone. Repeating it does nothing."""
        ...

    def close(self, ending: Ending = FINISHED, *, waits: bool = True) -> None:
        """Record the end, if need be, and wait for delivery within the budget, now or with the program."""
        ...

    def note(self, ending: Ending) -> None:
        """The program is about to end in this way, unless it goes on recording."""
        ...


class Wait(Protocol):
    """What the end of the program waits for: that the backends have a run that ended before."""

    def now(self) -> None:
        """Wait within the budget, and say what is where."""
        ...

    def is_over(self) -> bool:
        """There is nothing left to wait for."""
        ...


class Program:
    """One per process; forked children begin with an empty one.

    `signal` names the signal that an earlier handler was called for, if one was: should the program
    end by an exception from there, that is why.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.signal: str | None = None
        self.runs: dict[str, OpenRun] = {}
        self.budget = Budget()
        self.numbers = count(1)  # of the runs that this process opens
        self._senders: dict[str, Sending] = {}
        self._lock = threading.RLock()
        self._is_over = False
        self._later: deque[Wait] = deque()
        self._catching_up = threading.Lock()

    def sending(self, delivery: Literal["process", "thread"], store: Store, patience: Patience) -> Sending:
        """The one sender of this program for this way of delivery; made, not started."""
        with self._lock:
            if delivery not in self._senders:
                is_process = delivery == "process"
                made = SenderProcess(store, patience) if is_process else SenderThread(patience)
                self._senders[delivery] = made
            self._senders[delivery].allow(patience)
            return self._senders[delivery]

    @contextlib.contextmanager
    def leaving(self) -> Iterator[None]:
        """Whoever interrupts what happens inside, as by Ctrl-C, wants to leave: no wait follows."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            self.budget.end()
            raise

    def note_exit(self, ending: Ending) -> None:
        """Somebody called `sys.exit`, which means this, unless the program catches it and goes on."""
        for run in list(self.runs.values()):
            run.note(ending)
        atexit.unregister(self._reach_end)
        atexit.register(self._reach_end)  # before all other hooks: what they record is no sign of going on

    def goes_on(self) -> bool:
        """Tell whether this is a place that a program does not come to on the way out of `sys.exit`.

        Such are: the main thread, outside of what handles the exit and of exit hooks.
        """
        if self._is_over or threading.current_thread() is not threading.main_thread():
            return False
        error, seen = sys.exc_info()[1], set[int]()
        while error is not None and id(error) not in seen:
            if isinstance(error, SystemExit):
                return False
            seen.add(id(error))  # somebody may have tied them into a circle
            error = error.__context__
        return True

    def _reach_end(self) -> None:
        self._is_over = True

    def wait_later(self, wait: Wait) -> None:
        """Leave a wait to the end of the program.

        The oldest ones are done with once they are over: a service may end runs for months.
        """
        over = []
        with self._lock:
            while self._later and self._later[0].is_over():
                over.append(self._later.popleft())
            self._later.append(wait)
        for one in over:
            one.now()

    def catch_up(self) -> None:
        """Wait for what was left for later; one thread does: two would spend the budget twice as fast."""
        while self._later and self._catching_up.acquire(blocking=False):
            try:
                while (wait := self._next_wait()) is not None:
                    wait.now()
            finally:
                self._catching_up.release()

    def _next_wait(self) -> Wait | None:
        with self._lock:
            return self._later.popleft() if self._later else None

    def end_all(self, ending: Ending, *, opened_in: threading.Thread | None = None) -> None:
        """Record the end of every open run, or of those that a thread opened, without waiting."""
        for run in list(self.runs.values()):
            if opened_in in (None, run.thread):
                run.end(ending)

    def exit(self) -> None:
        """The interpreter exits in good order: finish what is still open, and wait within the budget."""
        if os.getpid() != self.pid:
            return
        for run in reversed(list(self.runs.values())):  # who waits for its children comes after them
            run.close(run.noted)
        while (wait := self._next_wait()) is not None:
            with contextlib.suppress(KeyboardInterrupt), self.leaving():  # the others say what they lack
                wait.now()
        for sending in self._senders.values():
            sending.close(self.budget.left_s())


_program = Program()


def program() -> Program:
    """This process's program."""
    return _program


def _after_fork_in_child() -> None:
    global _program  # noqa: PLW0603 - the child is another program
    for sending in _program._senders.values():  # noqa: SLF001 - the module's own
        sending.forget()
    _program = Program()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
