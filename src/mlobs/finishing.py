"""The wait at the end of a run: bounded, visible on a terminal, and honest about what is left."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mlobs.delivery.report import COUNTS, BackendReport, report
from mlobs.delivery.state import BackendState, States
from mlobs.journal.store import RunFolder
from mlobs.progress import is_terminal, progress
from mlobs.troubles import log

COUNT_S = 1.0  # for what the last word says, beyond the budget
MOST_COUNTED = 100_000  # pending events take about 2 us each to count
LOOK_S = 0.02  # the delivery state is a small file: looking costs ~50 us


class Budget:
    """Seconds that one process may spend on waiting for delivery, in all.

    Each tracker says how many; what any of its runs spent counts for all.
    """

    def __init__(self) -> None:
        self._most_s = self._spent_s = 0.0
        self._is_over = False

    def left_s(self, total_s: float | None = None) -> float:
        """What is left of a tracker's total; of None, of the largest that a wait had."""
        left_s = (self._most_s if total_s is None else total_s) - self._spent_s
        return 0.0 if self._is_over else max(0.0, left_s)

    def end(self) -> None:
        """Let nobody wait any more."""
        self._is_over = True

    @contextlib.contextmanager
    def spending(self, total_s: float) -> Iterator[float]:
        """Give what is left of a tracker's total, as a moment of the monotonic clock, and charge the time."""
        self._most_s = max(self._most_s, total_s)
        started = time.monotonic()
        try:
            yield started + self.left_s(total_s)
        finally:
            self._spent_s += time.monotonic() - started


@dataclass(frozen=True)
class Awaited:
    """A run that has ended: where it goes, where its journals end (offset by writer), what it lacks."""

    folder: RunFolder
    backends: tuple[str, ...]
    ends: dict[str, int]
    unrecorded: int = 0


def wait_for_delivery(awaited: Sequence[Awaited], deadline: float, is_sending: Callable[[], bool]) -> None:
    """Wait until each backend has answered for all of it, or need not be waited for.

    That is: its lane pauses, or backs off for longer than is left, or nothing is sending any more.
    `deadline` is a moment of the monotonic clock.
    """
    waits = [_Wait(one) for one in awaited]
    total = sum(len(wait.names) for wait in waits)
    with progress("mlobs: delivering", total) as show:
        while time.monotonic() < deadline and is_sending():
            open_share = 0.0
            for wait in waits:
                open_share += wait.look()
                if time.monotonic() > deadline:
                    return
            waits = [wait for wait in waits if wait.names]
            show(total - open_share)
            if all(wait.is_hopeless(deadline) for wait in waits):
                return  # this holds too when nothing is left
            time.sleep(LOOK_S)


def is_delivered(awaited: Sequence[Awaited]) -> bool:
    """Tell whether each backend has answered for all of it, at one look."""
    return all(_Wait(one).look() == 0.0 for one in awaited)


class _Wait:
    """The backends of one run that have not answered for all of it; a look reads the run's state once."""

    def __init__(self, awaited: Awaited) -> None:
        self.names = list(awaited.backends)
        self._ends, self._states = awaited.ends, States(awaited.folder.delivery)

    def look(self) -> float:
        """How much is left to wait for, as a number of backends."""
        states = self._states.refresh()
        shares = {name: _share(states.of(name), self._ends) for name in self.names}
        self.names = [name for name, share in shares.items() if share < 1.0]
        return len(shares) - sum(shares.values())

    def is_hopeless(self, deadline: float) -> bool:
        """Nothing more will come of it before the deadline."""
        return all(_is_hopeless(self._states.of(name), deadline) for name in self.names)


def say(title: str, awaited: Sequence[Awaited], outlook: str) -> None:
    """Say what each backend has: as a warning if something is missing, else only on a terminal.

    `outlook` says what becomes of what is left; the command that sends it is added.
    """
    reports, unseen = _reports(awaited)
    unrecorded = sum(one.unrecorded for one in awaited)
    run = awaited[0].folder
    parts = [f"mlobs: {title}"]
    if len(awaited) > 1:
        parts[0] += f" and {len(awaited) - 1} below it"
    parts += [str(one) for one in reports]
    if unseen:
        parts.append(f"{unseen:,} of the runs not looked at, for want of time")
    if unrecorded:
        calls = "1 call was" if unrecorded == 1 else f"{unrecorded:,} calls were"
        parts.append(f"{calls} not recorded, see the warnings above")
    line = " · ".join(parts)
    is_left = bool(unseen) or any(not one.is_settled for one in reports)
    if is_left:
        line += f"\n  {outlook} - type: mlobs sync --store {run.store}"
    if unrecorded or is_left or any(one.rejected for one in reports):
        log.warning("%s", line)
    elif is_terminal():
        print(line, file=sys.stderr)  # noqa: T201 - the closing word to a person


def _reports(awaited: Sequence[Awaited]) -> tuple[list[BackendReport], int]:
    """Report on the runs together, by backend, and tell how many of them there was no time for."""
    until = time.monotonic() + COUNT_S
    reports: list[BackendReport] = []
    left = MOST_COUNTED
    for number, one in enumerate(awaited):
        if time.monotonic() > until:
            return _sums(reports), len(awaited) - number
        found = list(report(one.folder, one.backends, most=left).values())
        left = max(0, left - sum(each.pending for each in found))
        reports += found
    return _sums(reports), 0


def _share(state: BackendState, ends: Mapping[str, int]) -> float:
    """How much of a run the backend has answered for, from 0.0 to 1.0."""
    shares = [min(state.cursors.get(writer, 0), end) / end if end else 1.0 for writer, end in ends.items()]
    return min(shares, default=1.0)


def _sums(reports: Sequence[BackendReport]) -> list[BackendReport]:
    """Add up the reports of several runs, by backend."""
    sums: dict[str, BackendReport] = {}
    for one in reports:
        earlier = sums.get(one.backend, BackendReport(one.backend))
        counts = {name: getattr(earlier, name) + getattr(one, name) for name in COUNTS}
        trouble, has_more = one.trouble or earlier.trouble, one.has_more or earlier.has_more
        sums[one.backend] = replace(one, **counts, trouble=trouble, has_more=has_more)
    return list(sums.values())


def _is_hopeless(state: BackendState, deadline: float) -> bool:
    lane = state.lane
    if lane is None or lane.state == "delivering":
        return False
    left_s = deadline - time.monotonic()
    return lane.state in ("paused", "hung", "stopped") or (lane.until or 0.0) - time.time() > left_s
