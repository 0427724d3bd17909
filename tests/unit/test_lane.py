"""The policy of a lane, as a table of what happened and what follows."""

import pytest

from mlobs.delivery.lane import (
    DOUBT_S,
    DOUBTS,
    HURRY_S,
    LONG_DOUBT_S,
    MAX_BACKOFF_S,
    MAX_RETRY_AFTER_S,
    PARKED_IN_A_ROW,
    PAUSE_S,
    SHRINK,
    Lane,
    Search,
    back_off_s,
)
from mlobs.errors import MissingPackage, ServerError, Unauthorized, Unavailable

KEY = "writer:100"


def failed(lane, error, search=None, *, events=1, now=1000.0, jitter=0.5, evidence="none"):
    search = search or Search(lane.max_events)
    return lane.failed(error, search, KEY, events, now, jitter, evidence)


def test_back_off_doubles_is_bounded_and_spread():
    waits = [back_off_s(failures, jitter=1.0) for failures in range(1, 12)]

    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert waits[-1] == MAX_BACKOFF_S
    assert back_off_s(3, jitter=0.0) == waits[2] / 2


def test_the_backends_own_retry_after_wins():
    lane = Lane(max_events=100)

    assert failed(lane, Unavailable("busy", retry_after_s=17.0), events=100) == "retry"
    assert not lane.is_ready(1016.9)
    assert lane.is_ready(1017.0)


def test_a_retry_after_of_another_clock_is_bounded():
    lane = Lane(max_events=100)
    failed(lane, Unavailable("busy", retry_after_s=1e9))

    assert lane.is_ready(1000.0 + MAX_RETRY_AFTER_S)


def test_a_clock_that_is_set_back_makes_nobody_wait_longer():
    lane = Lane(max_events=100)
    failed(lane, Unavailable("busy", retry_after_s=17.0), now=1000.0)

    assert not lane.is_ready(1001.0)
    assert lane.is_ready(500.0)


def test_a_backend_that_comes_back_after_an_hour_is_tried_every_minute_meanwhile():
    lane, now, tries = Lane(max_events=100), 1000.0, 0
    while now < 4600.0:
        assert failed(lane, Unavailable("down"), events=100, now=now, jitter=1.0) == "retry"
        tries += 1
        assert lane.resume_at - now <= MAX_BACKOFF_S
        now = lane.resume_at

    assert tries < 70


@pytest.mark.parametrize("error", [Unauthorized("no"), MissingPackage("mlflow", "mlflow")])
def test_what_retrying_cannot_mend_pauses_the_lane(error):
    lane = Lane(max_events=100)

    assert failed(lane, error) == "retry"
    assert (lane.state, lane.is_ready(1000.0 + PAUSE_S)) == ("paused", True)
    assert "pip install" in lane.reason or lane.reason == "no"


def test_an_unknown_error_halves_the_batch_down_to_the_event_at_fault():
    lane, search = Lane(max_events=100), Search(100)
    limits = []
    events = 100
    while failed(lane, ValueError("bad name"), search, events=events) == "halve":
        assert lane.is_ready(1000.0)
        limits.append(search.limit)
        events = search.limit

    assert limits == [50, 25, 12, 6, 3, 1]


def test_after_a_success_batches_grow_again():
    lane, search = Lane(max_events=100), Search(100)
    failed(lane, ValueError("bad"), search, events=100)
    lane.succeeded(search)

    assert search.limit == 100


def test_a_single_event_is_parked_when_it_is_refused_a_second_time():
    lane, search = Lane(max_events=1), Search(1)

    assert failed(lane, ValueError("bad"), search, now=0.0, jitter=1.0) == "again"
    assert (lane.is_ready(0.4), lane.is_ready(0.5)) == (False, True)
    assert failed(lane, ValueError("bad"), search, now=0.5, jitter=1.0) == "park"
    assert lane.state == "delivering"


