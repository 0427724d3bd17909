"""A run's status is honest whatever ended it."""

import pytest
from msgspec.structs import replace
from recorded import ELSEWHERE, add_writer, open_run, record_run, start_of, vanished_run, write_as

from mlobs.events import Metrics, RunFinished
from mlobs.journal.process import this_process
from mlobs.journal.store import Store, new_run_id
from mlobs.read.record import load_run


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    made.create()
    return made


def test_a_run_whose_process_lives_is_running(store):
    _, writer = open_run(store)
    run = load_run("latest", store=store)
    writer.close()
    assert (run.status, run.reason, run.ended, run.end) == ("RUNNING", "", None, None)


def test_a_run_whose_process_vanished_has_crashed_at_its_last_event(store):
    vanished_run(store, at=1000.0)
    run = load_run("latest", store=store)
    assert (run.status, run.reason) == ("CRASHED", "process vanished")
    assert run.ended.timestamp() == 1005.0
    assert run.last_metrics == {"loss": 1.0}


def test_an_end_that_the_sender_recorded_counts_where_the_opener_wrote_none(store):
    folder = vanished_run(store)
    add_writer(folder, RunFinished(1005.0, "CRASHED", "process vanished: pid 7"))
    run = load_run("latest", store=store)
    assert (run.status, run.reason) == ("CRASHED", "process vanished: pid 7")


def test_the_openers_own_end_wins_over_any_other(store):
    folder = record_run(store, status="KILLED")
    add_writer(folder, RunFinished(9000.0, "CRASHED", "process vanished"))
    assert load_run("latest", store=store).status == "KILLED"


def test_of_several_ends_of_the_opener_the_last_counts(store):
    record_run(store, RunFinished(1001.0, "FINISHED"), status="FAILED")
    assert load_run("latest", store=store).status == "FAILED"


def test_a_run_of_another_host_is_running_and_says_when_it_was_last_seen(store):
    folder = store.new_run(new_run_id(1000.0))
    write_as(folder, ELSEWHERE, start_of(folder.run_id), Metrics(86_400.0, 0, {"loss": 1.0}), is_opener=True)
    run = load_run("latest", store=store)
    assert (run.status, run.is_stale) == ("RUNNING", True)
    assert "no sign of life from its host since 1970-01-02 00:00:00 UTC" in run.reason
    assert run.last_seen.timestamp() == 86_400.0


def test_a_run_that_was_opened_again_has_the_status_of_its_last_opener(store):
    folder = store.new_run(new_run_id(1000.0))
    first_end = RunFinished(1500.0, "FAILED")
    write_as(folder, ELSEWHERE, start_of(folder.run_id, 1000.0), first_end, is_opener=True, at=1000.0)
    write_as(folder, ELSEWHERE, RunFinished(1600.0, "CRASHED"), at=1600.0)
    write_as(folder, this_process(), start_of(folder.run_id, 2000.0), is_opener=True, at=2000.0)
    run = load_run("latest", store=store)
    assert run.status == "RUNNING"
    assert run.started.timestamp() == 1000.0


@pytest.mark.parametrize(
    "writer", [this_process(), replace(this_process(), started=1)], ids=["lives", "gone"]
)
def test_while_the_openers_journal_is_not_here_nobody_can_say_that_the_run_has_ended(store, writer):
    folder = store.new_run(new_run_id(1000.0))
    write_as(folder, writer, Metrics(1001.0, 0, {"loss": 1.0}))
    run = load_run("latest", store=store)
    assert (run.status, run.experiment, run.start) == ("RUNNING", "", None)
    assert (run.reason, run.is_stale) == (
        "the record of the process that opened it is not in this store",
        False,
    )
