"""Who names the recipe of which run, and when: the sender's thread that captures, driven by hand."""

import time

import pytest
from msgspec.structs import replace
from programs_of_runs import losses, parts
from recorded import open_run, record_run

import mlobs
from mlobs.events import RunFinished
from mlobs.journal.process import this_process
from mlobs.journal.store import Store
from mlobs.repro.recipe import RECIPE_TAG, recipe_of
from mlobs.sender import capturer as capturing
from mlobs.sender.capturer import Capturer

OTHER = replace(this_process(), pid=1)  # of this host, and long gone


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def capturer():
    capturer = Capturer(this_process())
    yield capturer
    capturer.finish(30)


def whole(store, **facts):
    """A run that has ended with its snapshot, but without the word that ends it: its recipe."""
    taken = [replace(one, at=time.time()) for one in parts()]
    return record_run(store, *taken, *losses(0.5), at=time.time() - 60, **facts)


def child_of(folder, store, **facts):
    return record_run(store, *losses(0.1), at=time.time() - 30, parent_run_id=folder.run_id, **facts)


def named(folder):
    """Whether the recipe that a run's tag says is the one that its record has."""
    run = mlobs.load_run(folder.run_id, store=folder.store)
    assert run.tags.get(RECIPE_TAG) in (None, recipe_of(run).key)
    return RECIPE_TAG in run.tags


def test_children_that_other_processes_opened_are_named_at_the_end_of_the_program(store, capturer):
    root = whole(store)
    ended = child_of(root, store, process=OTHER)
    goes_on, writer = open_run(store, parent_run_id=root.run_id, at=time.time() - 20, process=OTHER)

    capturer.open(root, "auto")
    capturer.ended(root)
    capturer.finish(30)

    assert [named(one) for one in (root, ended, goes_on)] == [True, True, False]
    writer.close()


def test_a_child_of_an_attached_process_is_not_named_before_the_run_around_it(store, capturer):
    taken = [replace(one, at=time.time()) for one in parts()]
    root, writer = open_run(store, *taken, at=time.time() - 60, process=OTHER)
    child = child_of(root, store)

    capturer.ended(child)
    capturer.finish(30)
    assert not named(child)

    writer.append(RunFinished(time.time(), "FINISHED"))
    writer.close()
    program = Capturer(OTHER)
    program.open(root, "auto")
    program.ended(root)
    program.finish(30)
    assert [named(one) for one in (root, child)] == [True, True]


def test_a_child_that_ends_after_an_attached_process_saw_its_root_named_has_its_recipe(store, capturer):
    root = whole(store, process=OTHER)
    program = Capturer(OTHER)
    program.open(root, "auto")
    program.ended(root)
    program.finish(30)
    late = child_of(root, store)

    capturer.ended(late)
    capturer.finish(30)

    assert named(late)


def test_a_child_that_cannot_be_read_costs_the_others_nothing(store, capturer, monkeypatch, caplog):
    root = whole(store)
    children = [child_of(root, store) for _ in range(3)]

    def read_run(folder, is_alive):
        if folder.path == children[1].path:
            raise PermissionError("another user's")
        return real(folder, is_alive)

    real = capturing.read_run
    monkeypatch.setattr(capturing, "read_run", read_run)
    capturer.open(root, "auto")
    for one in children:
        capturer.ended(one)
    capturer.ended(root)
    capturer.finish(30)

    assert [named(one) for one in (root, *children)] == [True, True, False, True]
    assert "another user's" in caplog.text


def test_a_run_is_wanted_until_its_recipe_is_recorded(store, capturer):
    root = whole(store)
    assert not capturer.wants(root.path)
    capturer.open(root, "auto")
    assert capturer.wants(root.path)
    capturer.ended(root)
    capturer.finish(30)
    assert not capturer.wants(root.path)