@pytest.mark.parametrize("error", [ConnectionError("reset"), TimeoutError("slow"), BrokenPipeError()])
def test_a_lost_connection_is_never_the_events_fault(error):
    lane, search = Lane(max_events=100), Search(100)

    assert failed(lane, error, search, events=100) == "retry"
    assert all(failed(lane, error, search, now=1e6 * n, evidence="like") == "retry" for n in range(50))
    assert (lane.state, search.limit) == ("backing off", 100)


def test_refusing_everything_may_be_the_backends_fault_so_each_refusal_takes_longer():
    lane, search = Lane(max_events=1), Search(1)
    waits = []
    for _ in range(PARKED_IN_A_ROW + 9):
        failed(lane, ValueError("bad"), search, now=0.0, jitter=1.0)
        waits.append(lane.resume_at)
        assert failed(lane, ValueError("bad"), search, now=0.0, jitter=1.0) == "park"

    assert waits[:PARKED_IN_A_ROW] == [0.5] * PARKED_IN_A_ROW
    assert waits[PARKED_IN_A_ROW:] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_a_batch_that_met_a_server_error_is_an_eighth_the_next_time_and_waits():
    lane, search = Lane(max_events=1000), Search(1000)
    events, waits = 1000, []
    while events > 1:
        assert failed(lane, ServerError("500"), search, events=events, now=0.0, jitter=1.0) == "retry"
        assert search.limit == max(1, events // SHRINK)
        events = search.limit
        waits.append(lane.resume_at)

    assert waits == [0.5, 1.0, 2.0]


def test_a_server_that_answers_500_to_everything_is_an_outage_however_long():
    lane, search = Lane(max_events=1000), Search(1)

    for day in range(1000):
        assert failed(lane, ServerError("500"), search, now=day * 86400.0) == "retry"


@pytest.mark.parametrize(("evidence", "needed_s"), [("like", DOUBT_S), ("other", LONG_DOUBT_S)])
def test_an_event_that_meets_server_errors_while_others_are_taken_is_parked_at_last(evidence, needed_s):
    lane, search, now = Lane(max_events=1000), Search(1), 1000.0
    failed(lane, ServerError("500"), search, now=now)
    verdicts = []
    while not verdicts or verdicts[-1] == "hold":
        now = max(search.resume_at, now + 1.0)
        lane.answered()
        verdicts.append(failed(lane, ServerError("500"), search, now=now, evidence=evidence))

    assert verdicts[-1] == "park"
    assert len(verdicts) >= DOUBTS
    assert needed_s <= now - 1000.0 <= needed_s + MAX_BACKOFF_S


def test_while_an_event_is_in_doubt_only_its_run_waits():
    lane, search = Lane(max_events=1000), Search(1)
    failed(lane, ServerError("500"), search, now=0.0)
    lane.answered()
    assert failed(lane, ServerError("500"), search, now=1.0, jitter=1.0, evidence="like") == "hold"

    assert lane.is_ready(1.0)
    assert (search.is_ready(1.9), search.is_ready(2.0)) == (False, True)
    assert "other events" in lane.reason
    assert KEY in lane.reason


@pytest.mark.parametrize("error", [Unauthorized("no"), Unavailable("down")])
def test_when_somebody_waits_it_is_tried_at_once_but_not_every_time(error):
    lane = Lane(max_events=100)
    for _ in range(20):
        failed(lane, error, now=1000.0)

    lane.hurry(1001.0)
    assert not lane.is_ready(1001.0)
    assert lane.is_ready(1000.0 + HURRY_S)
    failed(lane, error, now=2000.0)
    lane.hurry(2010.0)
    assert lane.is_ready(2010.0)


def test_a_pause_that_the_backend_asked_for_is_kept_also_when_somebody_waits():
    lane = Lane(max_events=100)
    failed(lane, Unavailable("throttled", retry_after_s=600.0), now=1000.0)
    lane.hurry(1100.0)

    assert not lane.is_ready(1100.0)
