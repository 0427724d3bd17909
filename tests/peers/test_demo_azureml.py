"""The main job in a job of Azure ML: its own run and four children hold the points that MLflow has."""

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from azureml_service import azureml_service

import mlobs

pytestmark = pytest.mark.slow
pytest.importorskip("azureml.core", reason="pip install 'mlobs[azureml]'")
EXAMPLE = Path(__file__).parents[2] / "examples" / "train_classifier.py"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The workspace after the demo, the demo's folder, and its points by run and metric."""
    cwd = tmp_path_factory.mktemp("demo")
    with azureml_service() as service:
        own = ("MLOBS_", "AZUREML_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        patience = {"MLOBS_FINISH_TIMEOUT_S": "200"}  # machines of continuous integration are slow
        env = {**kept, **patience, **service.environment("demo-job"), "HOME": str(cwd)}
        command = [sys.executable, EXAMPLE]
        done = subprocess.run(
            command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        yield service, cwd / "demo-output", done.stdout


def test_the_points_are_those_of_the_store_and_of_mlflow(demo):
    from mlflow import MlflowClient

    service, output, printed = demo
    expected = defaultdict(list)
    for row in mlobs.metrics(store=output / "store").itertuples():
        expected[row.run_id, row.key].append((row.step, row.value))
    client = MlflowClient(f"sqlite:///{output}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'digits'")
    at_mlflow = {
        run.data.tags["mlobs.run_id"]: run.info.run_id
        for run in client.search_runs([experiment.experiment_id])
    }

    assert "azureml: " in printed
    assert sum(map(len, expected.values())) == 4 * (150 * 4 + 1)
    for (run_id, key), points in expected.items():
        rows = service.metrics[run_id][key]["value"]
        there = sorted((row["step"], row["data"][key]) for row in rows)
        assert there == sorted(points)
        assert len({row["metricId"] for row in rows}) == len(rows)
        history = client.get_metric_history(at_mlflow[run_id], key)
        assert sorted((one.step, one.value) for one in history) == there


def test_the_sweep_is_the_jobs_own_run_and_the_trainings_are_its_children(demo):
    service, _, _ = demo
    children = {name: run for name, run in service.runs.items() if run["parentRunId"] == "demo-job"}

    assert len(children) == 4
    assert {run["status"] for run in children.values()} == {"Completed"}
    assert len(service.runs) == 5
    assert service.runs["demo-job"]["status"] == "Running"
    assert service.runs["demo-job"]["tags"]["mlobs.status"] == "FINISHED"
    assert service.blobs["ExperimentRun/dcid.demo-job/readme.txt"].startswith(b"Four settings")
