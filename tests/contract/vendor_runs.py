"""Runs that MLflow's own client records: what an import has to bring along, and how both ends compare."""

import math
import os
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
BIG = bytes(range(256)) * 8_000  # more than is kept inline
POINTS = [
    ("loss", 1.5, 1_700_000_000_123, 0),
    ("loss", 0.1 + 0.2, 1_700_000_001_001, 1),
    ("loss", 0.25, 1_700_000_002_999, 1),  # the same step once more
    ("loss", math.nan, 1_700_000_003_500, 2),
    ("loss", math.inf, 1_700_000_004_500, 3),
    ("loss", -math.inf, 1_700_000_004_500, 4),
    ("val/acc", 0.0, 1_700_000_005_000, -7),
    ("val/acc", 5e-324, 1_700_000_005_000, 1 << 40),
]


def client_of(uri):
    from mlflow import MlflowClient

    return MlflowClient(uri)


def record_vendor_runs(uri, folder):
    """Record experiments with runs of every kind by MLflow's client; return the client."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    client = client_of(uri)
    place = None if uri.startswith("http") else (folder / "vendor-artifacts").as_uri()
    churn = client.create_experiment("churn", place)
    other = client.create_experiment("other", place)
    parent = client.create_run(churn, 1_700_000_000_000, {"mlflow.user": "ann"}, "parent").info.run_id
    client.log_batch(
        parent,
        [Metric(name, value, at, step) for name, value, at, step in POINTS],
        [Param("lr", "0.1"), Param("w_x10_name", "kept as it is")],
        [RunTag("team", "x"), RunTag("mlflow.note.content", "Grüße, 世界")],
    )
    client.log_text(parent, "hello", "notes/a.txt")
    (folder / "big.bin").write_bytes(BIG)
    client.log_artifact(parent, str(folder / "big.bin"), "deep")
    client.log_text(parent, "a step that is only in a name", "model@step3.txt")
    dataset = Dataset("train", "2981c147", "http", '{"url": "http://x/y.csv"}', None, '{"num_rows": 7}')
    client.log_inputs(parent, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    client.set_terminated(parent, "FINISHED", 1_700_000_009_000)
    child = client.create_run(churn, 1_700_000_000_500, {"mlflow.parentRunId": parent}, "child").info.run_id
    client.log_metric(child, "loss", 9.0, 1_700_000_000_700, 0)
    client.set_terminated(child, "FAILED", 1_700_000_001_500)
    killed = client.create_run(other, 1_700_000_100_000, {}, "killed").info.run_id
    client.set_terminated(killed, "KILLED", 1_700_000_101_000)
    running = client.create_run(other, 1_700_000_200_000, {}, "running").info.run_id
    client.log_metric(running, "loss", 1.0, 1_700_000_200_001, 0)
    deleted = client.create_run(other, 1_700_000_300_000, {}, "deleted").info.run_id
    client.delete_run(deleted)
    return client


def runs_of(client):
    """Every run, by experiment and name."""
    return {
        (experiment.name, run.info.run_name): run
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id])
    }


def histories(client, run):
    """Every point of a run as MLflow's client reads it; NaN stands as a text, to be comparable."""
    return {
        name: sorted(
            (
                (point.timestamp, point.step, "nan" if math.isnan(point.value) else bounded(point.value))
                for point in client.get_metric_history(run.info.run_id, name)
            ),
            key=str,
        )
        for name in run.data.metrics
    }


def bounded(value):
    """The value as a database of MLflow keeps it: its file store keeps infinities as they are."""
    return math.copysign(min(abs(value), 1.7976931348623157e308), value)


def artifacts_of(client, run, tmp_path):
    """The content of every artifact of a run, by its path."""
    found, ahead = {}, [None]
    while ahead:
        for one in client.list_artifacts(run.info.run_id, ahead.pop()):
            if one.is_dir:
                ahead.append(one.path)
            else:
                target = tmp_path / run.info.run_id
                target.mkdir(exist_ok=True)
                file = client.download_artifacts(run.info.run_id, one.path, str(target))
                found[one.path] = Path(file).read_bytes()
    return found
