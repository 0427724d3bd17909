"""Runs that have just ended: nobody takes a snapshot for lost that a sender is still taking."""

import time
from pathlib import Path

import pytest
from msgspec.structs import replace
from programs_of_runs import losses, parts
from recorded import add_writer, open_run, record_run, start_of

import mlobs
from mlobs.events import Params, RunFinished
from mlobs.journal import locks
from mlobs.journal.process import this_process
from mlobs.journal.store import Store
from mlobs.read.record import liveness, read_run
from mlobs.repro.recipe import RECIPE_TAG, recipe_tags
from mlobs.repro.whole_run import is_being_captured, load_whole_run, wait_until_whole

OF_PROGRAM, OF_SENDER = ("entry", "native", "modules", "seeds"), ("code", "environment")  # who captures what


def taken(*names, ago_s=0.0):
    """Parts of a snapshot that were taken so long ago."""
    return [replace(one, at=time.time() - ago_s) for one in parts() if one.part in names]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def sender(store):
    """Do as a sender does that serves this process: its output is locked until it ends."""
    store.senders.mkdir(parents=True)
    with (store.senders / f"{this_process().pid}-abc.log").open("w") as output:
        locks.lock(output.fileno())
        yield output


def ended(store, *events, ago_s=0.0):
    """A run of this process that has ended so long ago."""
    return record_run(store, *events, *losses(0.5), at=time.time() - 60 - ago_s)


@pytest.mark.usefixtures("sender")
def test_a_run_that_has_just_ended_is_waited_for(store):
    folder = ended(store, *taken(*OF_PROGRAM))
    said = []

    def finish_the_snapshot(text):
        said.append(text)
        add_writer(folder, *taken(*OF_SENDER))
        add_writer(folder, recipe_tags(read_run(folder, liveness())))

    run = load_whole_run("latest", store, finish_the_snapshot)

    assert said == [f"waiting for the sender, which still captures what run {folder.run_id} was made of"]
    assert run.snapshots.keys() >= {"code", "environment"}


@pytest.mark.usefixtures("sender")
def test_a_child_waits_for_the_snapshot_of_the_run_around_it(store):
    around = ended(store, *taken(*OF_PROGRAM))
    child = record_run(store, *losses(0.1), at=time.time() - 60, parent_run_id=around.run_id)

    def finish_the_snapshot(_):
        add_writer(around, *taken(*OF_SENDER))
        for one in (around, child):
            add_writer(one, recipe_tags(read_run(one, liveness())))

    load_whole_run(child.run_id, store, finish_the_snapshot)

    assert not is_being_captured(mlobs.load_run(around.run_id, store=store))


@pytest.mark.usefixtures("sender")
def test_the_recipe_is_the_last_word_that_is_waited_for(store):
    folder = ended(store, *taken(*OF_PROGRAM, *OF_SENDER))

    wait_until_whole(folder, lambda _: add_writer(folder, recipe_tags(read_run(folder, liveness()))))

    assert RECIPE_TAG in mlobs.load_run("latest", store=store).tags
    wait_until_whole(folder, pytest.fail)


@pytest.mark.usefixtures("sender")
def test_a_run_that_was_gone_on_with_is_captured_again(store):
    """What its first program was made of says nothing of its second."""
    before = taken(*OF_PROGRAM, *OF_SENDER, ago_s=3600)
    folder = record_run(store, *before, at=time.time() - 3600)
    add_writer(folder, replace(recipe_tags(read_run(folder, liveness())), at=time.time() - 3500))
    again = start_of(folder.run_id, time.time() - 60, attempt=2)
    add_writer(folder, again, *taken(*OF_PROGRAM), Params(time.time(), {"epochs": 2}))
    add_writer(folder, RunFinished(time.time(), "FINISHED"))
    assert is_being_captured(mlobs.load_run("latest", store=store))
    add_writer(folder, *taken(*OF_SENDER))
    assert is_being_captured(mlobs.load_run("latest", store=store))
    add_writer(folder, recipe_tags(read_run(folder, liveness())))
    assert not is_being_captured(mlobs.load_run("latest", store=store))


@pytest.mark.usefixtures("sender")
def test_a_program_without_a_snapshot_that_goes_on_with_a_run_is_not_waited_for(store):
    ended(store, *taken(*OF_PROGRAM, ago_s=3600))
    load_whole_run("latest", store, pytest.fail)


def test_nobody_waits_where_no_sender_is_at_work(store, sender):
    Path(sender.name).rename(store.senders / "1-abc.log")  # another program's
    ended(store, *taken(*OF_PROGRAM))
    assert load_whole_run("latest", store, pytest.fail).snapshots.keys() == set(OF_PROGRAM)


def test_nobody_waits_for_a_sender_that_was_killed(store, sender):
    sender.close()
    ended(store, *taken(*OF_PROGRAM))
    load_whole_run("latest", store, pytest.fail)
    wait_until_whole(Store(store.path).find("latest"), pytest.fail)


def test_without_locks_a_minute_is_the_most(store, sender, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    sender.close()
    folder = ended(store, *taken(*OF_PROGRAM))
    assert is_being_captured(read_run(folder, liveness()))


@pytest.mark.usefixtures("sender")
def test_nobody_waits_minutes_after_the_end(store):
    ended(store, *taken(*OF_PROGRAM), ago_s=120)
    load_whole_run("latest", store, pytest.fail)


@pytest.mark.usefixtures("sender")
def test_nobody_waits_for_a_snapshot_that_was_not_wished_for(store):
    ended(store)
    load_whole_run("latest", store, pytest.fail)


@pytest.mark.usefixtures("sender")
def test_a_run_that_goes_on_is_read_as_it_is(store):
    _, writer = open_run(store, *taken(*OF_PROGRAM), at=time.time() - 1)
    assert load_whole_run("latest", store, pytest.fail).status == "RUNNING"
    writer.append(RunFinished(time.time(), "FINISHED"))
    writer.close()
