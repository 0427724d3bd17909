"""Somebody deletes at a backend what is being delivered: nothing is lost, and one command makes it anew."""

import shutil
import subprocess
import sys

import pytest
from programs import (
    board_points,
    delivered,
    environment,
    eventually,
    mlflow_points,
    mlflow_runs,
    only_run,
    running,
)

from mlobs.delivery.report import report
from mlobs.journal.store import Store

# MLflow 3.17 on SQLAlchemy 2.1: its own query, deprecated there
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]

PROGRAM = """
import pathlib, sys, time
import mlobs
backends = [mlobs.backends.MLflow(sys.argv[1], artifact_location="artifacts"),
            mlobs.backends.TensorBoard("board")]
tracker = mlobs.Tracker("deleted", backends=backends, store="store", finish_timeout_s=3)
with tracker.start_run(params={"lr": 0.1}) as run:
    for step in range(50):
        run.log_metric("loss", step / 7, step=step)
    while any(one.delivered < 52 for one in run.delivery().values()):
        time.sleep(0.05)
    pathlib.Path("ready").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
    for step in range(50, 100):
        run.log_metric("loss", step / 7, step=step)
"""
EXPECTED = [(step, step / 7) for step in range(100)]


def sync(folder, *arguments):
    command = [sys.executable, "-m", "mlobs", "sync", "--store", "store", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=180, check=False
    )


def train(folder, uri, interfere):
    """Run the program, and interfere while it is half done; return its run's id."""
    with running(folder, PROGRAM, uri, MLOBS_LINGER_S="0") as program:
        eventually((folder / "ready").exists)
        run_id = only_run(folder).run_id
        interfere(run_id)
        (folder / "go").touch()
        assert program.wait(timeout=60) == 0
    return run_id


def there(folder, run_id, backend):
    return report(Store(folder / "store").run(run_id))[backend]


def test_a_run_that_was_deleted_at_mlflow_waits_and_is_made_anew_on_demand(tmp_path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/m.db"

    def delete(run_id):
        ((found,),) = mlflow_runs(uri, "deleted").values()
        assert found.data.tags["mlobs.run_id"] == run_id
        MlflowClient(uri).delete_run(found.info.run_id)

    run_id = train(tmp_path, uri, delete)

    assert eventually(lambda: delivered(tmp_path, run_id, "tensorboard"))
    one = there(tmp_path, run_id, "mlflow")
    assert (one.delivered, one.pending, one.rejected) == (52, 51, 0)
    assert "must be in the 'active' state" in one.trouble
    assert "mlobs sync RUN --restart mlflow" in one.trouble
    synced = sync(tmp_path, run_id, "--restart", "mlflow")
    assert synced.returncode == 0, synced.stdout + synced.stderr
    (anew,) = mlflow_runs(uri, "deleted")[run_id]
    assert (anew.info.status, anew.data.params) == ("FINISHED", {"lr": "0.1"})
    assert mlflow_points(uri, anew.info.run_id, "loss") == EXPECTED


def test_a_board_that_was_deleted_waits_and_is_written_anew_on_demand(tmp_path):
    run_id = train(tmp_path, f"sqlite:///{tmp_path}/m.db", lambda _: shutil.rmtree(tmp_path / "board"))

    assert eventually(lambda: delivered(tmp_path, run_id, "mlflow"))
    one = there(tmp_path, run_id, "tensorboard")
    assert (one.delivered, one.pending, one.rejected) == (52, 51, 0)
    assert "mlobs sync RUN --restart tensorboard" in one.trouble
    synced = sync(tmp_path, run_id, "--restart", "tensorboard")
    assert synced.returncode == 0, synced.stdout + synced.stderr
    assert [step for step, _ in board_points(tmp_path, run_id, "loss")] == list(range(100))


def test_a_restart_at_a_backend_that_still_has_the_run_stores_nothing_twice(tmp_path):
    uri = f"sqlite:///{tmp_path}/m.db"
    run_id = train(tmp_path, uri, lambda _: None)
    assert sync(tmp_path).returncode == 0

    synced = sync(tmp_path, run_id, "--restart", "mlflow", "--restart", "tensorboard")

    assert synced.returncode == 0, synced.stdout + synced.stderr
    (once,) = mlflow_runs(uri, "deleted")[run_id]
    assert mlflow_points(uri, once.info.run_id, "loss") == EXPECTED
    assert [step for step, _ in board_points(tmp_path, run_id, "loss")] == list(range(100))


def test_a_restart_needs_the_names_of_runs(tmp_path):
    train(tmp_path, f"sqlite:///{tmp_path}/m.db", lambda _: None)

    refused = sync(tmp_path, "--restart", "mlflow")

    assert refused.returncode != 0
    assert "mlobs sync RUN --restart NAME" in refused.stderr
