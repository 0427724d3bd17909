"""Whole trainings against a hostile Application Insights: nothing is lost, and only lost answers double."""

import logging
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from appinsights_credential import OF_OPENCENSUS
from appinsights_service import Service

import mlobs
from mlobs.events import Artifact, Log, Metrics

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(*OF_OPENCENSUS)]
TRANSPORTS = pytest.mark.parametrize("transport", ["opencensus", "azure-monitor"])
POINTS = 10_000
MATRIX = np.random.default_rng(5).normal(size=(64, 64))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def service():
    serving = Service()
    yield serving
    serving.stop()


def script(service):
    """Lost answers, 206, 429, closed connections, 503, a stall beyond the timeout, an outage."""

    def outage():
        service.away(1.5)
        return "close"

    faults = ["lost", ("partial", 7, 500), None, ("status", 429, {"Retry-After": "1"}, ""), "close", "lost"]
    faults += [("status", 503, {}, ""), ("partial", 3, 429), ("stall", 3.0), outage, ("partial", 2, 503)]
    return faults


@pytest.mark.slow
@TRANSPORTS
def test_ten_thousand_mixed_items_through_every_fault(service, tmp_path, transport):
    service.script += script(service)
    backend = mlobs.backends.AppInsights(
        service.connection_string,
        transport,
        timeout_s=2.0,
        workspace_id="w",
        query_endpoint=service.endpoint,
        query_credential="appinsights_credential:make",
    )
    tracker = mlobs.Tracker(
        "hostile", backends=[backend], store=tmp_path / "store", finish_timeout_s=3600, capture_logs=True
    )
    run = tracker.start_run(params={"lr": 0.1})
    with pytest.raises(RuntimeError, match="broken"), run:
        train(run)

    eventually(lambda: run.delivery()["appinsights"].is_settled, bound_s=240)
    (report,) = run.delivery().values()
    assert report.is_settled, report
    assert report.rejected == report.skipped == 0
    assert service.script == [], "every fault was met"
    assert service.points(run.id) == Counter({("loss", step, step - 7.5): 1 for step in range(POINTS - 1)})
    assert service.copies() == service.unanswered > 0, "one answer was lost, and nothing else is there twice"
    back = list(backend.source().read(report.vendor_id))
    assert sum(isinstance(one, Metrics) for one in back) == POINTS
    assert [one.message for one in back if isinstance(one, Log)] == [f"line {n}" for n in range(99)]
    held = {one.path: one.data for one in back if isinstance(one, Artifact)}
    assert held["weights.json"] == msgspec.json.encode({"matrix": MATRIX.tolist()})
    assert len(held["sample.png"]) > 0
    (row,) = [one for one in service.rows("exceptions") if "status" in one["customDimensions"]]
    assert [one["typeName"] for one in row["details"]] == ["RuntimeError", "ZeroDivisionError"]
    ends = [one for one in service.rows("customEvents") if one["name"] == "mlobs.run.end"]
    assert [one["customMeasurements"]["points_sent"] for one in ends] == [POINTS]
    print(f"{transport}: {sum(map(len, service.tables.values()))} rows, {service.copies()} copies")  # noqa: T201


def train(run):
    for step in range(POINTS - 1):
        run.log_metric("loss", step - 7.5, step=step)
    run.log_metric("loss", float("nan"), step=POINTS)
    for number in range(99):
        logging.getLogger("train").warning("line %d", number)
    run.log_matrix("weights", MATRIX)
    run.log_image("sample", np.zeros((64, 64, 3), dtype=np.uint8))
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as error:
        raise RuntimeError("broken") from error


KILLED = """
import os, sys
import mlobs
backend = mlobs.backends.AppInsights(transport=sys.argv[1])
run = mlobs.Tracker("killed", backends=[backend], store="store").start_run()
for step in range(5_000):
    run.log_metric("loss", step / 7, step=step)
print(run.id, flush=True)
os.kill(os.getpid(), 9)
"""


