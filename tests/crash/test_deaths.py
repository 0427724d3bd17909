"""Deaths that leave a program no time, and ends of threads: the status is true here and in every backend."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from programs import (
    board_points,
    delivered,
    environment,
    eventually,
    mlflow_runs,
    only_run,
    run,
    run_ids,
    write,
)

import mlobs

START = """
import collections, ctypes, itertools, os, pathlib, signal, sqlite3, sys, threading, time
import mlobs
tracker = mlobs.Tracker("deaths", store="store")

def in_thread(act):
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
"""

DEATHS = {
    "os.abort": ("tracker.start_run()\nos.abort()", -6, "CRASHED", "process vanished"),
    "SIGQUIT": ("tracker.start_run()\nos.kill(os.getpid(), signal.SIGQUIT); time.sleep(9)",
        -3, "CRASHED", "process vanished"),
    "out of memory, as an exception": (
        "with tracker.start_run(): bytearray(1 << 62)", 1, "FAILED", "MemoryError"),
    "SIGTERM to a run of another thread": (
        "in_thread(tracker.start_run)\nos.kill(os.getpid(), 15); time.sleep(9)",
        -15, "CRASHED", "process vanished"),
    "SIGTERM to a run of another thread, after one of the main thread": (
        "tracker.start_run().finish()\nin_thread(tracker.start_run)\nos.kill(os.getpid(), 15); time.sleep(9)",
        -15, "KILLED", "SIGTERM"),
    "an exception in the thread that opened the run": (
        "def work():\n    tracker.start_run()\n    raise ValueError('no data')\nin_thread(work)",
        0, "FAILED", "ValueError: no data"),
    "an exception in the context of a thread": (
        "def work():\n    with tracker.start_run(): raise ValueError('no data')\nin_thread(work)",
        0, "FAILED", "ValueError: no data"),
    "an exception in another thread than the run's": (
        "tracker.start_run()\ndef work(): raise ValueError('no data')\nin_thread(work)", 0, "FINISHED", ""),
    "sys.exit(3) of the thread that opened the run": (
        "def work():\n    tracker.start_run()\n    sys.exit(3)\nin_thread(work)", 0, "FAILED", "sys.exit(3)"),
    "the end of the thread that opened the run": ("in_thread(tracker.start_run)", 0, "FINISHED", ""),
    "Ctrl-C twice": (
        "tracker.start_run()\ntry: os.kill(os.getpid(), 2)\nfinally: os.kill(os.getpid(), 2)",
        -2, "KILLED", "SIGINT"),
}  # fmt: skip


@pytest.mark.parametrize("death", DEATHS)
def test_the_status_is_true_and_the_exit_code_unchanged(tmp_path, death):
    source, exit_code, status, reason = DEATHS[death]

    done = run(tmp_path, START + source)

    assert done.returncode == exit_code, done.stderr
    record = mlobs.load_run(run_ids(tmp_path)[-1], store=tmp_path / "store")
    assert (record.status, record.reason) == (status, reason)
    if "in_thread(work)" in source and status == "FAILED" and "sys.exit" not in source:
        assert "ValueError: no data" in done.stderr
        assert record.end.traceback.startswith("Traceback")


HOOKED = """
threading.excepthook = lambda args: print("mine:", args.exc_value)
tracker.start_run("main")

def work():
    tracker.start_run("worker")
    raise ValueError("no data")

