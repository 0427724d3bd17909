"""A run's handle in other processes: what they record is in the run, and they never end it."""

import pickle
import shutil
import subprocess
import sys

import pytest
from programs import (
    board_points,
    delivered,
    environment,
    eventually,
    local_points,
    mlflow_runs,
    only_run,
    run,
    run_ids,
    running,
    sender_of,
    write,
)

import mlobs
from mlobs.delivery.state import States
from mlobs.events import Params
from mlobs.journal.store import Store
from mlobs.sender.foreground import sync

pytestmark = pytest.mark.slow

WORKERS = """
import multiprocessing, os, signal, sys, threading, time
import mlobs

def work(handle, number):
    with handle.attach() as run:
        assert run.id == handle.run_id
        assert mlobs.current_run() is run
        for step in range(100):
            mlobs.log_metric(f"worker {number}", step / 7, step=step)
        run.set_tag(f"tag {number}", "set")
        run.log_text(f"note {number}", "text")
        with run.child(f"trial {number}") as trial:
            trial.log_metric("score", float(number))
        assert run.status == "RUNNING"
    assert not run.is_open
    assert mlobs.current_run() is None
"""
IN_PROCESSES = """
if __name__ == "__main__":
    tracker = mlobs.Tracker("attached", store="store", backends=["tensorboard"])
    with tracker.start_run("outer", params={"lr": 0.1}) as run:
        run.log_metric("own", 0.0, step=0)
        handle = run.handle()
        context = multiprocessing.get_context(sys.argv[1])
        workers = [context.Process(target=work, args=(handle, number)) for number in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        assert run.is_open
        run.log_metric("own", 1.0, step=1)
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_workers_record_into_the_run_that_they_are_handed(tmp_path, method):
    if method == "fork":  # there the parent's run is current too, which the worker inherits
        source = WORKERS.replace("assert mlobs.current_run() is None", "") + IN_PROCESSES
    else:
        source = WORKERS + IN_PROCESSES
    done = run(tmp_path, source, method, timeout_s=180, MLOBS_FINISH_TIMEOUT_S="150")

    assert (done.returncode, done.stderr) == (0, "")
    found = {one.name: one for one in records(tmp_path)}
    assert set(found) == {"outer", "trial 0", "trial 1", "trial 2"}
    outer = found["outer"]
    assert (outer.status, outer.reason, outer.damage) == ("FINISHED", "", ())
    assert len(Store(tmp_path / "store").run(outer.run_id).journals()) == 4
    assert local_points(tmp_path, outer.run_id, "own") == [(0, 0.0), (1, 1.0)]
    assert delivered(tmp_path, outer.run_id, "tensorboard")
    for number in range(3):
        assert local_points(tmp_path, outer.run_id, f"worker {number}") == [(n, n / 7) for n in range(100)]
        assert len(board_points(tmp_path, outer.run_id, f"worker {number}", "runs")) == 100
        assert outer.tags[f"tag {number}"] == "set"
        assert found[f"trial {number}"].parent_run_id == outer.run_id
        eventually(lambda trial=found[f"trial {number}"]: delivered(tmp_path, trial.run_id, "tensorboard"))


def record(folder, run_id):
    return mlobs.load_run(run_id, store=folder / "store")


def records(folder):
    return [record(folder, run_id) for run_id in run_ids(folder)]


ENDS = {
    "by the end of the context": ("with handle.attach() as run:\n    run.log_metric('x', 1.0)", 0),
    "by finish()": ("run = handle.attach()\nrun.log_metric('x', 1.0)\nrun.finish('FAILED')", 0),
    "by the end of the program": ("run = handle.attach()\nrun.log_metric('x', 1.0)", 0),
    "by an exception": (
        "with handle.attach() as run:\n    run.log_metric('x', 1.0)\n    1 / 0",
        1,
    ),
    "by SIGKILL": (
        "run = handle.attach()\nrun.log_metric('x', 1.0)\nos.kill(os.getpid(), signal.SIGKILL)",
        -9,
    ),
    "by SIGTERM": (
        "run = handle.attach()\nrun.log_metric('x', 1.0)\nos.kill(os.getpid(), signal.SIGTERM)",
        -15,
    ),
}


@pytest.mark.parametrize("way", ENDS)
def test_however_an_attached_process_ends_the_run_goes_on(tmp_path, way):
    source, code = ENDS[way]
    tracker = mlobs.Tracker("attached", store=tmp_path / "store")
    with tracker.start_run() as outer:
        done = attached(tmp_path, outer, source)
        assert done.returncode == code, done.stderr
        assert outer.is_open
        assert only_run(tmp_path).status == "RUNNING"
        outer.log_metric("own", 1.0)

    assert (only_run(tmp_path).status, only_run(tmp_path).reason) == ("FINISHED", "")
    assert only_run(tmp_path).last_metrics == {"x": 1.0, "own": 1.0}


def attached(folder, outer, source, **env):
    """Run a program to its end that has the run's `handle`."""
    (folder / "handle").write_bytes(pickle.dumps(outer.handle()))
    return run(folder, ATTACHING + source, **env)


