"""One script, four systems: each holds the same run, and `mlobs audit` says so, or what differs."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from appinsights_service import Service
from azureml_service import GROUP, SUBSCRIPTION, WORKSPACE, azureml_service, token

import mlobs

pytestmark = pytest.mark.slow
pytest.importorskip("azureml.core", reason="pip install 'mlobs[azureml]'")
HERE = Path(__file__).parent
KEPT = {name: text for name, text in os.environ.items() if not name.startswith(("MLOBS_", "AZUREML_"))}

SCRIPT = """
import mlobs

tracker = mlobs.Tracker("four", store="store", finish_timeout_s=200, backends=[
    mlobs.backends.MLflow("sqlite:///mlflow.db", artifact_location="artifacts"),
    mlobs.backends.TensorBoard("board"),
    "azureml",
    "appinsights",
])
with tracker.start_run("one run", params={"lr": 0.1, "depth": 3}, tags={"team": "x"}) as run:
    for step in range(200):
        run.log_metrics({"loss": 1 / (step + 1), "accuracy": step / 256}, step=step)
"""


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    """A folder after the script, the two services of Azure, and what `mlobs audit` needs for them."""
    folder = tmp_path_factory.mktemp("four")
    insights = Service()
    with azureml_service() as workspace:
        (folder / "mlobs.toml").write_text(
            "[backends.azureml]\n"
            f'workspace = "{WORKSPACE}"\nsubscription_id = "{SUBSCRIPTION}"\nresource_group = "{GROUP}"\n'
            f'resource_manager = "{workspace.uri}"\ntoken = "{token()}"\n'
            "[backends.appinsights]\n"
            f'workspace_id = "w"\nquery_endpoint = "{insights.endpoint}"\n'
            'query_credential = "appinsights_credential:make"\n',
            encoding="utf-8",
        )
        secret = {"APPLICATIONINSIGHTS_CONNECTION_STRING": insights.connection_string}
        environment = {**KEPT, **secret, "PYTHONPATH": str(HERE), "HOME": str(folder)}
        (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
        done = run(folder, environment, "train.py")
        assert done.returncode == 0, done.stderr
        yield folder, environment, workspace, insights
    insights.stop()


def run(folder, environment, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def audited(folder, environment, *arguments):
    return run(folder, environment, "-m", "mlobs", "audit", "latest", "--store", "store", *arguments)


def test_all_four_hold_what_was_recorded(systems):
    folder, environment, *_ = systems
    record = mlobs.load_run("latest", store=folder / "store")
    assert (record.status, len(record.metrics)) == ("FINISHED", 400)

    done = audited(folder, environment)

    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()[1:5]]
    assert {line[0]: (*line[1:4], line[-1]) for line in lines} == dict.fromkeys(
        ("mlflow", "tensorboard", "azureml", "appinsights"), ("400", "400", "0", "yes")
    )


def test_what_was_changed_behind_the_back_of_each_is_named(systems):
    """The last test of this file: it leaves three of the four damaged."""
    folder, environment, workspace, insights = systems
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute("UPDATE metrics SET value = 7 WHERE key = 'loss' AND step = 3")
        database.execute("UPDATE params SET value = '0.2' WHERE key = 'lr'")
    database.close()
    (held,) = (metrics for metrics in workspace.metrics.values() if "accuracy" in metrics)
    del held["accuracy"]["value"][:2]
    rows = insights.tables["customMetrics"]
    insights.tables["customMetrics"] = [row for row in rows if row["customDimensions"]["step"] != "9"]

    done = audited(folder, environment, "--json")
    found = {one["backend"]: one for one in json.loads(done.stdout)["audits"]}

    assert done.returncode == 1
    assert {name: one["agrees"] for name, one in found.items()} == {
        "mlflow": False, "tensorboard": True, "azureml": False, "appinsights": False,
    }  # fmt: skip
    assert "metric 'loss' of step 3 is missing: 0.25" in found["mlflow"]["differences"]
    assert any("param 'lr' is '0.2' there" in line for line in found["mlflow"]["differences"])
    assert (found["mlflow"]["missing"], found["mlflow"]["unknown"]) == (1, 1)
    assert "metric 'accuracy' of step 0 is missing: 0.0" in found["azureml"]["differences"]
    assert found["azureml"]["missing"] == 2
    assert "metric 'loss' of step 9 is missing: 0.1" in found["appinsights"]["differences"]
    assert found["appinsights"]["missing"] == 2
