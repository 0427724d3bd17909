"""`mlobs audit`: what every backend gives back is what was sent; what is missing there is found."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from appinsights_credential import OF_OPENCENSUS
from appinsights_service import Service

import mlobs
from mlobs.errors import Unauthorized, UsageError
from mlobs.events import Artifact, Histogram, Metrics, Params, RunFinished
from mlobs.journal.store import Store
from mlobs.read.audit import audit
from mlobs.testing import MemoryBackend

# MLflow 3.17 on SQLAlchemy 2.1: its own query, deprecated there
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.filterwarnings(*OF_OPENCENSUS),
]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def service():
    serving = Service()
    yield serving
    serving.stop()


def recorded(folder, backend):
    """A run with something of everything, delivered to one backend; its folder."""
    tracker = mlobs.Tracker(
        "audit",
        backends=[backend],
        store=folder / "store",
        on_error="raise",
        delivery="thread",
    )
    (folder / "large.bin").write_bytes(bytes(range(256)) * 400)
    with tracker.start_run(params={"lr": 0.1, "odd%name": "x", "n": 7, "long": "v" * 9000}) as run:
        for step in range(50):
            run.log_metrics({"loss": 1 / (step + 1) - 0.5, "a@b": step / 7, "big": 1e300}, step=step)
        run.log_metrics({"loss": float("nan"), "up": float("inf"), "down": float("-inf")}, step=50)
        run.set_tags({"team": "x", "odd%tag": "y" * 9000})
        run.log_param("late", [1, 2.5, "x"])
        run.log_image("sample", np.zeros((40, 30, 3), dtype=np.uint8), step=1)
        run.log_histogram("weights", counts=[1.0, 3.0], edges=[0.0, 0.5, 1.0], step=2)
        run.log_table("table", [{"id": 1, "score": 0.5}, {"id": 2, "score": None}])
        run.log_confusion_matrix("cm", [[50, 2], [3, 45]])
        run.log_text("notes", "hello\nworld")
        run.log_artifact(folder / "large.bin", "data")
    wait_until_settled(run)
    return Store(folder / "store").find(run.id)


def wait_until_settled(run):
    """Wait for delivery, whatever other tests have spent of the process's budget for it."""
    deadline = time.monotonic() + 120
    while not all(report.is_settled for report in run.delivery().values()):
        assert time.monotonic() < deadline, run.delivery()
        time.sleep(0.05)


def mlflow(folder, _):
    return mlobs.backends.MLflow(f"sqlite:///{folder}/mlflow.db", artifact_location=str(folder / "artifacts"))


def tensorboard(folder, _):
    return mlobs.backends.TensorBoard(str(folder / "board"))


def memory(*_):
    return MemoryBackend()


def opencensus(_, service):
    return app_insights(service, "opencensus")


def azure_monitor(_, service):
    return app_insights(service, "azure-monitor", resource_id="/subscriptions/s/x", workspace_id=None)


def app_insights(service, transport, **options):
    asked = {"workspace_id": "w", "query_endpoint": service.endpoint}
    asked["query_credential"] = "appinsights_credential:make"
    return mlobs.backends.AppInsights(service.connection_string, transport, **(asked | options))


@pytest.mark.parametrize("make", [mlflow, tensorboard, memory, opencensus, azure_monitor])
def test_every_backend_agrees_with_the_record(tmp_path, service, make):
    backend = make(tmp_path, service)

    found = audit(recorded(tmp_path, backend), backend)

    assert found.differences == ()
    assert (found.sent, found.stored, found.missing) == (153, 153, 0)
    assert (found.merged, found.duplicates, found.unknown, found.pending) == (0, 0, 0, 0)
    assert found.agrees


def test_what_a_backend_lost_doubled_and_made_up_is_found(tmp_path):
    backend = MemoryBackend()
    folder = recorded(tmp_path, backend)
    (held,) = backend.held.values()
    points = [key for key, event in held.items() if isinstance(event, Metrics)]
    for key in points[:10]:
        del held[key]
    held["twice"] = held[points[20]]
    held["made up"] = Metrics(1.0, 999, {"loss": 4.0})
    for key, event in list(held.items()):
        if isinstance(event, RunFinished | Histogram):
            del held[key]
        if isinstance(event, Artifact) and event.path == "notes.txt":
            backend.content[key] = b"other"
        if isinstance(event, Params) and "late" in event.values:
            held[key] = Params(event.at, {"late": "another", "new": 1})

    found = audit(folder, backend)

    assert (found.sent, found.stored, found.missing) == (153, 123, 30)
    assert (found.duplicates, found.unknown) == (3, 1)
    words = "\n".join(found.differences)
    for part in (
        "metric 'loss' of step 0 is missing: 0.5",
        "and 25 more points are missing",
        "param 'late' is 'another' there",
        "param 'new' is there, and was not sent",
        "the run's end there: not there; here: FINISHED",
        "1 of 1 events of kind 'histogram' are missing",
        "artifact notes.txt has other content there",
    ):
        assert part in words
    assert not found.agrees


