"""What became of a run, from what its writers recorded and whether they still live."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlobs.events import Process, RunFinished
from mlobs.moments import EPOCH, utc
from mlobs.read.scan import Scan

_NO_OPENER = "the record of the process that opened it is not in this store"
NOBODY = Process(host="", pid=0)  # the author of what was imported: nobody asks whether it lives
_IMPORTED = "it had no end when it was imported - import it again, or end it with `mlobs repair`"
STALE_AFTER_S = 600.0  # a sender gives a sign every 60 s; a shared file system may show it minutes late


@dataclass(frozen=True)
class Verdict:
    """A run's status; `end` is the record that says so, None where the reader concluded it.

    `is_stale`: it may be running, on a host that gives no sign of life; `seen` is the last one of a
    run whose end is not recorded (Unix seconds).
    """

    status: str
    reason: str
    ended: float | None = None
    end: RunFinished | None = None
    is_stale: bool = False
    seen: float = 0.0


def judge(
    scans: Sequence[Scan],
    is_alive: Callable[[Process], bool | None],
    *,
    seen_by_sender: Callable[[], float] = lambda: 0.0,
    now: Callable[[], float] = time.time,
) -> Verdict:
    """Decide a run's status.

    The last end that the opener recorded counts; without one, the last end that anybody else
    recorded (a sender that saw it die); without any, the opener's process: living is RUNNING, gone
    is CRASHED. On another host, where nobody here can know, it is RUNNING, with the time of the last
    sign of life (an event, or what `seen_by_sender` says), and stale once that is `STALE_AFTER_S` ago.
    Of a run that was opened again the last opener counts, and ends since then. A run that was
    imported without an end is RUNNING too. If no opener's file is here, nobody can know either, and the
    run is RUNNING: its other writers may leave it at any time.
    """
    openers = [one for one in scans if one.is_opener]
    latest = max(openers, key=_attempt, default=None)
    end = _end(scans, latest, since=_attempt(latest)[1] if latest and len(openers) > 1 else 0.0)
    if end is not None:
        return Verdict(end.status, end.reason, end.at, end)
    seen = max(one.latest for one in scans)
    if latest is None and all(one.process for one in scans):
        return Verdict("RUNNING", _NO_OPENER, seen=seen)
    if latest and latest.process == NOBODY:
        return Verdict("RUNNING", _IMPORTED, is_stale=now() - seen >= STALE_AFTER_S, seen=seen)
    verdict = _from_processes([latest] if latest else scans, seen, is_alive)
    return verdict or _elsewhere(max(seen, seen_by_sender()), now())


def _elsewhere(seen: float, now: float) -> Verdict:
    when = f"{utc(seen) or EPOCH:%Y-%m-%d %H:%M:%S} UTC"
    if now - seen < STALE_AFTER_S:
        return Verdict("RUNNING", f"on another host; last sign of life {when}", seen=seen)
    reason = f"stale: no sign of life from its host since {when} - `mlobs repair` ends it"
    return Verdict("RUNNING", reason, is_stale=True, seen=seen)


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
) -> Verdict | None:
    """What the writers' processes tell; None where nobody here can know."""
    processes = [one.process for one in scans if one.process is not None]
    if not processes:
        return Verdict(
            "CRASHED", "the journal does not say who wrote it: its start is damaged", seen or None, seen=seen
        )
    lives = [is_alive(process) for process in processes]
    if True in lives:
        return Verdict("RUNNING", "", seen=seen)
    return None if None in lives else Verdict("CRASHED", "process vanished", seen, seen=seen)
