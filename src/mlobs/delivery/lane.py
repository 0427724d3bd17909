"""The policy of one backend's lane: when to send, how much, and what a failure means.

No thread, no clock, no I/O: the host says what happened and what time it is, the lane decides.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlobs.delivery.state import LaneState
from mlobs.errors import MissingPackage, ServerError, Unauthorized, Unavailable
from mlobs.secrets import Redaction

Verdict: TypeAlias = Literal["retry", "again", "halve", "hold", "park"]
Evidence: TypeAlias = Literal["none", "other", "like", "moot"]

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 60.0
PAUSE_S = (
    300.0  # a set-up that is refused or incomplete is tried again this often: somebody may have mended it
)
MAX_RETRY_AFTER_S = 3600.0  # a server that asks for more may have another clock than ours
_REASON_CHARACTERS = 500  # vendors quote whole requests in their messages
PARKED_IN_A_ROW = 5  # so many refused one after the other: perhaps not the events, but the backend
HURRY_S = 5.0  # a sweep ends a run every few milliseconds, and each end hurries
SHRINK = 8  # a batch that met a server error is an eighth the next time: 1000 events are one in 4 tries
# A server that fails half of its answers at random would have to alternate so often, probe answered
# and event failed, to be misjudged: a chance of 1 in a million.
DOUBTS = 10
DOUBT_S = 300.0  # a server that restarts, or whose disk is being freed, is back within this
LONG_DOUBT_S = 86_400.0  # what was answered is not alike: files may have their own outage, so wait a day
_NEEDED_S: Mapping[Evidence, float] = {"like": DOUBT_S, "other": LONG_DOUBT_S, "moot": math.inf}


def back_off_s(failures: int, jitter: float) -> float:
    """Seconds to wait after so many failures in a row; `jitter` in [0, 1) spreads many clients."""
    return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 16)) * (0.5 + jitter / 2)


@dataclass
class Search:
    """One run's next batch: how large it may be, and the event that is in doubt, if one is.

    Every run has its own: else the batches of other runs, which are answered, would undo the halving.

    `limit` is the largest number of events that the next batch may hold: the lane's `max_events`,
    less while the event at fault is searched. `suspect` is the key of the event that failed alone,
    at `since` for the first time; `refusals` counts how often it was refused for reasons of its own,
    as it seems, `failures` how often it met a server error, and `doubts` how often it did so while
    the backend took back another event. Until `resume_at` the run is not sent, others are.
    """

    limit: int
    suspect: str = ""
    since: float = 0.0
    refusals: int = 0
    failures: int = 0
    doubts: int = 0
    waits_since: float = 0.0
    resume_at: float = 0.0

    def is_ready(self, now: float) -> bool:
        """Tell whether the run may be sent now."""
        return not self.waits_since <= now < self.resume_at

    def suspects(self, key: str, now: float) -> None:
        """Put the event with this key in doubt, if it is not already."""
        if self.suspect != key:
            self.clear()
            self.suspect, self.since = key, now

    def clear(self) -> None:
        """No event is in doubt."""
        self.suspect, self.since, self.resume_at = "", 0.0, 0.0
        self.refusals = self.failures = self.doubts = 0


@dataclass
class Lane:
    """What a backend's recent answers mean for its next batch.

    `first_events` is the largest number of events in a run's first batch: fewer after the backend hung,
    which a slow one does as well that was given more than it can take in time.
    """

    max_events: int
    first_events: int = 0
    failures: int = 0
    parked: int = 0
    waits_since: float = 0.0
    resume_at: float = 0.0
    is_asked: bool = False
    state: LaneState = "delivering"
    reason: str = ""

    def is_ready(self, now: float) -> bool:
        """Tell whether a batch may be sent now; a clock that was set back makes nobody wait longer."""
        return not self.waits_since <= now < self.resume_at

    def __post_init__(self) -> None:
        self.first_events = self.first_events or self.max_events

    def hold_back(self, reason: str, now: float, until: float, hangs: int) -> None:
        """Send nothing until then: the backend hung, `hangs` times in a row."""
        self.first_events = max(1, self.max_events // SHRINK**hangs)
        self.state, self.reason = "hung", reason
        self.waits_since, self.resume_at = now, until

    def hurry(self, now: float) -> None:
        """Somebody waits: try at once, though not sooner than a few seconds after the last time.

        A pause that the backend asked for is kept.
        """
        if not self.is_asked:
            self.resume_at = min(self.resume_at, max(now, self.waits_since + HURRY_S))

    def answered(self) -> None:
        """The backend answers."""
        self.failures = 0
        self.resume_at = 0.0
        self.state, self.reason = "delivering", ""

    def succeeded(self, search: Search) -> None:
        """The last batch was answered."""
        self.answered()
        self.parked = 0
        search.clear()
        search.limit = min(self.max_events, search.limit * 2)

    def failed(
        self,
        error: Exception,
        search: Search,
        key: str,
        events: int,
        now: float,
        jitter: float,
        evidence: Evidence = "none",
    ) -> Verdict:
        """Decide on a batch of `events` events, the first of them `key`, that was not answered.

        "retry": send it again once the lane is ready; "halve": send the first half now; "again":
        the same as "retry", and the single event was refused for reasons of its own, as it seems;
        "hold": the same, but only this run waits; "park": refuse the single event for good and go
        on behind it. `evidence`: just before, the backend took back an event that it has, one of a
        like sort or another one; with "none" a server error never parks anything, and with "moot"
        neither, as no event waits behind this one.
        """
        match error:
            case ServerError() if events > 1:
                search.limit = max(1, events // SHRINK)
                self.unavailable(error, now, jitter)
            case ServerError():
                return self._doubted(error, search, key, now, jitter, evidence)
            case Unavailable() | ConnectionError() | TimeoutError() | Unauthorized() | MissingPackage():
                self.unavailable(error, now, jitter)
            case _ if events > 1:
                search.limit = max(1, events // 2)
                return "halve"
            case _:
                return self._refused(error, search, key, now, jitter)
        return "retry"

    def unavailable(self, error: Exception, now: float, jitter: float) -> None:
        """Wait: whatever was sent, the backend would not have taken it."""
        if isinstance(error, (Unauthorized, MissingPackage)):
            self.is_asked = False
            self._wait("paused", error, now, PAUSE_S)
            return
        asked_s = error.retry_after_s if isinstance(error, Unavailable) else None
        self.is_asked = bool(asked_s)
        if not asked_s:
            self.failures += 1
        wait_s = min(asked_s, MAX_RETRY_AFTER_S) if asked_s else back_off_s(self.failures, jitter)
        self._wait("backing off", error, now, wait_s)

    def _doubted(
        self, error: Exception, search: Search, key: str, now: float, jitter: float, evidence: Evidence
    ) -> Verdict:
        """Decide on a single event that met a server error: is it the event, or the server?"""
        search.suspects(key, now)
        search.failures += 1
        search.waits_since, search.resume_at = now, now + back_off_s(search.failures, jitter)
        if evidence == "none":
            self.unavailable(error, now, jitter)
            return "retry"
        search.doubts += 1
        if search.doubts >= DOUBTS and now - search.since >= _NEEDED_S[evidence]:
            return self._park(search)
        self.state = "backing off"
        self.reason = f"the backend takes other events, but not {key}: {describe(error)}"
        return "hold"

    def _refused(self, error: Exception, search: Search, key: str, now: float, jitter: float) -> Verdict:
        search.suspects(key, now)
        search.refusals += 1
        if search.refusals > 1:
            return self._park(search)
        doubled = max(1, self.parked - PARKED_IN_A_ROW + 2)
        self.is_asked = False
        self._wait("backing off", error, now, back_off_s(doubled, jitter))
        return "again"

    def _park(self, search: Search) -> Verdict:
        self.parked += 1
        self.answered()
        search.clear()
        return "park"

    def _wait(self, state: LaneState, error: Exception, now: float, wait_s: float) -> None:
        self.state, self.reason = state, describe(error)
        self.waits_since, self.resume_at = now, now + wait_s


def describe(error: BaseException) -> str:
    """Say in one line what went wrong, without the secrets that a vendor may quote."""
    text = Redaction(environment=os.environ).text(" ".join(str(error).split()) or type(error).__name__)
    return text if len(text) <= _REASON_CHARACTERS else f"{text[: _REASON_CHARACTERS - 1]}…"
