"""A training that is killed again and again and goes on each time is one run, whole, everywhere."""

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
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
    write,
)

import mlobs
from mlobs.events import RunStarted
from mlobs.journal.store import Store
from mlobs.sender.foreground import sync

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("MLOBS_TEST_KILLS", "3"))
STEPS, PER_EPOCH = 2000, 50
BACKENDS = "[mlobs.backends.MLflow('sqlite:///mlflow.db'), mlobs.backends.TensorBoard('board')]"

PREEMPTED = f"""
import json, os, sys, time
import mlobs

step, state = json.load(open("checkpoint")) if os.path.exists("checkpoint") else (0, None)
tracker = mlobs.Tracker("preempted", backends={BACKENDS}, store="store", finish_timeout_s=60)
run = tracker.start_run("train", resume="auto", state=state, from_step=0, params={{"lr": 0.1}})
attempt = run.state_dict()["attempt"]
for step in range(step, {STEPS}):
    run.log_metric("loss", step + attempt / 8, step=step)
    run.log_metric("counted", step + attempt / 8)
    if step % {PER_EPOCH} == {PER_EPOCH - 1}:
        run.log_metric("epoch", step + attempt / 8, step=step // {PER_EPOCH})
        with open("unfinished", "w") as file:
            json.dump((step + 1, run.state_dict()), file)
        os.replace("unfinished", "checkpoint")
    open("progress", "w").write(str(step))
    time.sleep(0.001)
run.finish()
"""


def progress(folder):
    text = (folder / "progress").read_text() if (folder / "progress").exists() else ""
    return int(text or -1)


def has_come(folder, step, training):
    return progress(folder) >= step or training.poll() is not None


def preempt(folder, kills, chance):
    """Start the training again and again, and kill it at a random step each time; return the exit codes."""
    codes, at = [], 0
    for kill in range(kills):
        at = chance.randint(1, PER_EPOCH - 2) if kill == 0 else at + chance.randint(1, STEPS // kills)
        with running(folder, PREEMPTED, SLURM_JOB_ID="4711", SLURM_RESTART_COUNT=str(kill)) as training:
            eventually(partial(has_come, folder, at, training), look_s=0.001)
            training.send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM]))
            codes.append(training.wait(timeout=60))
        at = progress(folder)
        (folder / "progress").unlink()
    return codes


