"""The policy of a lane, as a table of what happened and what follows."""

import pytest

from mlobs.delivery.lane import MAX_BACKOFF_S, PARKED_IN_A_ROW, PAUSE_S, Lane, back_off_s
from mlobs.errors import MissingPackage, Unauthorized, Unavailable


def test_back_off_doubles_is_bounded_and_spread():
    waits = [back_off_s(failures, jitter=1.0) for failures in range(1, 12)]

    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert waits[-1] == MAX_BACKOFF_S
    assert back_off_s(3, jitter=0.0) == waits[2] / 2


def test_the_backends_own_retry_after_wins():
    lane = Lane(max_events=100)

    assert lane.failed(Unavailable("busy", retry_after_s=17.0), events=100, now=1000.0, jitter=0.5) == "retry"
    assert not lane.is_ready(1016.9)
    assert lane.is_ready(1017.0)


@pytest.mark.parametrize("error", [Unauthorized("no"), MissingPackage("mlflow", "mlflow")])
def test_what_retrying_cannot_mend_pauses_the_lane(error):
    lane = Lane(max_events=100)

    assert lane.failed(error, events=1, now=1000.0, jitter=0.5) == "retry"
    assert (lane.state, lane.is_ready(1000.0 + PAUSE_S)) == ("paused", True)
    assert "pip install" in lane.reason or lane.reason == "no"


def test_an_unknown_error_halves_the_batch_down_to_the_event_at_fault():
    lane = Lane(max_events=100)
    limits = []
    events = 100
    while lane.failed(ValueError("bad name"), events, now=0.0, jitter=0.5) == "halve":
        limits.append(lane.limit)
        events = lane.limit

    assert limits == [50, 25, 12, 6, 3, 1]
    assert lane.is_ready(0.0)


def test_after_a_success_batches_grow_again():
    lane = Lane(max_events=100)
    lane.failed(ValueError("bad"), 100, now=0.0, jitter=0.5)
    lane.succeeded()

    assert lane.limit == 100


def test_refusing_everything_is_the_backends_fault_not_the_events():
    lane = Lane(max_events=1)
    verdicts = [lane.failed(ValueError("bad"), 1, now=0.0, jitter=0.5) for _ in range(PARKED_IN_A_ROW + 1)]

    assert verdicts == ["park"] * PARKED_IN_A_ROW + ["retry"]
    assert lane.state == "backing off"