def environment(service):
    """This environment without settings of mlobs and MLflow, with the service's connection string."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("MLOBS_", "MLFLOW_"))}
    return {**kept, "APPLICATIONINSIGHTS_CONNECTION_STRING": service.connection_string}


@TRANSPORTS
def test_what_was_recorded_before_kill_9_arrives_and_so_does_the_end(service, tmp_path, transport):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, transport], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=False, env=environment(service),
    )  # fmt: skip
    run_id = done.stdout.strip()
    assert done.returncode == -9, done.stderr

    eventually(lambda: any(row["name"] == "mlobs.run.end" for row in service.rows("customEvents")))

    assert service.points(run_id) == Counter({("loss", step, step / 7): 1 for step in range(5_000)})
    (end,) = [row for row in service.rows("customEvents") if row["name"] == "mlobs.run.end"]
    assert end["customDimensions"]["status"] == "CRASHED"
    assert end["customMeasurements"]["points_sent"] == 5_000
    assert service.copies() == 0
    written = "".join(path.read_text("latin-1") for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert service.key not in written, "the key is a secret: it is not written down"


@TRANSPORTS
def test_a_delivery_that_is_killed_is_gone_on_with_and_doubles_one_batch_at_most(
    service, tmp_path, transport
):
    backend = mlobs.backends.AppInsights(service.connection_string, transport)
    tracker = mlobs.Tracker("killed", backends=[backend], store=tmp_path / "store", mode="offline")
    with tracker.start_run() as run:
        for step in range(20_000):
            run.log_metric("loss", step / 7, step=step)
    sync = [sys.executable, "-W", "ignore", "-m", "mlobs", "sync", "--store", "store"]
    options = {"cwd": tmp_path, "env": environment(service), "stdout": subprocess.DEVNULL}

    with subprocess.Popen(sync, **options) as delivery:
        eventually(lambda: len(service.rows(distinct=False)) >= 3_000)
        delivery.kill()
    before = len(service.rows(distinct=False))
    subprocess.run(sync, check=True, timeout=120, **options)

    assert before < 20_000
    assert service.points(run.id) == Counter({("loss", step, step / 7): 1 for step in range(20_000)})
    assert service.copies() <= 1_000
    ends = [row for row in service.rows("customEvents") if row["name"] == "mlobs.run.end"]
    assert [row["customMeasurements"]["points_sent"] for row in ends] == [20_000]


def eventually(holds, bound_s=60):
    deadline = time.monotonic() + bound_s
    while not holds():
        assert time.monotonic() < deadline, "not within its bound"
        time.sleep(0.05)


@pytest.mark.slow
def test_the_demo_tracks_the_same_points_here_as_in_mlflow_and_tensorboard(service, tmp_path):
    from mlflow import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "train_classifier.py"], cwd=tmp_path, capture_output=True,
        text=True, timeout=300, check=False, env=environment(service),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    output = tmp_path / "demo-output"
    client = MlflowClient(f"sqlite:///{output}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'digits'")
    compared = 0
    for run in client.search_runs([experiment.experiment_id]):
        run_id = run.data.tags["mlobs.run_id"]
        there = service.points(run_id)
        for name in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, name)
            assert {(name, one.step, one.value) for one in history} == {
                key for key in there if key[0] == name
            }
        for folder in {path.parent for path in (output / "tensorboard").rglob(f"*{run_id[-13:]}/events*")}:
            board = EventAccumulator(str(folder), size_guidance={"scalars": 0})
            board.Reload()
            for name in board.Tags()["scalars"]:
                shown = {(name, one.step, one.value) for one in board.Scalars(name)}
                assert shown == {(key, step, float(np.float32(v))) for key, step, v in there if key == name}
                compared += len(shown)
    assert compared == sum(
        service.points(row)[key] for row in run_ids(service) for key in service.points(row)
    )
    assert compared == 4 * (150 * 4 + 1)


def run_ids(service):
    return {row["customDimensions"]["run_id"] for row in service.rows()}
