"""The console: what a run records, in lines for people at the terminal that the program runs in.

Lines appear while training goes on: params as a table, metrics as one line every few seconds, logs,
artifacts, the end. Nothing is stored, so there is nothing to read back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import msgspec

from mlobs.backend import ALL_KINDS, Batch, Capabilities, Receipt
from mlobs.errors import UsageError
from mlobs.events import Process, RunStarted

if TYPE_CHECKING:
    from mlobs.backends.console_page import Outcome

MOST_RUNS = 256  # so many are remembered: of an older one a repeated batch would be printed again


class Ref(msgspec.Struct, frozen=True, array_like=True):
    """Where a run's lines stand, as a receipt's reference.

    `process` is who opened the latest attempt, at `started_at`; `line_at` is the moment of the last
    line of metrics, None before the first; `entries` makes each reference another one.
    """

    entries: int
    process: Process
    started_at: float
    line_at: float | None = None

    def to_text(self) -> str:
        """The reference."""
        return msgspec.json.encode(self).decode()


@dataclass
class _Lines:
    """What this process has printed of a run.

    `pending` holds (step, value) of metrics that no line has shown yet. `outcomes` is by key, of what
    may come again: everything since the reference that came back last.
    """

    ref: Ref
    pending: dict[str, tuple[int, float]] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)


@dataclass
class Console:
    """Prints to the terminal that the program's standard error is.

    With `delivery="thread"` it prints to `sys.stderr`, terminal or not. Where there is no terminal, the
    events are skipped, with the reason. A repeated batch is not printed again, but for one that was
    printed just before the sender itself died.

    A line of metrics stands for what came since the last one, at least `every_s` seconds by the events'
    own times; 0 prints each event.
    """

    every_s: float = 5.0
    name: str = "console"

    capabilities: ClassVar[Capabilities] = Capabilities(kinds=ALL_KINDS - {"heartbeat"})

    def __post_init__(self) -> None:
        is_number = isinstance(self.every_s, int | float) and not isinstance(self.every_s, bool)
        if not is_number or not 0 <= self.every_s < math.inf:
            raise UsageError(f"every_s is {self.every_s!r}; expected seconds, 0 or more")
        self._runs: dict[str, _Lines] = {}

    def deliver(self, batch: Batch) -> Receipt:
        """Print what was not printed yet.

        Raises:
            Unavailable: the terminal takes nothing now, such as after Ctrl-S.
        """
        from mlobs.backends import console_page, console_screen

        lines = self._going_on(batch)
        fresh = [entry for entry in batch.entries if entry.key not in lines.outcomes]
        ref = _started(lines.ref, batch)
        screen = console_screen.of(ref.process)
        page = console_page.Page(batch.run.name, ref.started_at, self.every_s, ref.line_at, lines.pending)
        outcomes = {entry.key: page.take(entry.event) for entry in fresh}
        trouble = console_screen.NOWHERE if screen is None else screen.show(page.text(screen))
        if trouble:
            outcomes = {entry.key: ("skipped", trouble) for entry in fresh}
        ref = msgspec.structs.replace(ref, entries=ref.entries + len(fresh), line_at=page.line_at)
        known = {**lines.outcomes, **outcomes}
        self._remember(batch.run.run_id, _Lines(ref, page.pending, known))
        here = {entry.key: known[entry.key] for entry in batch.entries}
        return Receipt(ref.to_text(), lowered=_of(here, "lowered"), skipped=_of(here, "skipped"))

    def close(self) -> None:
        """Do nothing: no terminal stays open between batches."""

    def _going_on(self, batch: Batch) -> _Lines:
        """What was printed of the run; a reference that came back makes all before it settled."""
        lines = self._runs.get(batch.run.run_id)
        if batch.ref is None:
            return lines or _Lines(Ref(0, batch.run.process, batch.run.at))
        if lines is None:
            return _Lines(msgspec.json.decode(batch.ref, type=Ref))
        return _Lines(lines.ref, lines.pending) if batch.ref == lines.ref.to_text() else lines

    def _remember(self, run_id: str, lines: _Lines) -> None:
        self._runs.pop(run_id, None)
        self._runs[run_id] = lines
        if len(self._runs) > MOST_RUNS:
            del self._runs[next(iter(self._runs))]


def _started(ref: Ref, batch: Batch) -> Ref:
    """The reference as of the latest attempt that the batch begins, if it begins one."""
    starts = [entry.event for entry in batch.entries if isinstance(entry.event, RunStarted)]
    return (
        msgspec.structs.replace(ref, process=starts[-1].process, started_at=starts[-1].at) if starts else ref
    )


def _of(outcomes: dict[str, Outcome], word: str) -> dict[str, str]:
    return {key: reason for key, (outcome, reason) in outcomes.items() if outcome == word}
