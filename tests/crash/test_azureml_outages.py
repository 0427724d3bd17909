"""Three backends of one program, Azure ML in trouble or the program killed: the same points everywhere."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import (
    board_points,
    delivered,
    end_sender,
    environment,
    eventually,
    local_points,
    mlflow_points,
    mlflow_runs,
    run_ids,
    running,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from azureml_service import azureml_service, error_body, token

from mlobs.delivery.report import report
from mlobs.journal.store import Store

pytest.importorskip("azureml.core", reason="pip install 'mlobs[azureml]'")

BACKENDS = ("mlflow", "tensorboard", "azureml")
TRAINING = """
import os, sys, time
import mlobs
backends = [mlobs.backends.MLflow("sqlite:///mlflow.db"), mlobs.backends.TensorBoard("board"),
            mlobs.backends.AzureML("ws", "sub", "rg", resource_manager=sys.argv[1], token=sys.argv[2])]
tracker = mlobs.Tracker("trouble", backends=backends, store="store", finish_timeout_s=60)
with tracker.start_run("train", params={"lr": 0.1}) as run:
    for step in range(int(sys.argv[3])):
        run.log_metric("loss", step / 7, step=step)
        time.sleep(float(sys.argv[4]))
    run.log_text("notes", "all is well")
    while sys.argv[5:] == ["stay"]:
        time.sleep(0.1)
"""


@contextlib.contextmanager
def training(folder, service, *, steps, pace_s, stay=False):
    """Run the program; its backends are MLflow, TensorBoard and the service."""
    words = (service.uri, token(), steps, pace_s, *(["stay"] if stay else []))
    with running(folder, TRAINING, *words, HOME=str(folder)) as program:
        yield program


def azureml_points(service, run_id, key="loss"):
    """(step, value) in the order of arrival; each row has an id of its own."""
    rows = service.metrics.get(run_id, {}).get(key, {"value": []})["value"]
    assert len({row["metricId"] for row in rows}) == len(rows)
    return [(row["step"], row["data"][key]) for row in rows]


def assert_the_same_everywhere(folder, service, *, least):
    """All three hold what the store holds, once, and the end is there."""
    (run_id,) = run_ids(folder)
    eventually(lambda: delivered(folder, run_id, *BACKENDS))
    expected = local_points(folder, run_id, "loss")
    assert len(expected) >= least
    uri = f"sqlite:///{folder}/mlflow.db"
    ((there,),) = mlflow_runs(uri, "trouble").values()
    assert mlflow_points(uri, there.info.run_id, "loss") == expected
    assert [step for step, _ in board_points(folder, run_id, "loss")] == [step for step, _ in expected]
    assert sorted(azureml_points(service, run_id)) == sorted(expected)
    return service.runs[run_id]


@pytest.mark.slow
def test_a_killed_training_is_the_same_in_all_three(tmp_path):
    with azureml_service() as service:
        with training(tmp_path, service, steps=100_000, pace_s=0.001) as program:
            eventually(lambda: any(len(one["loss"]["value"]) > 50 for one in service.metrics.values()))
            os.kill(program.pid, signal.SIGKILL)
        held = assert_the_same_everywhere(tmp_path, service, least=50)

    assert held["status"] == "Failed"
    assert held["tags"]["mlobs.status"] == "CRASHED"
    assert "vanished" in held["error"]["error"]["message"]


@pytest.mark.slow
def test_a_service_that_is_down_for_half_a_minute_gets_everything_once(tmp_path):
    with azureml_service() as service:
        port = int(service.uri.rpartition(":")[2])
        program_of = contextlib.ExitStack()
        program = program_of.enter_context(training(tmp_path, service, steps=2000, pace_s=0.002))
        eventually(lambda: service.metrics)
    with program_of:  # nobody listens now
        time.sleep(30.0)
        with azureml_service(port, service):
            assert program.wait(timeout=120) == 0
            held = assert_the_same_everywhere(tmp_path, service, least=2000)

    assert held["status"] == "Completed"


@pytest.mark.slow
def test_a_storm_of_429_and_lost_answers_loses_and_doubles_nothing(tmp_path):
    where = "^(POST|PATCH) /(metric|history)"
    with azureml_service() as service, training(tmp_path, service, steps=2000, pace_s=0.002) as program:
        service.fail(where, status=500, is_lost=True, times=3)
        service.fail(where, status=429, headers={"Retry-After": "0.2"}, times=15)
        assert program.wait(timeout=180) == 0
        held = assert_the_same_everywhere(tmp_path, service, least=2000)

    assert not any(fault.times for fault in service.faults)
    assert held["status"] == "Completed"


@pytest.mark.slow
def test_what_azure_ml_refuses_of_a_batch_is_rejected_and_the_rest_is_everywhere(tmp_path):
    source = TRAINING.replace('"loss", step / 7', '"refused" if step == 5 else "loss", step / 7')
    with azureml_service() as service:
        service.refused_metrics["refused"] = ("UserError", "not this one")
        with running(tmp_path, source, service.uri, token(), 50, 0, HOME=str(tmp_path)) as program:
            assert program.wait(timeout=120) == 0, (tmp_path / "output").read_text()
        assert_the_same_everywhere(tmp_path, service, least=49)

    (run_id,) = run_ids(tmp_path)
    told = report(Store(tmp_path / "store").run(run_id))["azureml"]
    assert told.rejected == 1
    assert "Azure ML refuses metric 'refused': UserError: not this one" in str(told.reasons)


@pytest.mark.slow
def test_a_workspace_that_was_not_there_is_made_up_for_by_sync(tmp_path):
    with azureml_service() as service:
        service.fail("", status=503, body=error_body("later", "ServiceError"))
        source = TRAINING.replace("finish_timeout_s=60", "finish_timeout_s=2")
        with running(tmp_path, source, service.uri, token(), 100, 0, HOME=str(tmp_path)) as program:
            assert program.wait(timeout=120) == 0
        (run_id,) = run_ids(tmp_path)
        eventually(lambda: delivered(tmp_path, run_id, "mlflow", "tensorboard"))
        end_sender(tmp_path, run_id)  # it is still trying the workspace
        service.recover()
        config = f"[backends.azureml]\ntoken = {token()!r}\n"  # a secret is not in the store
        (tmp_path / "mlobs.toml").write_text(config)
        done = subprocess.run(
            [sys.executable, "-m", "mlobs", "sync", "--store", "store"],
            cwd=tmp_path,
            env=environment(HOME=str(tmp_path)),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert_the_same_everywhere(tmp_path, service, least=100)
