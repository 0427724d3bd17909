"""`kill -9` at any moment: what a call had recorded when it returned is everywhere, once."""

import os
import random
import re
import signal
import time

import numpy as np
import pytest
from programs import (
    COUNTING,
    Counter,
    board_points,
    delivered,
    end_sender,
    eventually,
    local_points,
    mlflow_points,
    mlflow_runs,
    note_figures,
    only_run,
    run_ids,
    running,
    sender_of,
)

import mlobs

KILLS = int(os.environ.get("MLOBS_TEST_KILLS", "3"))  # the acceptance wants 20: ~4 minutes
NOTICED_S = 5.0
NOTICED_WHILE_BUSY_S = 30.0
BUSY = 3.0  # runnable processes per core: beside so many, a sender of nice 19 hardly runs at all
MOST_CALLS = 20_000
PACE_S = 0.0004  # per call: N calls take N / 20,000 of 10 s, and the vendors' import ~5 s

TRAINING = f"""
import os, sys, time
import mlobs
{COUNTING}
pace_s, forks = float(sys.argv[1]), sys.argv[2] == "forks"
counter = Counter("counter")
backends = [mlobs.backends.MLflow("sqlite:///mlflow.db"), mlobs.backends.TensorBoard("board")]
run = mlobs.Tracker("killed", backends=backends, store="store").start_run()
if forks and os.fork() == 0:
    open("child", "w").write(str(os.getpid()))
    time.sleep(120)
    os._exit(0)
calls, due = 0, time.perf_counter()
while True:
    run.log_metric("loss", calls / 7)
    calls += 1
    counter.set(calls)
    due += pace_s
    while time.perf_counter() < due:
        time.sleep(0)
"""


def kill_after(folder, calls, *, forks=False):
    """Kill a training soon after its N-th call; return its run, its last count and the moment."""
    counter = Counter(folder / "counter")
    with running(folder, TRAINING, PACE_S, "forks" if forks else "") as training:
        eventually(lambda: counter.value >= calls or training.poll() is not None, look_s=0)
        training.kill()
        training.wait()
        killed_at = time.monotonic()
    assert counter.value >= calls, (folder / "output").read_text()
    (run_id,) = run_ids(folder)
    return run_id, counter.value, killed_at


def assert_all_there_once(folder, run_id, calls):
    """Every returned call is in all three places once; the call at work may be."""
    local = local_points(folder, run_id, "loss")
    assert len(local) in (calls, calls + 1)
    assert local == [(step, step / 7) for step in range(len(local))]
    (there,) = mlflow_runs(f"sqlite:///{folder}/mlflow.db", "killed")[run_id]
    assert mlflow_points(f"sqlite:///{folder}/mlflow.db", there.info.run_id, "loss") == local
    board = board_points(folder, run_id, "loss")
    assert board == [(step, float(np.float32(value))) for step, value in local]
    return there


def most_noticed_s():
    """How long the sender may take to notice: it steps back behind all others that use this machine."""
    is_busy = os.getloadavg()[0] > BUSY * (os.cpu_count() or 1)
    return NOTICED_WHILE_BUSY_S if is_busy else NOTICED_S


def kill_points():
    """Random calls; the first third while the sender is still importing its vendors."""
    chance = random.Random(os.environ.get("MLOBS_TEST_SEED", "1"))
    early = -(-KILLS // 3)
    return [chance.randint(1, 400) for _ in range(early)] + [
        chance.randint(1, MOST_CALLS) for _ in range(KILLS - early)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("calls", kill_points())
def test_what_was_recorded_is_everywhere_once_after_kill_9(tmp_path, calls):
    run_id, returned, killed_at = kill_after(tmp_path, calls)
    assert only_run(tmp_path).status == "CRASHED"  # the reader needs no sender for it

    eventually(lambda: only_run(tmp_path).end)
    noticed_s = time.monotonic() - killed_at
    assert noticed_s < most_noticed_s()
    eventually(lambda: delivered(tmp_path, run_id, "mlflow", "tensorboard"))
    delivered_s = time.monotonic() - killed_at

    there = assert_all_there_once(tmp_path, run_id, returned)
    assert only_run(tmp_path).status == "CRASHED"
    assert there.info.status == "FAILED"
    assert there.data.tags["mlobs.status"] == "CRASHED"
    assert "process vanished" in there.data.tags["mlobs.reason"]
    eventually(lambda: sender_of(tmp_path, run_id) is None)
    note_figures(calls=returned, noticed_s=round(noticed_s, 2), delivered_s=round(delivered_s, 2))


def test_a_crash_is_noticed_though_a_forked_child_lives_on(tmp_path):
    run_id, _, killed_at = kill_after(tmp_path, 1, forks=True)
    child = int(eventually(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text()))
    try:
        end = eventually(lambda: only_run(tmp_path).end)
        assert time.monotonic() - killed_at < most_noticed_s()
        os.kill(child, 0)  # it lives on
    finally:
        os.kill(child, signal.SIGKILL)
        end_sender(tmp_path, run_id)

    assert end.status == "CRASHED"


SENDER_KILLED = """
import os, signal, sys, time
from pathlib import Path
import mlobs
from mlobs.program import program
backends = [mlobs.backends.MLflow("sqlite:///mlflow.db"), mlobs.backends.TensorBoard("board")]
tracker = mlobs.Tracker("killed", backends=backends, store="store", finish_timeout_s=120)

def log(run, first):
    for step in range(first, first + 4000):
        run.log_metric("loss", step / 7, step=step)

def wait_for(answer):
    deadline = time.monotonic() + 120
    while not answer():
        assert time.monotonic() < deadline
        time.sleep(0.05)  # each look costs a report: looking all the time starves the sender

with tracker.start_run("one") as run:
    log(run, 0)
    wait_for(lambda: all(one.delivered for one in run.delivery().values()))
    log(run, 4000)
    sender = next(iter(program()._senders.values()))._process.pid
    os.kill(sender, signal.SIGKILL)  # in the middle of what it does
    log(run, 8000)
with tracker.start_run("two") as run:
    log(run, 0)
    print(sender, next(iter(program()._senders.values()))._process.pid)
"""


@pytest.mark.slow
def test_a_killed_sender_is_replaced_and_nothing_is_lost_or_doubled(tmp_path):
    with running(tmp_path, SENDER_KILLED) as training:
        assert training.wait(timeout=300) == 0, (tmp_path / "output").read_text()

    first, second = run_ids(tmp_path)
    for run_id, calls in ((first, 12_000), (second, 4000)):
        eventually(lambda run_id=run_id: delivered(tmp_path, run_id, "mlflow", "tensorboard"))
        assert assert_all_there_once(tmp_path, run_id, calls).info.status == "FINISHED"
        assert mlobs.load_run(run_id, store=tmp_path / "store").status == "FINISHED"
    output = (tmp_path / "output").read_text()
    killed, successor = re.fullmatch(r"(\d+) (\d+)\n", output).groups()  # and nothing was complained of
    assert killed != successor
