"""The policy of one backend's lane: when to send, how much, and what a failure means.

No thread, no clock, no I/O: the host says what happened and what time it is, the lane decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlobs.delivery.state import LaneState
from mlobs.errors import MissingPackage, Unauthorized, Unavailable

Verdict: TypeAlias = Literal["retry", "again", "halve", "park"]

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 60.0
PAUSE_S = (
    300.0  # a set-up that is refused or incomplete is tried again this often: somebody may have mended it
)
_REASON_CHARACTERS = 500  # vendors quote whole requests in their messages
PARKED_IN_A_ROW = 5  # so many refused one after the other: perhaps not the events, but the backend


def back_off_s(failures: int, jitter: float) -> float:
    """Seconds to wait after so many failures in a row; `jitter` in [0, 1) spreads many clients."""
    return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 16)) * (0.5 + jitter / 2)


@dataclass
class Lane:
    """What a backend's recent answers mean for its next batch.

    `limit` is the largest number of events that the next batch may hold: `max_events`, less while
    the event at fault in a refused batch is searched by halving.
    """

    max_events: int
    limit: int = 0
    failures: int = 0
    parked: int = 0
    resume_at: float = 0.0
    state: LaneState = "delivering"
    reason: str = ""

    def __post_init__(self) -> None:
        self.limit = self.max_events

    def is_ready(self, now: float) -> bool:
        """Tell whether a batch may be sent now."""
        return now >= self.resume_at

    def succeeded(self) -> None:
        """The last batch was answered."""
        self.failures = self.parked = 0
        self.resume_at = 0.0
        self.state, self.reason = "delivering", ""
        self.limit = min(self.max_events, self.limit * 2)

    def failed(
        self, error: Exception, events: int, now: float, jitter: float, *, again: bool = False
    ) -> Verdict:
        """Decide on a batch of `events` events that was not answered.

        "retry": send it again once the lane is ready; "halve": send the first half now; "again":
        the same as "retry", and the single event was refused for reasons of its own, as it seems;
        "park": it was so `again`, refuse it for good and go on behind it. The wait before that
        grows when many are parked in a row.
        """
        match error:
            case Unavailable():
                self._wait("backing off", error, now, error.retry_after_s or self._next_back_off_s(jitter))
            case ConnectionError() | TimeoutError():
                self._wait("backing off", error, now, self._next_back_off_s(jitter))
            case Unauthorized() | MissingPackage():
                self._wait("paused", error, now, PAUSE_S)
            case _ if events > 1:
                self.limit = max(1, events // 2)
                return "halve"
            case _ if again:
                self.parked += 1
                return "park"
            case _:
                doubled = max(1, self.parked - PARKED_IN_A_ROW + 2)
                self._wait("backing off", error, now, back_off_s(doubled, jitter))
                return "again"
        return "retry"

    def _next_back_off_s(self, jitter: float) -> float:
        self.failures += 1
        return back_off_s(self.failures, jitter)

    def _wait(self, state: LaneState, error: Exception, now: float, wait_s: float) -> None:
        self.state, self.reason = state, describe(error)
        self.resume_at = now + wait_s


def describe(error: BaseException) -> str:
    """Say in one line what went wrong."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _REASON_CHARACTERS else f"{text[: _REASON_CHARACTERS - 1]}…"
