"""What a run's attempts left to the next one, and whether there may be a next one now."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace

from mlobs.errors import UsageError
from mlobs.events import Process, Rewind
from mlobs.journal.store import RunFolder
from mlobs.read.contents import fold
from mlobs.read.points import Points, that_count
from mlobs.read.record import Alive, liveness, scan_writers
from mlobs.read.scan import Scan
from mlobs.read.status import judge
from mlobs.resuming import Past, SavedState, Wish, past_of_state


def look_back(folder: RunFolder, wish: Wish) -> Past:
    """Read what the run's attempts left. It takes about 2 s for a million points.

    Raises:
        UsageError: a process that lives is recording the run.
    """
    is_alive = liveness()
    scans = scan_writers(folder, is_alive, {})
    openers = [one for one in scans if one.start is not None]
    if openers:
        _refuse_if_open(folder, scans, openers[-1].process, is_alive)
    scans, until = _without_next(scans, is_alive)
    if not openers:
        return replace(Past() if wish.state is None else past_of_state(wish.state), until=until)
    points = that_count([one.points for one in scans])
    own = points.of_training()
    rewind = _rewind(own, scans, wish)
    if rewind is not None:
        points = points.before(rewind)
    start = openers[0].start
    assert start is not None
    return Past(
        start=start,
        attempt=max(one.start.attempt for one in openers if one.start),
        opener=openers[-1].writer,
        latest=max(one.latest for one in scans),
        until=until,
        params=fold(scans).params,
        steps=points.next_steps(),
        last_step=own.steps[-1] if len(own) else 0,
        rewind=rewind,
    )


def _without_next(scans: list[Scan], is_alive: Alive) -> tuple[list[Scan], float]:
    """Leave out the ranks that have joined the next attempt already, and tell when the first of them did.

    What they record must not count as taken back. On another host nobody can tell them from ranks of
    an earlier attempt.
    """
    others = [one for one in scans if one.is_opener or not _is_other_rank(one, is_alive)]
    latest = max((one.latest for one in others), default=-math.inf)
    ahead = [one for one in scans if one not in others and one.opened_at > latest]
    return [one for one in scans if one not in ahead], min((one.opened_at for one in ahead), default=math.inf)


def _is_other_rank(one: Scan, is_alive: Alive) -> bool:
    return one.header is not None and one.header.rank > 0 and is_alive(one.header.process) is True


def _refuse_if_open(
    folder: RunFolder, scans: Sequence[Scan], process: Process | None, is_alive: Alive
) -> None:
    """Refuse a run that two processes would then record: its status could not be true."""
    if process is None or judge(scans, is_alive).end is not None or is_alive(process) is not True:
        return  # on another host nobody here can know, and a scheduler starts the next attempt there
    if process.pid == os.getpid():
        raise UsageError(f"run {folder.run_id} is open in this process - call finish() on it first")
    raise UsageError(
        f"run {folder.run_id} is being recorded by pid {process.pid} on {process.host} - "
        "wait until it has ended, or give this run another name or id"
    )


def _rewind(points: Points, scans: Sequence[Scan], wish: Wish) -> Rewind | None:
    """What going on as wished takes back; None if nothing was recorded behind that."""
    if wish.state is not None:
        return _rewind_to(wish.state, points, scans)
    step = wish.from_step
    if step is None:
        return None
    is_behind = any(one >= step for one in points.steps) or any(
        one >= step for one in _steps_of_others(scans, -math.inf)
    )
    return Rewind(0.0, step) if is_behind else None


def _rewind_to(state: SavedState, points: Points, scans: Sequence[Scan]) -> Rewind | None:
    """Go back to the moment of a checkpoint.

    `from_step`, by which a vendor goes back, lies behind all that counts: metrics may have
    different axes, and none shall lose a point.
    """
    moments = list(zip(points.ats, points.steps, strict=True))
    late = [step for at, step in moments if at > state.at]
    kept = max((step for at, step in moments if at <= state.at), default=None)
    others = _steps_of_others(scans, state.at)
    if not late and not others:
        return None
    from_step = min(late + others) if kept is None else kept + 1
    return Rewind(0.0, from_step, since=state.at, below=sum(step < from_step for step in late))


def _steps_of_others(scans: Sequence[Scan], since: float) -> list[int]:
    """The steps of what is no metric and was recorded after a moment."""
    events = [event for one in scans for _, event in one.events if getattr(event, "at", 0.0) > since]
    steps = [getattr(event, "step", None) for event in events]
    return [step for step in steps if step is not None]
