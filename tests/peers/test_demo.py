"""The main job: what it tracked is the same, to the last value, wherever it is read back."""

import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import mlobs

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_classifier.py"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of a finished demo, its standard output, and its points by run and metric."""
    cwd = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, EXAMPLE], cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("MLOBS_")},
            "MLOBS_FINISH_TIMEOUT_S": "200",  # machines of continuous integration are slow
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    output = cwd / "demo-output"
    points = defaultdict(list)
    for row in mlobs.metrics(store=output / "store").itertuples():
        points[row.run_id, row.key].append((row.step, row.value))
    return output, done.stdout, dict(points)


def test_it_prints_a_comparison_and_the_commands_that_open_the_result(demo):
    output, printed, points = demo

    assert "best val accuracy" in printed
    assert (
        f"mlflow ui --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///{output}/mlflow.db" in printed
    )
    assert f"tensorboard --host 127.0.0.1 --port 6006 --logdir {output}/tensorboard" in printed
    assert len(points) == 4 * 5
    assert sum(map(len, points.values())) == 4 * (150 * 4 + 1)


def test_mlflows_own_client_reads_the_same_points(demo):
    from mlflow import MlflowClient

    output, _, points = demo
    client = MlflowClient(f"sqlite:///{output}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'digits'")
    runs = {run.data.tags["mlobs.run_id"]: run for run in client.search_runs([experiment.experiment_id])}

    assert len(runs) == 5
    for (run_id, key), expected in points.items():
        history = client.get_metric_history(runs[run_id].info.run_id, key)
        assert sorted((one.step, one.value) for one in history) == expected
        assert runs[run_id].info.status == "FINISHED"
    parents = {run.data.tags.get("mlflow.parentRunId") for run in runs.values()}
    assert parents == {None, next(run.info.run_id for run in runs.values() if run.info.run_name == "sweep")}


def test_tensorboards_own_reader_reads_the_same_points(demo):
    output, _, points = demo
    found = {}
    for folder in {path.parent for path in (output / "tensorboard").rglob("events.out.tfevents.*")}:
        accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        accumulator.Reload()
        for key in accumulator.Tags()["scalars"]:
            run_id = next(run_id for run_id, _ in points if folder.name.endswith(run_id[-13:]))
            found[run_id, key] = [(one.step, one.value) for one in accumulator.Scalars(key)]

    assert found == {
        pair: [(step, float(np.float32(value))) for step, value in values] for pair, values in points.items()
    }


@pytest.mark.slow
def test_the_best_of_it_is_the_same_model_again(demo):
    output, printed, _ = demo
    command = next(line for line in printed.splitlines() if " reproduce " in line).split()
    sweep = mlobs.runs(store=output / "store").query("name == 'sweep'")["run_id"].item()
    eventually(lambda: "mlobs.recipe" in mlobs.load_run(sweep, store=output / "store").tags)

    report = mlobs.reproduce(command[2], store=output / "store")

    assert report.verdict == "identical", str(report)
    assert (report.points, report.models) == (601, 1)


def eventually(check, timeout_s=120.0):
    """Wait for the sender, which goes on behind the program."""
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)
