"""The runs of a store that are running, with their last values; a look reads what is new since the last."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mlobs.events import Metrics
from mlobs.journal.store import RunFolder, Store
from mlobs.names import SYSTEM_PREFIX
from mlobs.read.at_rest import Key, journal_key
from mlobs.read.journal_tail import JournalTail
from mlobs.read.run_index import RunIndex
from mlobs.read.run_summary import RunSummary


@dataclass
class LiveRun:
    """One run that is running.

    `last` has each metric's value that was recorded last, `steps` its step; `step` is the greatest of all.
    """

    summary: RunSummary
    tail: JournalTail
    last: dict[str, float] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    step: int | None = None
    latest_at: float = 0.0

    def look(self) -> bool:
        """Read what is new; tell whether the run is still running."""
        is_over = self.tail.has_ended()  # before the look: what came before the end is read
        for event in self.tail.read():
            self.latest_at = max(self.latest_at, getattr(event, "at", 0.0))
            if isinstance(event, Metrics):
                self._take(event)
        return not is_over and not self.tail.has_ended()

    def _take(self, event: Metrics) -> None:
        training = {name: value for name, value in event.values.items() if not name.startswith(SYSTEM_PREFIX)}
        self.last |= training
        self.steps |= dict.fromkeys(training, event.step)
        if training:
            self.step = event.step if self.step is None else max(self.step, event.step)


class LiveRuns:
    """Looks again and again at a store; `experiment` leaves out the runs of others."""

    def __init__(self, store: Store, experiment: str | None = None) -> None:
        self._index = RunIndex(store)
        self._experiment = experiment
        self._over: dict[str, Key] = {}
        self._live: dict[str, LiveRun] = {}

    def look(self) -> tuple[list[LiveRun], list[RunSummary]]:
        """Return the runs that are running, oldest first, and those that have ended since the last look.

        One that was removed is in neither.
        """
        ended: list[RunSummary] = []
        folders = self._index.folders()
        self._forget_others({folder.run_id for folder in folders})
        for folder in folders:
            live = self._live.get(folder.run_id) or self._found(folder)
            if live is None or live.look():
                continue
            self._live.pop(folder.run_id, None)
            self._over[folder.run_id] = journal_key(folder)
            summary = self._index.summary(folder)
            if summary is not None:
                ended.append(summary)
        self._index.save()
        return list(self._live.values()), ended

    def _forget_others(self, there: set[str]) -> None:
        for known in (self._live, self._over):
            for run_id in known.keys() - there:
                known.pop(run_id)

    def _found(self, folder: RunFolder) -> LiveRun | None:
        """A run that is running, and was not known to be; one that is gone on with is, too."""
        key = journal_key(folder)
        if self._over.get(folder.run_id) == key:
            return None
        summary = self._index.summary(folder)
        if summary is None:
            return None
        if summary.status != "RUNNING" or self._experiment not in (None, summary.experiment):
            self._over[folder.run_id] = key
            return None
        live = LiveRun(summary, JournalTail(folder, with_metrics=True))
        self._live[folder.run_id] = live
        return live


def age_s(live: LiveRun, now: Callable[[], float] = time.time) -> float:
    """How long ago a run recorded its last event, in seconds."""
    return max(0.0, now() - live.latest_at) if live.latest_at else 0.0
