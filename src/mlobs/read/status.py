"""What became of a run, from what its writers recorded and whether they still live."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from mlobs.events import Process, RunFinished
from mlobs.read.scan import Scan


@dataclass(frozen=True)
class Verdict:
    """A run's status; `end` is the record that says so, None where the reader concluded it."""

    status: str
    reason: str
    ended: float | None = None
    end: RunFinished | None = None


def judge(scans: Sequence[Scan], is_alive: Callable[[Process], bool | None]) -> Verdict:
    """Decide a run's status.

    The last end that the opener recorded counts; without one, the last end that anybody else
    recorded (a sender that saw it die); without any, the opener's process: living is RUNNING, gone
    is CRASHED, and on another host, where nobody here can know, RUNNING with the time of the last
    sign of life. Of a run that was opened again the last opener counts, and ends since then; if no
    opener's file is here, every writer's process does.
    """
    openers = [one for one in scans if one.is_opener]
    latest = max(openers, key=_attempt, default=None)
    end = _end(scans, latest, since=_attempt(latest)[1] if latest and len(openers) > 1 else 0.0)
    if end is not None:
        return Verdict(end.status, end.reason, end.at, end)
    seen = max(one.latest for one in scans)
    return _from_processes([latest] if latest else scans, seen, is_alive)


def _end(scans: Sequence[Scan], opener: Scan | None, since: float) -> RunFinished | None:
    if opener is not None and opener.ends:
        return opener.ends[-1]
    others = [end for one in scans if not one.is_opener for end in one.ends if end.at >= since]
    return max(others, key=lambda end: end.at, default=None)


def _attempt(opener: Scan) -> tuple[int, float]:
    """Which attempt it was, and when it began: its start says so, also where a host's clock was behind."""
    return (opener.start.attempt, opener.start.at) if opener.start else (0, opener.opened_at)


def _from_processes(
    scans: Sequence[Scan], seen: float, is_alive: Callable[[Process], bool | None]
) -> Verdict:
    processes = [one.process for one in scans if one.process is not None]
    if not processes:
        return Verdict("CRASHED", "the journal does not say who wrote it: its start is damaged", seen or None)
    lives = [is_alive(process) for process in processes]
    if True in lives:
        return Verdict("RUNNING", "")
    if None in lives:
        when = datetime.fromtimestamp(seen, timezone.utc)
        return Verdict("RUNNING", f"not seen since {when:%Y-%m-%d %H:%M:%S} UTC (another host)")
    return Verdict("CRASHED", "process vanished", seen)
