"""Runs that have just ended: nobody takes a snapshot for lost that a sender is still taking."""

import time

import pytest
from msgspec.structs import replace
from programs_of_runs import losses, parts
from recorded import add_writer, open_run, record_run

import mlobs
from mlobs.events import RunFinished
from mlobs.journal.process import this_process
from mlobs.journal.store import Store
from mlobs.read.record import liveness, read_run
from mlobs.repro.recipe import RECIPE_TAG, recipe_tags
from mlobs.repro.whole_run import is_being_captured, load_whole_run, wait_until_whole

NOW = time.time()
PARTS = {one.part: replace(one, at=NOW) for one in parts()}
OF_PROGRAM = [PARTS[part] for part in ("entry", "native", "seeds")]
OF_SENDER = [PARTS[part] for part in ("code", "environment")]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def leave_output(store, pid=None):
    """Do as a sender does that serves this process, or another."""
    store.senders.mkdir(parents=True, exist_ok=True)
    (store.senders / f"{pid or this_process().pid}-abc.log").touch()


def ended(store, *events, ago_s=0.0):
    """A run of this process that has ended so long ago."""
    return record_run(store, *events, *losses(0.5), at=time.time() - 60 - ago_s)


def test_a_run_that_has_just_ended_is_waited_for(store):
    leave_output(store)
    folder = ended(store, *OF_PROGRAM)
    said = []

    def finish_the_snapshot(text):
        said.append(text)
        add_writer(folder, *OF_SENDER)
        add_writer(folder, recipe_tags(read_run(folder, liveness())))

    run = load_whole_run("latest", store, finish_the_snapshot)

    assert said == ["waiting for the sender, which still captures what the run was made of"]
    assert run.snapshots.keys() >= {"code", "environment"}


def test_a_child_waits_for_the_snapshot_of_the_run_around_it(store):
    leave_output(store)
    around = ended(store, *OF_PROGRAM)
    child = record_run(store, *losses(0.1), at=time.time() - 60, parent_run_id=around.run_id)

    def finish_the_snapshot(_):
        add_writer(around, *OF_SENDER)
        for one in (around, child):
            add_writer(one, recipe_tags(read_run(one, liveness())))

    load_whole_run(child.run_id, store, finish_the_snapshot)

    assert not is_being_captured(mlobs.load_run(around.run_id, store=store))


def test_the_recipe_is_the_last_word_that_is_waited_for(store):
    leave_output(store)
    folder = ended(store, *OF_PROGRAM, *OF_SENDER)

    wait_until_whole(folder, lambda _: add_writer(folder, recipe_tags(read_run(folder, liveness()))))

    assert RECIPE_TAG in mlobs.load_run("latest", store=store).tags
    wait_until_whole(folder, pytest.fail)


def test_a_run_that_was_gone_on_with_is_captured_again(store):
    """What its first program was made of says nothing of its second."""
    leave_output(store)
    before = [replace(one, at=NOW - 3600) for one in (*OF_PROGRAM, *OF_SENDER)]
    folder = ended(store, *before, *OF_PROGRAM)
    assert is_being_captured(mlobs.load_run("latest", store=store))
    add_writer(folder, *OF_SENDER)
    add_writer(folder, recipe_tags(read_run(folder, liveness())))
    assert not is_being_captured(mlobs.load_run("latest", store=store))


def test_a_program_without_a_snapshot_that_goes_on_with_a_run_is_not_waited_for(store):
    leave_output(store)
    ended(store, *[replace(one, at=NOW - 3600) for one in OF_PROGRAM])
    load_whole_run("latest", store, pytest.fail)


def test_nobody_waits_where_no_sender_is_at_work(store):
    ended(store, *OF_PROGRAM)
    assert load_whole_run("latest", store, pytest.fail).snapshots.keys() == {"entry", "native", "seeds"}
    leave_output(store, pid=1)
    load_whole_run("latest", store, pytest.fail)


def test_nobody_waits_for_a_sender_that_was_killed_minutes_ago(store):
    leave_output(store)
    ended(store, *OF_PROGRAM, ago_s=120)
    load_whole_run("latest", store, pytest.fail)


def test_nobody_waits_for_a_snapshot_that_was_not_wished_for(store):
    leave_output(store)
    ended(store)
    load_whole_run("latest", store, pytest.fail)


def test_a_run_that_goes_on_is_read_as_it_is(store):
    leave_output(store)
    _, writer = open_run(store, *OF_PROGRAM, at=time.time())
    assert load_whole_run("latest", store, pytest.fail).status == "RUNNING"
    writer.append(RunFinished(time.time(), "FINISHED"))
    writer.close()
