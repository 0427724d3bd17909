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
        assert lane.is_ready(0.0)
        limits.append(lane.limit)
        events = lane.limit

    assert limits == [50, 25, 12, 6, 3, 1]


def test_after_a_success_batches_grow_again():
    lane = Lane(max_events=100)
    lane.failed(ValueError("bad"), 100, now=0.0, jitter=0.5)
    lane.succeeded()

    assert lane.limit == 100


def test_a_single_event_is_parked_when_it_is_refused_a_second_time():
    lane = Lane(max_events=1)

    assert lane.failed(ValueError("bad"), 1, now=0.0, jitter=1.0) == "again"
    assert (lane.is_ready(0.4), lane.is_ready(0.5)) == (False, True)
    assert lane.failed(ValueError("bad"), 1, now=0.5, jitter=1.0, again=True) == "park"


@pytest.mark.parametrize("error", [ConnectionError("reset"), TimeoutError("slow"), BrokenPipeError()])
def test_a_lost_connection_is_never_the_events_fault(error):
    lane = Lane(max_events=100)

    assert lane.failed(error, events=100, now=0.0, jitter=0.5) == "retry"
    assert lane.failed(error, events=1, now=0.0, jitter=0.5, again=True) == "retry"
    assert lane.state == "backing off"


def test_refusing_everything_may_be_the_backends_fault_so_each_refusal_takes_longer():
    lane = Lane(max_events=1)
    waits = []
    for _ in range(PARKED_IN_A_ROW + 9):
        lane.failed(ValueError("bad"), 1, now=0.0, jitter=1.0)
        waits.append(lane.resume_at)
        assert lane.failed(ValueError("bad"), 1, now=0.0, jitter=1.0, again=True) == "park"

    assert waits[:PARKED_IN_A_ROW] == [0.5] * PARKED_IN_A_ROW
    assert waits[PARKED_IN_A_ROW:] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