ATTACHING = """
import os, pathlib, pickle, signal, sys, time
import mlobs
handle = pickle.loads(pathlib.Path("handle").read_bytes())
"""


def test_an_attached_process_delivers_itself_where_the_runs_program_is_gone(tmp_path):
    begin = """
import pathlib, pickle
import mlobs
tracker = mlobs.Tracker("attached", store="store", backends=["tensorboard"])
with tracker.start_run("outer") as run:
    run.log_metric("own", 1.0)
    pathlib.Path("handle").write_bytes(pickle.dumps(run.handle()))
"""
    assert run(tmp_path, begin).returncode == 0
    run_id = only_run(tmp_path).run_id
    later = """
with handle.attach() as run:
    run.log_metric("late", 2.0)
print(run.delivery()["tensorboard"].pending)
"""
    done = run(tmp_path, ATTACHING + later)

    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    assert only_run(tmp_path).status == "FINISHED"
    assert board_points(tmp_path, run_id, "own", "runs") == [(0, 1.0)]
    assert board_points(tmp_path, run_id, "late", "runs") == [(0, 2.0)]


def test_what_comes_after_the_end_is_sent_while_the_runs_program_still_lives(tmp_path):
    backends = [mlobs.backends.TensorBoard(str(tmp_path / "board"))]
    tracker = mlobs.Tracker("attached", store=tmp_path / "store", backends=backends, delivery="thread")
    with tracker.start_run() as outer:
        outer.log_metric("own", 1.0)
    eventually(lambda: delivered(tmp_path, outer.id, "tensorboard"))

    done = attached(tmp_path, outer, "with handle.attach() as run: run.log_metric('late', 2.0)")

    assert (done.returncode, done.stderr) == (0, "")
    eventually(lambda: delivered(tmp_path, outer.id, "tensorboard"), timeout_s=30)
    assert board_points(tmp_path, outer.id, "late") == [(0, 2.0)]


def test_a_handle_holds_no_secret_and_finds_it_where_it_is_attached(tmp_path):
    backend = mlobs.backends.MLflow("https://user:open-sesame@127.0.0.1:9", password="open-sesame")
    tracker = mlobs.Tracker("attached", store=tmp_path / "store", backends=[backend], mode="offline")
    with tracker.start_run() as outer:
        content = pickle.dumps(outer.handle())

    assert b"open-sesame" not in content
    assert b"127.0.0.1:9" in content
    assert len(content) < 1500


def test_on_a_host_that_cannot_reach_the_store_the_record_waits_to_be_brought_together(tmp_path):
    tracker = mlobs.Tracker("attached", store=tmp_path / "store", backends=["tensorboard"], mode="offline")
    source = """
with handle.attach(store="elsewhere") as run:
    run.log_metric("there", 2.0)
    run.log_text("note", "written there")
"""
    with tracker.start_run("outer") as outer:
        done = attached(tmp_path, outer, source)
        outer.log_metric("here", 1.0)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(only_run(tmp_path).last_metrics) == {"here"}
    there = mlobs.load_run(outer.id, store=tmp_path / "elsewhere")
    assert (there.status, there.last_metrics) == ("RUNNING", {"there": 2.0})
    assert there.reason == "the record of the process that opened it is not in this store"

    shutil.copytree(tmp_path / "elsewhere", tmp_path / "store", dirs_exist_ok=True)  # as rsync does

    found = only_run(tmp_path)
    assert (found.status, found.last_metrics) == ("FINISHED", {"here": 1.0, "there": 2.0})
    assert found.artifacts[0].text() == "written there"
    (synced,) = sync(Store(tmp_path / "store").runs())
    assert synced.is_settled
    assert len(synced.reports) == 1


def test_a_process_without_the_runs_start_says_what_its_record_waits_for(tmp_path):
    tracker = mlobs.Tracker("attached", store=tmp_path / "store", backends=["tensorboard"], delivery="thread")
    with tracker.start_run() as outer:
        done = attached(
            tmp_path, outer, "with handle.attach(store='elsewhere') as run: run.log_metric('x', 1.0)"
        )

    assert done.returncode == 0
    assert "once the run's start is in this store too" in done.stderr
    assert "mlobs sync --store" in done.stderr