@pytest.mark.slow
@pytest.mark.parametrize("seed", [os.environ.get("MLOBS_TEST_SEED", "1")])
def test_a_training_that_is_preempted_is_one_run_with_the_whole_curve_everywhere(tmp_path, seed):
    chance = random.Random(seed)
    codes = preempt(tmp_path, KILLS, chance)
    assert all(code in (-signal.SIGKILL, -signal.SIGTERM) for code in codes), (
        tmp_path / "output"
    ).read_text()

    done = run(tmp_path, PREEMPTED, SLURM_JOB_ID="4711", SLURM_RESTART_COUNT=str(KILLS), timeout_s=120)

    assert done.returncode == 0, done.stderr
    record = only_run(tmp_path)
    assert record.status == "FINISHED"
    attempts = [one.attempt for one in record.events() if isinstance(one, RunStarted)]
    assert attempts == list(range(1, KILLS + 2))
    for key in ("loss", "counted"):
        assert [step for step, _ in local_points(tmp_path, record.run_id, key)] == list(range(STEPS))
    assert [step for step, _ in local_points(tmp_path, record.run_id, "epoch")] == list(
        range(STEPS // PER_EPOCH)
    )

    eventually(lambda: delivered(tmp_path, record.run_id, "mlflow", "tensorboard"))
    for key in ("loss", "counted"):
        local = local_points(tmp_path, record.run_id, key)
        assert board_points(tmp_path, record.run_id, key) == [
            (step, float(np.float32(v))) for step, v in local
        ]
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    (there,) = mlflow_runs(uri, "preempted")[record.run_id]
    assert (there.info.status, there.data.tags["mlobs.attempt"]) == ("FINISHED", str(KILLS + 1))
    assert "mlobs.status" not in there.data.tags
    held = mlflow_points(uri, there.info.run_id, "loss")
    assert sorted(held) == sorted(local_points_of_all(tmp_path, record.run_id, "loss"))
    assert dict(held) == dict(local_points(tmp_path, record.run_id, "loss"))  # of two the later one counts
    note_figures(attempts=len(attempts), points=len(held), codes=codes)


def local_points_of_all(folder, run_id, key):
    """(step, value) of every attempt, also of what was taken back."""
    frame = mlobs.metrics(store=folder / "store", run_ids=run_id, keys=key, superseded=True)
    return list(zip(frame["step"].tolist(), frame["value"].tolist(), strict=True))


ATTEMPTS = f"""
import os, sys
import mlobs
mode, ends, attempts = sys.argv[1], sys.argv[2], int(sys.argv[3])
tracker = mlobs.Tracker("resumed", backends={BACKENDS}, store="store", mode=mode, finish_timeout_s=60)
for attempt in range(attempts):
    exists = os.path.exists("store/runs/mine")
    run = tracker.start_run("train", run_id="mine", resume="allow", from_step=attempt * 3 if exists else None)
    with run.child(f"child-{{attempt}}") as child:
        child.log_metric("score", attempt)
    for step in range(attempt * 3, attempt * 3 + 5):
        run.log_metric("loss", step + attempt / 8, step=step)
    if ends == "crash":
        os._exit(1)
    run.finish("FAILED" if attempt < attempts - 1 else "FINISHED")
"""
EXPECTED = [(0, 0.0), (1, 1.0), (2, 2.0), *((step, step + 0.125) for step in range(3, 8))]


def assert_two_attempts_are_everywhere(folder):
    record = mlobs.load_run("mine", store=folder / "store")
    assert record.status == "FINISHED"
    assert local_points(folder, "mine", "loss") == EXPECTED
    assert board_points(folder, "mine", "loss") == EXPECTED
    uri = f"sqlite:///{folder}/mlflow.db"
    runs = mlflow_runs(uri, "resumed")
    assert {len(same) for same in runs.values()} == {1}
    (there,) = runs.pop("mine")
    assert (there.info.status, there.data.tags["mlobs.attempt"]) == ("FINISHED", "2")
    assert "steps from 3 on no longer count" in there.data.tags["mlobs.rewound"]
    assert "mlobs.status" not in there.data.tags
    assert dict(mlflow_points(uri, there.info.run_id, "loss")) == dict(EXPECTED)
    assert [one.data.tags["mlflow.parentRunId"] for (one,) in runs.values()] == [there.info.run_id] * 2


def test_one_program_may_go_on_with_its_own_run(tmp_path):
    done = run(tmp_path, ATTEMPTS, "online", "finish", 2, timeout_s=120)

    assert (done.returncode, done.stderr) == (0, "")
    assert_two_attempts_are_everywhere(tmp_path)


def test_attempts_that_were_never_delivered_arrive_in_their_order(tmp_path):
    assert run(tmp_path, ATTEMPTS, "offline", "crash", 1).returncode == 1
    done = run(tmp_path, RESUMED_ONCE, "offline")
    assert (done.returncode, done.stderr) == (0, "")

    synced = sync(Store(tmp_path / "store").runs())

    assert all(one.is_settled for one in synced), synced
    assert_two_attempts_are_everywhere(tmp_path)


RESUMED_ONCE = ATTEMPTS.replace("range(attempts)", "[1]").replace(
    "sys.argv[1], sys.argv[2], int(sys.argv[3])", "sys.argv[1], 'finish', 2"
)


def test_an_attempt_that_crashed_online_is_gone_on_with_online(tmp_path):
    assert run(tmp_path, ATTEMPTS, "online", "crash", 1).returncode == 1
    done = run(tmp_path, RESUMED_ONCE, "online", timeout_s=120)

    assert (done.returncode, done.stderr) == (0, "")
    eventually(lambda: delivered(tmp_path, "mine", "mlflow", "tensorboard"))
    assert_two_attempts_are_everywhere(tmp_path)


SLEEPING = """
import sys, time
import mlobs
run = mlobs.Tracker("resumed", store="store").start_run(run_id="mine", resume="allow")
print("open", flush=True)
time.sleep(120)
"""


def test_a_run_that_another_process_is_recording_is_refused_until_that_is_gone(tmp_path):
    with running(tmp_path, SLEEPING) as first:
        eventually(lambda: "open" in (tmp_path / "output").read_text())
        second = run(tmp_path, SLEEPING.replace("time.sleep(120)", ""))
        assert second.returncode == 1
        assert f"run mine is being recorded by pid {first.pid} on" in second.stderr
        first.kill()
        first.wait()
        assert run(tmp_path, SLEEPING.replace("time.sleep(120)", "")).returncode == 0
    assert run_ids(tmp_path) == ["mine"]
    assert only_run(tmp_path).status == "FINISHED"


RACING = """
import sys, time
import mlobs
tracker = mlobs.Tracker("resumed", store="store")
while time.time() < float(sys.argv[1]):
    pass
try:
    run = tracker.start_run(run_id="mine", resume="must")
except mlobs.UsageError as error:
    print("refused", error)
else:
    print("open", run.state_dict()["attempt"], flush=True)
    time.sleep(1)
"""


def test_of_several_processes_that_go_on_at_once_one_does(tmp_path):
    mlobs.Tracker("resumed", store=tmp_path / "store").start_run(run_id="mine").finish()
    command = [sys.executable, str(write(tmp_path, RACING)), str(time.time() + 1.5)]
    racers = [
        subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = sorted(racer.communicate(timeout=60)[0].split()[0] for racer in racers)

    assert said == ["open", "refused", "refused", "refused"]
    assert only_run(tmp_path).status == "FINISHED"


def test_the_jobs_run_is_found_again_and_another_jobs_is_not(tmp_path):
    source = """
import mlobs
tracker = mlobs.Tracker("nightly", store="store")
for name in ("a", "a", "b"):
    with tracker.start_run(name, resume="auto") as run:
        run.log_metric("loss", 1.0)
"""
    for job, restart in (("7", "0"), ("7", "1"), ("8", "0")):
        done = run(tmp_path, source, SLURM_JOB_ID=job, SLURM_RESTART_COUNT=restart)
        assert (done.returncode, done.stderr) == (0, "")

    frame = mlobs.runs(store=tmp_path / "store")
    points = mlobs.metrics(store=tmp_path / "store").groupby("run_id").size()
    assert sorted(frame["name"]) == ["a", "a", "a", "a", "b", "b"]
    assert sorted(points) == [1, 1, 1, 2, 2, 2]
    ids = [run_id for run_id in frame["run_id"] if run_id.startswith("slurm-7-")]
    assert sorted(points[points == 2].index) == sorted(ids)