in_thread(work)
"""


def test_hooks_for_threads_that_were_there_before_still_run(tmp_path):
    done = run(tmp_path, START + HOOKED)

    assert done.stdout.strip() == "mine: no data", done.stderr
    main, worker = (mlobs.load_run(one, store=tmp_path / "store") for one in run_ids(tmp_path))
    assert (main.status, worker.status) == ("FINISHED", "FAILED")


STUCK = {
    "in a query": "sqlite3.connect(':memory:').execute("
    "'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT max(i) FROM n')",
    "with the interpreter's lock": "collections.deque(itertools.repeat(0), maxlen=0)",
}


@pytest.mark.parametrize("where", STUCK)
def test_a_main_thread_that_is_stuck_in_c_is_crashed_when_it_is_killed(tmp_path, where):
    """Python runs no handler while C does not return: first SIGTERM, as schedulers do, then SIGKILL."""
    source = START + f"tracker.start_run().log_metric('a', 1)\npathlib.Path('stuck').touch()\n{STUCK[where]}"
    path = write(tmp_path, source)
    program = subprocess.Popen([sys.executable, str(path)], cwd=tmp_path, env=environment())
    try:
        eventually((tmp_path / "stuck").exists)
        program.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(timeout=1)
        assert only_run(tmp_path).status == "RUNNING"
    finally:
        program.kill()
        program.wait()

    record = only_run(tmp_path)
    assert (record.status, record.reason) == ("CRASHED", "process vanished")
    assert record.last_metrics == {"a": 1.0}


def memory_group():
    """The folder and the limit's file of a new control group of memory, of either version."""
    root, name = Path("/sys/fs/cgroup"), f"mlobs-test-{os.getpid()}"
    if (root / "memory/memory.limit_in_bytes").exists():
        return root / "memory" / name, "memory.limit_in_bytes"
    if "memory" in (root / "cgroup.controllers").read_text().split():
        return root / name, "memory.max"
    raise FileNotFoundError("no controller of memory")


@pytest.fixture
def small_memory():
    """A control group whose processes may have 60 MB of memory together."""
    try:
        group, limit = memory_group()
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group of memory can be made here: {error}")
    try:
        (group / limit).write_text("60000000")
        yield group
        eventually(lambda: not (group / "cgroup.procs").read_text().strip(), timeout_s=30)
    finally:
        group.rmdir()


def test_a_program_that_runs_out_of_memory_is_crashed_with_all_that_it_recorded(tmp_path, small_memory):
    source = f"""
    import os
    import mlobs
    run = mlobs.Tracker("deaths", store="store").start_run()
    with open("{small_memory}/cgroup.procs", "w") as group:
        group.write(str(os.getpid()))
    kept = []
    for step in range(300):  # of which each takes a megabyte
        run.log_metric("a", 1.0, step=step)
        kept.append(bytes(1_000_000).replace(b"\\0", b"x"))
    """
    done = run(tmp_path, source)

    assert done.returncode == -signal.SIGKILL, done.stderr
    record = only_run(tmp_path)
    assert (record.status, record.reason) == ("CRASHED", "process vanished")
    steps = mlobs.metrics(store=tmp_path / "store")["step"].tolist()
    assert steps == list(range(len(steps)))
    assert len(steps) > 10


EVERYWHERE = """
import os, sys
import mlobs
from mlobs.backends import MLflow, TensorBoard
backends = [MLflow(tracking_uri="sqlite:///mlflow.db"), TensorBoard(logdir="board")]
run = mlobs.Tracker("deaths", backends=backends, store="store").start_run(sys.argv[1])
run.log_metric("a", 1.0, step=0)
if sys.argv[1] == "segfault":
    import ctypes
    ctypes.string_at(0)
elif sys.argv[1] == "abort":
    os.abort()
elif sys.argv[1] == "_exit":
    os._exit(0)
elif sys.argv[1] == "thread":
    import threading
    def work():
        mlobs.current_run().child("fold").log_metric("a", 1.0, step=0)
        raise ValueError("no data")
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""


@pytest.mark.slow
def test_every_backend_is_told_what_ended_the_run(tmp_path):
    for death in ("segfault", "abort", "_exit", "thread"):
        run(tmp_path, EVERYWHERE, death)
    ids = run_ids(tmp_path)
    assert len(ids) == 5
    eventually(lambda: all(delivered(tmp_path, run_id, "mlflow", "tensorboard") for run_id in ids))

    there = mlflow_runs(f"sqlite:///{tmp_path}/mlflow.db", "deaths")
    for run_id in ids:
        record = mlobs.load_run(run_id, store=tmp_path / "store")
        (vendors,) = there[run_id]
        expected = {"FINISHED": "FINISHED"}.get(record.status, "FAILED")
        assert vendors.info.status == expected
        assert vendors.data.tags.get("mlobs.reason", "") == record.end.reason
        assert vendors.data.tags.get("mlobs.status", record.status) == record.status
        assert board_points(tmp_path, run_id, "a") == [(0, 1.0)]
    statuses = [mlobs.load_run(run_id, store=tmp_path / "store").status for run_id in ids]
    assert statuses == ["CRASHED", "CRASHED", "CRASHED", "FINISHED", "FAILED"]
