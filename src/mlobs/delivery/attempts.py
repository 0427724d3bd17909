"""In which order the writers of a run are sent: attempt by attempt, the opener of each first."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from mlobs.delivery.start import first_event
from mlobs.events import RunFinished, RunStarted
from mlobs.journal.store import RunFolder


@dataclass
class Attempt:
    """One attempt at a run: its start, and those who wrote to the run while it was the latest.

    `opener` is "" and `until` infinite for writers without any start, or behind the last one.
    """

    opener: str
    since: float
    until: float = math.inf
    others: list[str] = field(default_factory=list)

    @property
    def writers(self) -> list[str]:
        """The opener, then the others by name: a vendor's run begins with its start."""
        return ([self.opener] if self.opener else []) + sorted(self.others)

    def is_end(self, writer: str, end: RunFinished) -> bool:
        """Tell whether this end, which `writer` recorded, is this attempt's: a late one is another's."""
        return writer == self.opener or self.since <= end.at < self.until


class _First(NamedTuple):
    attempt: int  # 0: it opened no attempt
    at: float


class Attempts:
    """The attempts at a run so far; a writer whose first event is not there yet belongs to none."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._firsts: dict[str, _First] = {}
        self._attempts: list[Attempt] = []

    @property
    def latest(self) -> Attempt | None:
        """The latest attempt as of the last `refresh`, None before the first writer."""
        return self._attempts[-1] if self._attempts else None

    def refresh(self) -> list[Attempt]:
        """Look for writers that came since, and return the attempts, the earliest first."""
        fresh = [path for path in self._folder.journals() if path.stem not in self._firsts]
        for path in fresh:
            event = first_event(path)
            if event is not None:
                attempt = event.attempt if isinstance(event, RunStarted) else 0
                self._firsts[path.stem] = _First(attempt, getattr(event, "at", 0.0))
        if fresh:
            self._attempts = _arranged(self._firsts)
        return self._attempts


def latest_attempt(folder: RunFolder) -> Attempt:
    """The latest attempt at a run; of a run without any event, one without an opener."""
    attempts = Attempts(folder)
    attempts.refresh()
    return attempts.latest or Attempt("", -math.inf)


def _arranged(firsts: dict[str, _First]) -> list[Attempt]:
    opened = sorted((first, writer) for writer, first in firsts.items() if first.attempt)
    attempts = [Attempt(writer, first.at) for first, writer in opened]
    if not attempts:
        return [Attempt("", -math.inf, others=list(firsts))] if firsts else []
    attempts[0].since = -math.inf
    for one, following in pairwise(attempts):
        one.until = following.since
    begins = [one.since for one in attempts]
    for writer, first in firsts.items():
        if not first.attempt:
            attempts[max(0, bisect_right(begins, first.at) - 1)].others.append(writer)
    return attempts
