"""The tracked program: this process's open runs, its sender, and its one budget for finishing."""

from __future__ import annotations

import os
import threading
from typing import Literal, Protocol

from mlobs.events import Status
from mlobs.finishing import Budget
from mlobs.journal.store import Store
from mlobs.sending import SenderProcess, SenderThread, Sending


class OpenRun(Protocol):
    """What the program does to its runs when it ends."""

    parent_id: str | None

    @property
    def is_open(self) -> bool:
        """Nobody has ended the run yet."""
        ...

    def end(self, status: Status, reason: str = "", *, traceback: str | None = None) -> None:
        """Record the end, at once, without waiting for anyone. Repeating it does nothing."""
        ...

    def finish(self) -> None:
        """Record the end, if need be, and wait for delivery within the budget."""
        ...

    def mark(self) -> int:
        """A number that grows with every recorded event."""
        ...


class Program:
    """One per process; forked children begin with an empty one.

    `signal` names the signal that an earlier handler was called for, if one was: should the program
    end by an exception from there, that is why.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.signal: str | None = None
        self.exit_note: tuple[Status, str, dict[str, int]] | None = None
        self.runs: dict[str, OpenRun] = {}
        self.budget: Budget | None = None
        self._senders: dict[str, Sending] = {}
        self._lock = threading.RLock()

    def sending(self, delivery: Literal["process", "thread"], store: Store, linger_s: float) -> Sending:
        """The one sender of this program for this way of delivery; made, not started."""
        with self._lock:
            if delivery not in self._senders:
                is_process = delivery == "process"
                self._senders[delivery] = SenderProcess(store, linger_s) if is_process else SenderThread()
            return self._senders[delivery]

    def budget_of(self, finish_timeout_s: float) -> Budget:
        """The budget of this process; the first tracker's setting holds."""
        if self.budget is None:
            self.budget = Budget(finish_timeout_s)
        return self.budget

    def note_exit(self, status: Status, reason: str) -> None:
        """Somebody called `sys.exit`, which means this; it counts if nothing more is recorded afterwards."""
        self.exit_note = (status, reason, {run_id: run.mark() for run_id, run in self.runs.items()})

    def end_all(self, status: Status, reason: str, *, traceback: str | None = None) -> None:
        """Record the end of every open run, without waiting."""
        for run in list(self.runs.values()):
            run.end(status, reason, traceback=traceback)

    def exit(self) -> None:
        """The interpreter exits in good order: finish what is still open, and wait within the budget."""
        if os.getpid() != self.pid:
            return
        status, reason, marks = self.exit_note or ("FINISHED", "", {})
        for run_id, run in reversed(list(self.runs.items())):  # who waits for its children comes after them
            if marks.get(run_id) == run.mark():
                run.end(status, reason)
            run.finish()
        for sending in self._senders.values():
            sending.close()


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
