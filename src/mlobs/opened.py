"""An open run's place in the program: its journal, its way to the backends, its end."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mlobs import current
from mlobs.delivery.report import BackendReport, report
from mlobs.delivery.start import find_start, opener_lives
from mlobs.delivery.state import States
from mlobs.errors import StoreError, UsageError
from mlobs.events import Event, RunStarted, Status, kind_of
from mlobs.exits import release_worker, watch
from mlobs.finishing import Awaited, say
from mlobs.journal.store import RunFolder
from mlobs.journal.writer import AnyWriter
from mlobs.last_words import failed_here, finished
from mlobs.opening import Begun, Plan, begin
from mlobs.program import FINISHED, Ending, program
from mlobs.provenance import record_lost_process, record_process, record_start
from mlobs.secrets import Redaction
from mlobs.sending import UNWATCHED, WAITS
from mlobs.text import printable
from mlobs.troubles import Troubles
from mlobs.waiting import Wait

_NO_START = "it is sent once the run's start is in this store too, which another process records; then"
_GONE = "the run's folder is gone: if it was moved, its record is whole there; if it was deleted, it is lost"


@dataclass(frozen=True)
class BackendRef:
    """The run as a vendor knows it: its id there, and a page to open, if there is one."""

    id: str
    url: str | None


@dataclass
class Opened:
    """One open run, from its first event to its last, and the wait behind it."""

    plan: Plan
    begun: Begun
    status: Status = "RUNNING"
    face: Any = None
    _parent: Opened | None = None
    thread: threading.Thread = field(default_factory=threading.current_thread)
    is_apart: bool = False
    noted: Ending = FINISHED
    function: str | None = None
    _pid: int = field(default_factory=os.getpid)
    _is_closed: bool = False
    awaited: list[Awaited] = field(default_factory=list)
    _uncapture: Callable[[], None] | None = None
    facts: RunStarted = field(init=False)
    folder: RunFolder | None = field(init=False)
    writer: AnyWriter = field(init=False)
    troubles: Troubles = field(init=False)
    append: Callable[[Event], None] = field(init=False)
    _key: str = field(init=False)

    def __post_init__(self) -> None:
        self.troubles = Troubles(self.plan.on_error)
        self.facts, self.folder, self.writer, _, is_joined = self.begun
        self._key = f"{self.facts.run_id}/{self.writer.id}" if is_joined else self.facts.run_id
        self.append = self.writer.append

    @property
    def is_open(self) -> bool:
        """The end is not recorded yet."""
        return self.status == "RUNNING"

    @property
    def is_child(self) -> bool:
        """The run was opened below another."""
        return self._parent is not None

    def refuse(self, event: Event) -> None:
        """Say that the run has ended.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"run {self.facts.run_id} has ended ({self.status}), so {kind_of(event)} came too late; "
            "open another run to log more"
        )

    def register(self, face: current.Endable) -> None:
        """Make the run current, see to the end of the program, and have the run delivered."""
        self.face = face
        current.enter(face)
        program().runs[self._key] = self
        if self.folder is None:
            return
        watch()
        if self._is_described:
            record_start(self.writer.append, self.function)
        self._capture(face)
        if not self._is_seen_to():
            self._send(self.folder)

    def _capture(self, face: current.Endable) -> None:
        """Record what the program says, if that is wished for, until the run ends."""
        settings = self.plan.settings
        if not settings.capture_logs:
            return
        from mlobs import capturing  # most runs never need it

        redaction = Redaction(settings.secrets_allow, os.environ)
        with_output = settings.capture_logs == "all"
        taker = capturing.Taker(self.append, redaction, self.troubles, lambda: self.is_open, with_output)
        capturing.begin(face, taker, delivers_here=settings.delivery == "thread")
        self._uncapture = partial(capturing.end, face)

    def _is_seen_to(self) -> bool:
        """Somebody else's sender delivers what is recorded here: that of the program which opened the run."""
        return self.begun.is_joined and self.folder is not None and opener_lives(self.folder) is not False

    @property
    def _is_root(self) -> bool:
        """The program's own run: what holds for the program is recorded there, once."""
        return not (self.is_child or self.begun.is_joined)

    @property
    def _is_described(self) -> bool:
        """What the run is made of is recorded."""
        return self.folder is not None and self._is_root and self.plan.settings.repro != "off"

    def _send(self, folder: RunFolder) -> None:
        watch = self.plan.watch if self._is_root else UNWATCHED
        sending = self.plan.sending(watch)
        if sending is not None:
            sending.open(folder, self.plan.here, watch)

    def child(self, name: object) -> Opened:
        """Open a run below this one."""
        begun = begin(self.plan, self.facts.experiment, name, parent_run_id=self.facts.run_id)
        return Opened(self.plan, begun, _parent=self)

    def end(self, ending: Ending) -> None:
        """Record the end, at once, without waiting for anyone.

        Only the first end counts, and only in the process that opened the run.
        """
        if not self.is_open or os.getpid() != self._pid:
            return
        if self._uncapture is not None:
            self._uncapture()
        with self.troubles.noted("finish", self.facts.run_id):
            try:
                if self._is_described:
                    self._describe(ending)
                self._append_end(ending)
            except Exception as error:
                self._seal(ending)
                raise StoreError(
                    getattr(error, "errno", None) or 0,
                    f"the end is not in the store, where the run will read as CRASHED: {error}",
                ) from error
            self._seal(ending)

    def note(self, ending: Ending) -> None:
        """The program is about to end in this way, unless it goes on recording here."""
        if self.is_open:
            self.noted, self.append = ending, self._append_after_exit

    def _append_after_exit(self, event: Event) -> None:
        """Keep the event, as ever; no call pays for this look before somebody has called `sys.exit`."""
        if self.is_open and program().goes_on():
            self.noted, self.append = FINISHED, self.writer.append
        self.writer.append(event)

    def _describe(self, ending: Ending) -> None:
        """Record what the process has loaded, unless a signal leaves no time for it."""
        if ending.reason in ("SIGTERM", "SIGHUP"):
            record_lost_process(self.writer.append, f"the process was ending by {ending.reason}")
        else:
            record_process(self.writer.append, self.writer.keep_bytes)

    def _append_end(self, ending: Ending) -> None:
        """Record how it ended; who joined a run only says what went wrong there."""
        if not self.begun.is_joined:
            self.writer.append(finished(ending, self.troubles.total()))
        elif ending.status != "FINISHED":
            self.writer.append(failed_here(ending, self.facts.rank))

    def _seal(self, ending: Ending) -> None:
        """Take nothing more, whether or not the end could be recorded."""
        self.status = ending.status
        self.append = self.refuse

    def close(self, ending: Ending = FINISHED, *, waits: bool = True) -> None:
        """Record the end, if nobody has yet, close the journal, and wait for delivery: now or at exit."""
        with program().leaving(), self.troubles.noted("finish", self.facts.run_id):
            try:
                self.end(ending)
            finally:  # with on_error="raise" an end that is not recorded raises
                current.leave(self.face)
                self._close(waits=waits)
                release_worker()

    def _close(self, *, waits: bool) -> None:
        if self._is_closed or os.getpid() != self._pid:
            return
        self._is_closed = True
        program().runs.pop(self._key, None)
        end = self.writer.end()
        self.writer.close()
        if self.folder is None:
            return
        if self.plan.settings.repro != "off" and not self.begun.is_joined:
            self._tell_end(self.folder)
        if not self.folder.path.is_dir():
            raise StoreError.of(
                FileNotFoundError(errno.ENOENT, _GONE),
                self.folder.path,
                "nothing more is delivered from here",
            )
        names = tuple(backend.name for backend in self.plan.backends)
        awaited = [Awaited(self.folder, names, {self.writer.id: end}, self.troubles.total()), *self.awaited]
        if self._parent is not None and self._parent.await_below(awaited):
            return
        if not self.begun.is_joined or self._takes_over(self.folder, awaited):
            self._await(awaited, waits=waits)
        elif self.awaited:
            self._await(self.awaited, waits=waits)

    def await_below(self, awaited: Sequence[Awaited]) -> bool:
        """Wait at this run's end for runs below it, or at that of one above; False if all have ended."""
        self.awaited += awaited
        is_late = self._is_closed  # asked last: on another thread it may just be ending
        return not is_late or (self._parent is not None and self._parent.await_below(awaited))

    def _tell_end(self, folder: RunFolder) -> None:
        sending = self.plan.sending(self.plan.watch)
        if sending is not None:
            sending.ended(folder)

    def _takes_over(self, folder: RunFolder, awaited: Sequence[Awaited]) -> bool:
        """Deliver what was recorded into another program's run, if that program does not."""
        if self.plan.sending() is None:
            return True
        if opener_lives(folder):
            return False  # it delivers this too, and says what is where
        if find_start(folder) is None:
            say(self._title(awaited), awaited, _NO_START)
            return False
        self._send(folder)
        return True

    def _await(self, awaited: Sequence[Awaited], *, waits: bool) -> None:
        sending, settings = self.plan.sending(), self.plan.settings
        if sending is not None:
            most_s, in_thread = settings.finish_timeout_s, settings.delivery == "thread"
            wait = Wait(self._title(awaited), awaited, sending, most_s, in_thread, self.troubles)
            wait.now() if waits else wait.later()
        elif any(one.unrecorded for one in awaited):
            say(self._title(awaited), awaited, WAITS)

    def _title(self, awaited: Sequence[Awaited]) -> str:
        if awaited[0].folder is not self.folder:  # the run itself is another program's to report
            return f"below run {printable(self.facts.name)} ({self.facts.run_id})"
        return f"run {printable(self.facts.name)} ({self.facts.run_id}) {self.status}"

    def delivery(self) -> dict[str, BackendReport]:
        """What each backend has of the run, by its name."""
        names = [backend.name for backend in self.plan.backends]
        if self.folder is None:
            return {name: BackendReport(name) for name in names}
        if not self.folder.path.is_dir():
            return {name: BackendReport(name, has_more=True, trouble=_GONE) for name in names}
        return report(self.folder, names)

    def backend_ref(self, backend: str) -> BackendRef | None:
        """The vendor's id and URL of the run, None while they are not known.

        Raises:
            UsageError: the run does not go to a backend of this name.
        """
        names = [one.name for one in self.plan.backends]
        if backend not in names:
            raise UsageError(f"backend {backend!r} is not one of this run's: {', '.join(names) or 'none'}")
        if self.folder is None:
            return None
        state = States(self.folder.delivery).refresh().of(backend)
        return None if state.ref is None else BackendRef(state.vendor_id or state.ref, state.url)
