"""Nobody answers: the training does not notice, the script ends in time, and `mlobs sync` sends the rest."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from programs import (
    board_points,
    delivered,
    environment,
    eventually,
    local_points,
    mlflow_points,
    mlflow_runs,
    note_figures,
    only_run,
    run,
    run_ids,
    running,
    sender_of,
)
from servers import free_port, mlflow_server

import mlobs

FINISH_S = 5.0
STEPS = 3000

WAIT = """
while not run.delivery()["tensorboard"].delivered:
    time.sleep(0.01)
"""
STOP = """
import os, signal
from mlobs.program import program
os.kill(next(iter(program()._senders.values()))._process.pid, signal.SIGSTOP)
os._exit(0)
"""
OFFLINE = f"""
import json, sys, time
import mlobs
backends = [mlobs.backends.MLflow(sys.argv[1]), mlobs.backends.TensorBoard("board")]
tracker = mlobs.Tracker("outage", backends=backends, store="store", finish_timeout_s={FINISH_S})
clock = time.perf_counter
started = clock()
run = tracker.start_run(params={{"lr": 0.1}})
start_s, calls = clock() - started, []
for step in range({STEPS}):
    time.sleep(0.001)
    before = clock()
    run.log_metric("loss", step / 7, step=step)
    calls.append(clock() - before)
run.log_text("notes", "all is well")
ended = clock()
run.finish()
print(json.dumps({{"start_s": start_s, "median_s": sorted(calls)[len(calls) // 2], "longest_s": max(calls),
                  "finish_s": clock() - ended}}))
"""


def sync(folder, *arguments):
    """Type `mlobs sync` in the program's folder."""
    command = [sys.executable, "-m", "mlobs", "sync", "--store", "store", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=180, check=False
    )


@pytest.mark.slow
def test_a_dead_server_costs_nothing_and_sync_delivers_everything_once(tmp_path):
    port = free_port()

    done = run(tmp_path, OFFLINE, f"http://127.0.0.1:{port}")

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    note_figures(**figures)
    assert figures["start_s"] < 0.1
    assert figures["median_s"] < 100e-6
    assert figures["longest_s"] < 0.1
    assert figures["finish_s"] < FINISH_S + 1
    run_id = only_run(tmp_path).run_id
    assert f"mlflow: 0 delivered, {STEPS + 4:,} pending" in done.stderr
    assert f"mlobs sync --store {tmp_path}/store" in done.stderr
    eventually(lambda: delivered(tmp_path, run_id, "tensorboard"))  # a dead backend delays nobody
    lingering = eventually(lambda: sender_of(tmp_path, run_id))

    with mlflow_server(tmp_path, port) as uri:
        synced = sync(tmp_path)
        assert synced.returncode == 0, synced.stdout + synced.stderr
        again = sync(tmp_path)
        assert again.returncode == 0, again.stdout + again.stderr

        expected = [(step, step / 7) for step in range(STEPS)]
        (there,) = mlflow_runs(uri, "outage")[run_id]
        assert there.info.status == "FINISHED"
        assert there.data.params == {"lr": "0.1"}
        assert mlflow_points(uri, there.info.run_id, "loss") == expected
    assert local_points(tmp_path, run_id, "loss") == expected
    assert [step for step, _ in board_points(tmp_path, run_id, "loss")] == list(range(STEPS))
    assert sender_of(tmp_path, run_id) is None, f"{lingering} did not leave the run to sync"


def test_sync_takes_over_from_a_sender_that_has_not_noticed_the_end_yet(tmp_path):
    source = OFFLINE.replace(f"finish_timeout_s={FINISH_S}", "finish_timeout_s=0").replace(str(STEPS), "10")
    source = source.replace("run.finish()", WAIT + "run.finish()") + STOP
    assert run(tmp_path, source, f"http://127.0.0.1:{free_port()}").returncode == 0
    sender = sender_of(tmp_path, only_run(tmp_path).run_id)
    waking = threading.Timer(2.0, os.kill, (sender.pid, signal.SIGCONT))
    waking.start()

    synced = sync(tmp_path, "--backend", "tensorboard")

    waking.join()
    assert synced.returncode == 0, synced.stdout + synced.stderr
    assert delivered(tmp_path, only_run(tmp_path).run_id, "tensorboard")


INTERRUPTED = """
import sys, time
import mlobs
backends = [mlobs.backends.MLflow(sys.argv[1])]
tracker = mlobs.Tracker("outage", backends=backends, store="store", finish_timeout_s=60)
with tracker.start_run("outer"), tracker.start_run("inner") as run:
    run.log_metric("loss", 1.0)
    open("ready", "w").close()
    time.sleep(60)
"""


def test_a_second_ctrl_c_leaves_at_once(tmp_path):
    with running(tmp_path, INTERRUPTED, f"http://127.0.0.1:{free_port()}", MLOBS_LINGER_S="1") as training:
        eventually((tmp_path / "ready").exists)
        training.send_signal(signal.SIGINT)
        outer, inner = run_ids(tmp_path)
        eventually(lambda: mlobs.load_run(inner, store=tmp_path / "store").status == "KILLED")
        assert training.poll() is None  # it waits for delivery
        started = time.monotonic()
        training.send_signal(signal.SIGINT)

        assert training.wait(timeout=60) == -signal.SIGINT
        assert time.monotonic() - started < 2
    assert mlobs.load_run(outer, store=tmp_path / "store").status == "KILLED"
