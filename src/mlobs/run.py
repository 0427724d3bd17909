"""The run: what training code talks to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from mlobs import current
from mlobs.delivery.report import BackendReport
from mlobs.errors import UsageError
from mlobs.events import Status
from mlobs.exits import ending
from mlobs.handle import Carried, attached, carried
from mlobs.opened import BackendRef, Opened
from mlobs.program import Ending
from mlobs.recorder import Recorder
from mlobs.values import repr_of

if TYPE_CHECKING:
    from typing_extensions import Self  # of the type checkers; typing has it from 3.11 on

_ENDS: tuple[Status, ...] = ("FINISHED", "FAILED", "KILLED", "CRASHED")


class Run(Recorder):
    """One training. Made by `Tracker.start_run` or `Run.child`; usable from any thread.

    It records what `Recorder` describes; `finish` alone waits for the backends, within a budget.
    `id` is unique and sortable by start; `name` and `experiment` are for people.
    """

    def __init__(
        self, opened: Opened, params: object = None, tags: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(opened)
        self.id, self.name, self.experiment = opened.facts.run_id, opened.facts.name, opened.facts.experiment
        self.parent_id = opened.facts.parent_run_id
        opened.register(self)
        self._record_start(params, tags)

    @property
    def is_open(self) -> bool:
        """Nobody has ended the run yet."""
        return self._opened.is_open

    @property
    def status(self) -> Status:
        """RUNNING, or how the run ended."""
        return self._opened.status

    def child(
        self, name: str | None = None, *, params: object = None, tags: Mapping[str, object] | None = None
    ) -> Run:
        """Open a run below this one, such as a fold or a trial; it is itself a context manager."""
        return Run(self._opened.child(name), params, tags)

    def handle(self) -> RunHandle:
        """Return a small value by which other processes record into this run, see `RunHandle`."""
        return RunHandle(carried(self._opened))

    def finish(self, status: Status = "FINISHED", reason: str = "", *, traceback: str | None = None) -> None:
        """End the run, and wait until the backends have it, within `finish_timeout_s` for the process.

        Then it says what each backend has, and what to type for the rest. A child run leaves both to
        the run above, unless that has ended. Repeating it does nothing. `status` may be written in any
        case; what is none of its words counts as FAILED.
        """
        known = _known(status)
        if known is not None:
            self._opened.close(Ending(known, reason, traceback))
            return
        problem = (
            f"status is {repr_of(status)}, so the run counts as FAILED; expected FINISHED, FAILED, KILLED or "
            "CRASHED - type: run.finish('FAILED'), or run.finish() for a success"
        )
        try:
            self._troubles.report("finish", status, UsageError(problem))
        finally:
            self._opened.close(Ending("FAILED", reason or problem, traceback))

    def delivery(self) -> dict[str, BackendReport]:
        """What each backend has, and has not, by its name; reads the delivery state from the disk."""
        return self._opened.delivery()

    def get_backend_ref(self, backend: str) -> BackendRef | None:
        """The vendor's own id and URL of this run, None while the backend has not answered yet.

        Raises:
            UsageError: the run does not go to a backend of this name.
        """
        return self._opened.backend_ref(backend)

    def __enter__(self) -> Self:
        """Make the run current here, unless it is; leaving ends it, and what was current is so again."""
        if self.is_open and not current.is_innermost(self):
            current.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close(ending(error))

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "a Run stays in its process - send run.handle() instead, and call attach() on it there"
        )

    def __repr__(self) -> str:
        return f"<mlobs.Run {self.id} {self.experiment}/{self.name} {self.status}>"

    def _record_start(self, params: object, tags: Mapping[str, object] | None) -> None:
        try:
            if params is not None:
                self.log_params(params)
            if tags:
                self.set_tags(tags)
        except BaseException as error:  # nobody has the run yet who could end it
            self._opened.close(ending(error))
            raise


@dataclass(frozen=True)
class RunHandle:
    """A run for other processes and hosts: small, and it can be pickled. Made by `Run.handle`.

    It holds no secrets: the backends' come from the environment or configuration where it is attached.
    """

    _run: Carried = field(repr=False)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run.run_id

    def attach(self, *, store: str | os.PathLike[str] | None = None) -> Run:
        """Record into the run from this process, in a journal of its own, and make the run current here.

        Leaving its context, or `finish`, closes this journal alone: the run ends where it was opened.
        Its `status` is RUNNING until then. What it records is sent by the program that opened the run;
        if that is gone, or runs elsewhere, by this one.

        Args:
            store: where the record goes, on a host that cannot reach the run's own store.

        Raises:
            UsageError: this process's configuration is wrong.
            StoreError: only with `on_error="raise"`: the store cannot be written.
        """
        return Run(attached(self._run, store))

    def __repr__(self) -> str:
        return f"<mlobs.RunHandle {self.run_id}>"


def _known(status: object) -> Status | None:
    """The word that is meant, None if it is none."""
    word = status.upper() if isinstance(status, str) else ""
    return next((one for one in _ENDS if one == word), None)


def current_run() -> Run | None:
    """The run that module-level calls go to here, or None.

    That is the run that was opened, or entered by `with`, last in this context; in a thread started
    without a copied context, the process's one open run.
    """
    run = current.current()
    return run if isinstance(run, Run) else None
