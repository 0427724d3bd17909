"""Module-level calls go to the current run, and never make one."""

import asyncio
import contextvars
import threading

import pytest

import mlobs
from mlobs import api


@pytest.fixture
def tracker(tmp_path):
    api._troubles.counts.clear()  # of the process: what an earlier test was told once
    return mlobs.Tracker("unit", store=tmp_path / "store")


def last(run):
    return mlobs.load_run(run.id, store=run._opened.folder.store).last_metrics


def in_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join()


def test_calls_go_to_the_run_that_was_opened_last(tracker):
    with tracker.start_run() as outer:
        mlobs.log_metric("a", 1.0)
        with tracker.start_run() as inner:  # independent, and current
            assert inner.parent_id is None
            assert mlobs.current_run() is inner
            mlobs.log_metrics({"a": 2.0})
            with inner.child() as child:
                assert child.parent_id == inner.id
                mlobs.log_metric("a", 3.0)
            mlobs.log_param("p", 1)
        assert mlobs.current_run() is outer
        mlobs.log_metric("b", 4.0)
    assert mlobs.current_run() is None

    assert [last(run) for run in (outer, inner, child)] == [{"a": 1.0, "b": 4.0}, {"a": 2.0}, {"a": 3.0}]


def test_with_no_run_a_call_warns_once_and_is_counted(tracker, caplog):
    for value in range(3):
        mlobs.log_metric("loss", value)
        mlobs.log_metrics({"loss": value})

    assert len(caplog.messages) == 2
    assert "test_current.py" in caplog.messages[0]
    assert "no run is open - type: with mlobs.start_run()" in caplog.messages[0]
    assert api._troubles.total() == 6
    assert not (tracker.settings.store / "runs").exists() or not any(
        (tracker.settings.store / "runs").iterdir()
    )


def test_a_thread_without_a_context_uses_the_one_open_run(tracker):
    with tracker.start_run() as run, run.child():
        in_thread(mlobs.log_metric, "a", 1.0)

    assert last(run) == {"a": 1.0}


def test_a_thread_with_a_copied_context_uses_its_own(tracker):
    with tracker.start_run() as one:
        context = contextvars.copy_context()
        with tracker.start_run():
            in_thread(context.run, mlobs.log_metric, "a", 1.0)

    assert last(one) == {"a": 1.0}


def test_with_several_runs_and_no_context_a_call_warns_once_and_is_counted(tracker, caplog):
    with tracker.start_run() as one, tracker.start_run() as other:
        for _ in range(3):
            in_thread(mlobs.log_metric, "a", 1.0)

    (message,) = caplog.messages
    assert "several runs are open and none is current here" in message
    assert api._troubles.total() == 3
    assert last(one) == last(other) == {}


def test_tasks_each_have_their_own(tracker):
    async def train(number):
        with tracker.start_run() as run:
            await asyncio.sleep(0)
            mlobs.log_metric("a", float(number))
            await asyncio.sleep(0)
            assert mlobs.current_run() is run
        return run

    async def all_of_them():
        return await asyncio.gather(*(train(number) for number in range(5)))

    for number, run in enumerate(asyncio.run(all_of_them())):
        assert last(run) == {"a": float(number)}


def test_a_run_is_current_inside_of_its_with_block_whenever_it_was_opened(tracker):
    one, other = tracker.start_run(), tracker.start_run()
    with one:
        mlobs.log_metric("who", 1.0)
        with one.child() as child:
            mlobs.log_metric("who", 3.0)
        assert mlobs.current_run() is one
    assert mlobs.current_run() is other
    with other:
        mlobs.log_metric("who", 2.0)

    assert mlobs.current_run() is None
    assert [last(run) for run in (one, other, child)] == [{"who": 1.0}, {"who": 2.0}, {"who": 3.0}]


def test_child_runs_that_were_opened_before_are_current_in_turn(tracker):
    with tracker.start_run() as run:
        folds = [run.child(f"fold {number}") for number in range(3)]
        for number, fold in enumerate(folds):
            with fold:
                mlobs.log_metric("fold", float(number))
        mlobs.log_metric("all", 3.0)

    assert [last(one) for one in (*folds, run)] == [{"fold": 0.0}, {"fold": 1.0}, {"fold": 2.0}, {"all": 3.0}]


def test_in_another_thread_a_with_block_makes_its_run_current_there_alone(tracker):
    one, other = tracker.start_run(), tracker.start_run()

    def train():
        with one:
            mlobs.log_metric("who", 1.0)

    in_thread(train)
    mlobs.log_metric("who", 2.0)
    other.finish()

    assert (last(one), last(other), one.status) == ({"who": 1.0}, {"who": 2.0}, "FINISHED")


def test_tasks_enter_runs_that_were_opened_outside(tracker):
    async def train(run, number):
        with run:
            await asyncio.sleep(0)
            mlobs.log_metric("a", float(number))
            await asyncio.sleep(0)
            assert mlobs.current_run() is run

    async def all_of_them(runs):
        await asyncio.gather(*(train(run, number) for number, run in enumerate(runs)))

    with tracker.start_run() as outer:
        runs = [tracker.start_run() for _ in range(3)]
        asyncio.run(all_of_them(runs))
        assert mlobs.current_run() is outer

    assert [last(run) for run in runs] == [{"a": 0.0}, {"a": 1.0}, {"a": 2.0}]


def test_a_run_that_ends_inside_of_another_ones_block_is_not_current_behind_it(tracker):
    outer, one, other = tracker.start_run(), tracker.start_run(), tracker.start_run()
    with one:
        other.finish()
        assert mlobs.current_run() is one
        one.finish()
        assert mlobs.current_run() is outer
        with one:  # it has ended
            assert mlobs.current_run() is outer
    with tracker.start_run(), outer, outer:
        assert mlobs.current_run() is outer
    assert mlobs.current_run() is None


def test_a_run_that_has_ended_is_not_current(tracker, caplog):
    outer, inner = tracker.start_run(), tracker.start_run()
    in_thread(inner.finish)

    assert mlobs.current_run() is outer
    mlobs.log_metric("a", 1.0)
    outer.finish()
    assert last(outer) == {"a": 1.0}
    assert caplog.messages == []


def test_runs_that_end_out_of_order_leave_no_trace(tracker):
    one, two = tracker.start_run(), tracker.start_run()
    one.finish()
    assert mlobs.current_run() is two
    two.finish()
    assert mlobs.current_run() is None