def test_of_two_values_of_a_param_the_first_counts_everywhere(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    backends = [mlobs.backends.MLflow(uri), mlobs.backends.TensorBoard(str(tmp_path / "board"))]
    tracker = mlobs.Tracker("attached", store=tmp_path / "store", backends=backends, delivery="thread")
    with tracker.start_run(params={"lr": 0.1}) as outer:
        done = attached(
            tmp_path, outer, "with handle.attach() as run: run.log_params({'lr': 0.5, 'depth': 3})"
        )
        assert (done.returncode, done.stderr) == (0, "")

    assert only_run(tmp_path).params == {"lr": 0.1, "depth": 3}
    reports = outer.delivery()
    assert [reports["mlflow"].rejected, reports["tensorboard"].rejected] == [0, 0]
    (there,) = mlflow_runs(uri, "attached")[outer.id]
    assert there.data.params == {"lr": "0.1", "depth": "3"}
    assert there.data.tags["mlobs.param_conflict.lr"] == "0.5"
    board = mlobs.backends.TensorBoard(str(tmp_path / "board")).source()
    ref = States(Store(tmp_path / "store").run(outer.id).delivery).refresh().of("tensorboard").ref
    values = [one.values for one in board.read(ref) if isinstance(one, Params)]
    assert values == [{"lr": 0.1, "depth": 3}]


def test_a_disabled_runs_handle_records_nothing(tmp_path):
    with mlobs.Tracker("attached", store=tmp_path / "store", mode="disabled").start_run() as outer:
        handle = pickle.loads(pickle.dumps(outer.handle()))
        with handle.attach() as same:
            same.log_metric("loss", 1.0)
            assert same.id == outer.id

    assert not (tmp_path / "store").exists()


def test_a_run_itself_is_not_pickled_but_says_what_is(tmp_path):
    tracker = mlobs.Tracker("attached", store=tmp_path / "store")
    words = r"send run\.handle\(\) instead, and call attach\(\)"
    with tracker.start_run() as outer, pytest.raises(mlobs.UsageError, match=words):
        pickle.dumps(outer)


def test_a_handle_of_a_handle_and_of_a_child_work_too(tmp_path):
    with mlobs.Tracker("attached", store=tmp_path / "store").start_run() as outer:
        with outer.child("below") as child, child.handle().attach() as first:
            with first.handle().attach() as second:
                second.log_metric("deep", 1.0)
            assert first.is_open
            assert mlobs.current_run() is first
            assert first.parent_id == outer.id
        assert child.status == "FINISHED"

    below = record(tmp_path, child.id)
    assert (below.name, below.last_metrics, below.parent_run_id) == ("below", {"deep": 1.0}, outer.id)


def test_sixteen_processes_attach_at_once(tmp_path):
    source = """
with handle.attach() as run:
    for step in range(500):
        run.log_metric(f"of {sys.argv[1]}", step, step=step)
"""
    program = write(tmp_path, ATTACHING + source)
    with mlobs.Tracker("attached", store=tmp_path / "store").start_run() as outer:
        (tmp_path / "handle").write_bytes(pickle.dumps(outer.handle()))
        started = [
            subprocess.Popen([sys.executable, str(program), str(n)], cwd=tmp_path, env=environment())
            for n in range(16)
        ]
        assert [one.wait(timeout=120) for one in started] == [0] * 16

    assert only_run(tmp_path).damage == ()
    for number in range(16):
        points = local_points(tmp_path, outer.id, f"of {number}")
        assert points == [(step, float(step)) for step in range(500)]


def test_when_the_opener_is_killed_its_run_has_crashed_and_what_was_attached_is_kept(tmp_path):
    opening = """
import pathlib, pickle, time
import mlobs
run = mlobs.Tracker("attached", store="store", backends=["tensorboard"]).start_run("outer")
pathlib.Path("handle.new").write_bytes(pickle.dumps(run.handle()))
pathlib.Path("handle.new").rename("handle")
time.sleep(600)
"""
    with running(tmp_path, opening) as opener:
        eventually((tmp_path / "handle").exists)
        run_id = only_run(tmp_path).run_id
        eventually(lambda: sender_of(tmp_path, run_id))
        source = """
with handle.attach() as run:
    run.log_metric("x", 1.0)
    pathlib.Path("attached").touch()
    while not pathlib.Path("killed").exists():
        time.sleep(0.01)
    run.log_metric("x", 2.0)
"""
        program = write(tmp_path, ATTACHING + source, "attaching.py")
        worker = subprocess.Popen([sys.executable, str(program)], cwd=tmp_path, env=environment())
        eventually((tmp_path / "attached").exists)
        opener.kill()
        opener.wait()
        (tmp_path / "killed").touch()
        assert worker.wait(timeout=60) == 0

    assert only_run(tmp_path).status == "CRASHED"
    assert local_points(tmp_path, run_id, "x") == [(0, 1.0), (1, 2.0)]
    eventually(lambda: delivered(tmp_path, run_id, "tensorboard"))
    assert board_points(tmp_path, run_id, "x", "runs") == [(0, 1.0), (1, 2.0)]