def test_rows_that_are_there_twice_are_counted_and_lost_ones_are_named(tmp_path, service):
    backend = opencensus(tmp_path, service)
    service.script.append("lost")
    folder = recorded(tmp_path, backend)
    copies = service.copies()
    assert copies > 0
    assert audit(folder, backend).duplicates == copies
    rows = service.tables["customMetrics"]
    gone = [row for row in rows if row["operation_Id"] == folder.run_id and row["name"] == "big"]
    service.tables["customMetrics"] = [row for row in rows if row not in gone]

    found = audit(folder, backend)

    assert (found.sent, found.stored, found.missing) == (153, 103, 50)
    assert found.differences[0] == "metric 'big' of step 0 is missing: 1e+300"


def test_what_cannot_be_asked_says_what_to_type(tmp_path, service):
    folder = recorded(tmp_path, MemoryBackend())
    with pytest.raises(UsageError, match=f"mlobs sync {folder.run_id} --backend appinsights"):
        audit(folder, opencensus(tmp_path, service))
    blind = dataclasses.replace(opencensus(tmp_path, service), name="memory", workspace_id=None)
    with pytest.raises(UsageError, match="workspace_id="):
        audit(folder, blind)


def mlobs_audit(folder, *arguments, **environment):
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MLOBS_")}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "mlobs", "audit", *arguments, "--store", "store"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        env={**kept, "PYTHONPATH": str(HERE), **environment},
    )  # fmt: skip


def test_the_command_prints_a_line_for_each_backend_and_exits_with_1_if_one_lacks_something(
    tmp_path, service
):
    tracker = mlobs.Tracker(
        "audit", backends=[tensorboard(tmp_path, service), opencensus(tmp_path, service)],
        store=tmp_path / "store", delivery="thread",
    )  # fmt: skip
    with tracker.start_run() as run:
        for step in range(9):
            run.log_metric("loss", step / 7, step=step)
    wait_until_settled(run)
    secret = {"APPLICATIONINSIGHTS_CONNECTION_STRING": service.connection_string}
    (tmp_path / "mlobs.toml").write_text(
        '[backends.appinsights]\nquery_credential = "appinsights_credential:make"\n'
    )

    well = mlobs_audit(tmp_path, "latest", **secret)
    document = json.loads(
        mlobs_audit(tmp_path, run.id, "--backend", "appinsights", "--json", **secret).stdout
    )
    service.tables["customMetrics"].clear()
    lost = mlobs_audit(tmp_path, "latest", **secret)

    assert well.returncode == 0, well.stdout + well.stderr
    heading, *lines = well.stdout.splitlines()
    assert heading.split() == [
        "backend",
        "sent",
        "stored",
        "missing",
        "merged",
        "duplicates",
        "unknown",
        "pending",
        "agrees",
    ]
    assert lines[0].split() == ["tensorboard", "9", "9", "0", "0", "0", "0", "0", "yes"]
    assert lines[1].split() == ["appinsights", "9", "9", "0", "0", "0", "0", "0", "yes"]
    assert "tensorboard: not read back, so not compared: artifact, log, run_started" in well.stdout
    assert document["audits"][0]["agrees"] is True
    assert lost.returncode == 1
    assert "metric 'loss' of step 0 is missing: 0.0" in lost.stdout
    assert "and 4 more points are missing" in lost.stdout


def test_without_a_credential_for_queries_it_says_which_option_gives_one(tmp_path, service):
    asking = dataclasses.replace(opencensus(tmp_path, service), query_credential="environment")
    with pytest.raises(Unauthorized, match="query_credential="):
        list(asking.source().read("r"))


ONE_WAY = """
from dataclasses import dataclass
from mlobs.backend import Capabilities, Receipt

@dataclass
class OneWay:
    name: str = "oneway"
    capabilities = Capabilities()

    def deliver(self, batch):
        return Receipt(ref="there")

    def close(self):
        pass
"""


def test_a_backend_without_a_way_back_is_passed_over_unless_it_is_named(tmp_path):
    (tmp_path / "one_way.py").write_text(ONE_WAY)
    program = (
        "import mlobs, one_way\n"
        "mlobs.Tracker('x', backends=[one_way.OneWay()], store='store').start_run().finish()"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)
    found = {"PYTHONPATH": str(tmp_path)}

    passed = mlobs_audit(tmp_path, "latest", **found)
    named = mlobs_audit(tmp_path, "latest", "--backend", "oneway", **found)

    assert (passed.returncode, passed.stdout) == (0, "oneway: it has no way back, so it is not compared\n")
    assert named.returncode == 1
    assert "has no source()" in named.stderr


def test_a_backend_without_its_secret_is_told_and_counts_as_unasked(tmp_path, service):
    recorded(tmp_path, opencensus(tmp_path, service))
    done = mlobs_audit(tmp_path, "latest", APPLICATIONINSIGHTS_CONNECTION_STRING="")

    assert done.returncode == 1
    assert "appinsights: Application Insights needs a connection string" in done.stderr
