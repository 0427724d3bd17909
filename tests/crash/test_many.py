"""Many processes at once on one fresh MLflow database and one store: every run, every point."""

import contextlib
import os
import subprocess
import sys
import time

import psutil
import pytest
from programs import (
    delivered,
    environment,
    eventually,
    local_points,
    mlflow_points,
    mlflow_runs,
    note_figures,
    run_ids,
    sender_of,
    write,
)

from mlobs.journal.store import Store
from mlobs.sender.foreground import sync

PROCESSES = int(
    os.environ.get("MLOBS_TEST_PROCESSES", "3")
)  # the acceptance wants 16: ~1.5 minutes on 2 cores
STEPS = 2000

TRAINING = f"""
import sys
import mlobs
tracker = mlobs.Tracker("many", backends=["mlflow"], store="store", finish_timeout_s=0)
with tracker.start_run(sys.argv[1]) as run:
    for step in range({STEPS}):
        run.log_metric("loss", step / 7, step=step)
"""


@pytest.mark.slow
def test_processes_that_start_at_once_lose_nothing(tmp_path):
    program = write(tmp_path, TRAINING)
    started = time.monotonic()
    trainings = [
        subprocess.Popen(
            [sys.executable, str(program), f"run {number}"],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in range(PROCESSES)
    ]
    assert [training.wait(timeout=120) for training in trainings] == [0] * PROCESSES
    trained_s = time.monotonic() - started
    ids = run_ids(tmp_path)
    peaks = {}

    def all_there():
        watch_memory(tmp_path, ids, peaks)
        return all(delivered(tmp_path, run_id, "mlflow") for run_id in ids)

    eventually(all_there, timeout_s=300, look_s=0.1)  # by their own senders, as long as those linger
    delivered_s = time.monotonic() - started
    assert all(one.is_settled for one in sync(Store(tmp_path / "store").runs()))

    note_figures(
        processes=PROCESSES,
        trained_s=round(trained_s, 1),
        delivered_s=round(delivered_s, 1),
        peak_rss_mb=sorted(round(peak / 1e6) for peak in peaks.values()),
    )
    assert_all_there_once(tmp_path, ids)


def watch_memory(folder, ids, peaks):
    """Keep the most resident memory that each sender was seen with, in bytes."""
    for run_id in ids:
        sender = sender_of(folder, run_id)
        if sender is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                peaks[run_id] = max(peaks.get(run_id, 0), psutil.Process(sender.pid).memory_info().rss)


def assert_all_there_once(folder, ids):
    uri = f"sqlite:///{folder}/mlflow.db"
    expected = [(step, step / 7) for step in range(STEPS)]
    runs = mlflow_runs(uri, "many")
    assert sorted(runs) == sorted(ids)
    assert len(ids) == PROCESSES
    for run_id, (there, *others) in runs.items():
        assert not others
        assert there.info.status == "FINISHED"
        assert local_points(folder, run_id, "loss") == expected
        # MLflow keeps no order within a millisecond
        assert sorted(mlflow_points(uri, there.info.run_id, "loss")) == expected
