"""What each method of a SummaryWriter records with: its run, its names, its steps and times."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from mlobs.events import Event, Metrics
from mlobs.integrations.tensorboard_runs import destination, reopened
from mlobs.opened import Opened
from mlobs.payload_recorder import PayloadRecorder
from mlobs.payloads.payload import Payload
from mlobs.run import Run
from mlobs.values import name_of, optional_step, scalar

if TYPE_CHECKING:
    from typing_extensions import Self  # of the type checkers; typing has it from 3.11 on


class Recording(PayloadRecorder):
    """The payload calls of a run, and its metrics, at the time `walltime` (Unix seconds) or now."""

    def __init__(self, run: Run, walltime: float | None = None) -> None:
        opened = run._opened  # noqa: SLF001 - the time of an event is no argument of Run's own methods
        stamped = opened if walltime is None else cast("Opened", _Stamped(opened, float(walltime)))
        super().__init__(stamped)
        self.troubles = opened.troubles

    def log_metrics(self, values: Mapping[str, Any], step: object) -> None:
        """Record values of one step, 0 if none is given."""
        numbers = {name_of(name): scalar(name, value) for name, value in values.items()}
        self._opened.append(Metrics(time.time(), optional_step(step) or 0, numbers))

    def keep(self, payload: Payload, step: int | None) -> None:
        """Record a payload that is made already."""
        self._record("SummaryWriter", payload.path, lambda: [payload], step, None)


class _Stamped:
    """The journal of a run, into which each event goes with another time."""

    def __init__(self, opened: Opened, at: float) -> None:
        self.writer, self.folder, self.troubles = opened.writer, opened.folder, opened.troubles
        self._opened, self._at = opened, at

    def append(self, event: Event) -> None:
        self._opened.append(replace(cast("Any", event), at=self._at))


class Writing:
    """A writer's run. One that the writer opened ends with `close`; the current run goes on."""

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: int = 120,
        filename_suffix: str = "",
    ) -> None:
        self.log_dir = os.fspath(log_dir) if log_dir else _default_folder(comment)
        self.purge_step, self.filename_suffix = purge_step, filename_suffix
        # Both are upper bounds of a delay, and there is none: a call is on the disk when it returns.
        self.max_queue, self.flush_secs = max_queue, flush_secs
        self._run, self._prefix, self._is_own = self._begin()
        self._is_closed = False

    def get_logdir(self) -> str:
        """Return the folder that names the run; scripts may keep files of their own in it."""
        return self.log_dir

    def flush(self) -> None:
        """Do nothing: each call is on the disk when it returns, and is sent from there."""

    def close(self) -> None:
        """End the run if this writer opened it, and wait for delivery, as `Run.finish` does.

        A call that comes later goes on with the run, as torch's writer goes on with its folder.
        """
        if self._is_own and not self._is_closed:
            self._is_closed = True
            self._run.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_own and not self._is_closed:
            self._is_closed = True
            self._run.__exit__(kind, error, trace)

    @property
    def _live(self) -> Run:
        """The run to record into."""
        if self._is_closed:
            troubles = Recording(self._run).troubles
            with troubles.noted("SummaryWriter", self.log_dir):
                self._run, self._is_closed = reopened(self._run), False
        return self._run

    @contextmanager
    def _recording(self, call: str, tag: object, walltime: float | None = None) -> Iterator[Recording]:
        """Record inside; what goes wrong there is said once, and training goes on."""
        recording = Recording(self._live, walltime)
        with recording.troubles.noted(call, tag):
            yield recording

    def _remark(self, call: str, key: str, text: str) -> None:
        Recording(self._run).troubles.remark(call, key, text)

    def _name(self, tag: str) -> str:
        return f"{self._prefix}{tag}" if self._prefix else tag

    def _path(self, tag: str) -> str:
        return f"{self._prefix}{tag}".strip("/")

    def _begin(self) -> tuple[Run, str, bool]:
        found = destination(self.log_dir, self.purge_step)
        self._run = found.run
        troubles = Recording(found.run).troubles
        with troubles.noted("SummaryWriter", self.log_dir):
            os.makedirs(self.log_dir, exist_ok=True)  # noqa: PTH103 - scripts keep checkpoints in it
        plan = found.run._opened.plan  # noqa: SLF001 - what this says is about the set-up of the run
        if not plan.backends and plan.store is not None:
            self._remark(
                "SummaryWriter",
                "backends",
                "records into the local store alone - to see it there, set MLOBS_BACKENDS=tensorboard",
            )
        if self.filename_suffix:
            self._remark("SummaryWriter", "filename_suffix", "has no effect: the backend names its files")
        if self.purge_step is not None and found.run._opened.facts.attempt == 1:  # noqa: SLF001
            what = "finds no earlier run of this folder" if found.is_own else "has no effect in an open run"
            self._remark("SummaryWriter", "purge_step", f"{what} - mlobs.start_run(from_step=...) goes back")
        return found.run, found.prefix, found.is_own


def step_of(step: Any) -> Any:
    """The step as torch's writer takes it: whatever `int` makes a number of, cut to a whole one."""
    if step is None or type(step) is int:
        return step
    try:
        return int(step)
    except (TypeError, ValueError, OverflowError):
        return step  # the run's own check says what is wrong with it


def _default_folder(comment: str) -> str:
    started = datetime.now().astimezone().strftime("%b%d_%H-%M-%S")
    return str(PurePath("runs", f"{started}_{socket.gethostname()}{comment}"))
