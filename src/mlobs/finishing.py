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
from mlobs.troubles import log

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
    pairs = [
        (one.ends, name, states)
        for one in awaited
        for states in [States(one.folder.delivery)]
        for name in one.backends
    ]
    total = len(pairs)
    with _progress("mlobs: delivering", total) as show:
        while time.monotonic() < deadline and is_sending():
            shares = [_share(states.refresh().of(name), ends) for ends, name, states in pairs]
            show(total - len(pairs) + sum(shares))
            pairs = [pair for pair, share in zip(pairs, shares, strict=True) if share < 1.0]
            if all(_is_hopeless(states.of(name), deadline) for _, name, states in pairs):
                return  # this holds too when nothing is left
            time.sleep(LOOK_S)


def say(title: str, awaited: Sequence[Awaited], outlook: str) -> None:
    """Say what each backend has: as a warning if something is missing, else only on a terminal.

    `outlook` says what becomes of what is left; the command that sends it is added.
    """
    reports = _sums([one for each in awaited for one in report(each.folder, each.backends).values()])
    unrecorded = sum(one.unrecorded for one in awaited)
    run = awaited[0].folder
    parts = [f"mlobs: {title}"]
    if len(awaited) > 1:
        parts[0] += f" and {len(awaited) - 1} below it"
    parts += [str(one) for one in reports]
    if unrecorded:
        calls = "1 call was" if unrecorded == 1 else f"{unrecorded:,} calls were"
        parts.append(f"{calls} not recorded, see the warnings above")
    line = " · ".join(parts)
    if any(not one.is_settled for one in reports):
        line += f"\n  {outlook} - type: mlobs sync --store {run.store}"
    if unrecorded or any(one.pending or one.rejected for one in reports):
        log.warning("%s", line)
    elif _is_terminal():
        print(line, file=sys.stderr)  # noqa: T201 - the closing word to a person


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
        sums[one.backend] = replace(one, **counts, trouble=one.trouble or earlier.trouble)
    return list(sums.values())


def _is_hopeless(state: BackendState, deadline: float) -> bool:
    lane = state.lane
    if lane is None or lane.state == "delivering":
        return False
    left_s = deadline - time.monotonic()
    return lane.state in ("paused", "hung", "stopped") or (lane.until or 0.0) - time.time() > left_s


def _is_terminal() -> bool:
    """Tell whether a person reads; programs put all kinds of things where `sys.stderr` was."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # None or somebody's own class; closed
        return False


@contextlib.contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[float], None]]:
    """A progress bar on a terminal, nothing elsewhere; it appears once a wait is worth showing."""
    if not _is_terminal():
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)
