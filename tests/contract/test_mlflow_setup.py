"""What MLflow's backend is made from: URIs, secrets, and a database that is not there yet."""

import subprocess
import sys

import pytest

from mlobs.backend import Backend
from mlobs.backends.mlflow import MLflow
from mlobs.delivery.registry import build, public_spec, spec_of
from mlobs.errors import UsageError

# MLflow 3.17 on SQLAlchemy 2.1: its own query, deprecated there
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


def test_it_is_a_backend_and_constructing_it_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    backend = MLflow()
    assert isinstance(backend, Backend)
    assert backend.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    backend.close()
    assert not list(tmp_path.iterdir())
    probe = "import sys; from mlobs.backends import MLflow; MLflow(); assert 'mlflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", probe], check=True, cwd=tmp_path)


def test_the_uri_is_the_argument_or_the_environment(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://env:5000")
    assert MLflow().tracking_uri == "http://env:5000"
    assert MLflow("https://arg").tracking_uri == "https://arg"


@pytest.mark.parametrize("uri", ["./mlruns", "/data/mlruns", "file:///data", "file:mlruns", "C:\\mlruns"])
def test_a_file_store_is_refused_and_the_message_says_what_to_type(uri):
    with pytest.raises(UsageError, match=r"sqlite:///mlflow\.db"):
        MLflow(uri)


@pytest.mark.parametrize(
    "uri", ["localhost:5000", "mlruns", "sqlite://", "sqlite:///:memory:", "sqlite:x.db"]
)
def test_what_is_no_uri_is_refused(uri):
    with pytest.raises(UsageError, match="type '"):
        MLflow(uri)


def test_a_password_stays_out_of_what_is_written_down():
    backend = MLflow("http://me:s%40crt@host:5000/x")
    spec = spec_of(backend)
    assert (backend.tracking_uri, backend.username, backend.password) == ("http://host:5000/x", "me", "s@crt")
    assert "crt" not in repr(backend)
    assert "crt" not in repr(public_spec(spec))
    assert build(spec) == backend
    assert build(spec)._full_uri() == "http://me:s%40crt@host:5000/x"


@pytest.mark.slow
def test_processes_that_open_a_fresh_database_at_once_all_deliver(tmp_path):
    script = (
        "import sys; from mlobs.backend import Batch, Entry; from mlobs.backends import MLflow\n"
        "from mlobs.events import *\n"
        "run = RunStarted(1.7e9, sys.argv[1], 'e', 'n', Process('h', 1))\n"
        "entries = tuple(Entry(str(i), Metrics(1.7e9, i, {'a': 1.0})) for i in range(300))\n"
        "MLflow(sys.argv[2]).deliver(Batch(run, entries, None))\n"
    )
    uri = f"sqlite:///{tmp_path}/fresh.db"
    command = [sys.executable, "-c", script]
    processes = [
        subprocess.Popen([*command, f"run{i}", uri], stderr=subprocess.PIPE, cwd=tmp_path) for i in range(6)
    ]
    errors = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, errors
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment_id = client.get_experiment_by_name("e").experiment_id
    runs = client.search_runs([experiment_id])
    assert {run.data.tags["mlobs.run_id"] for run in runs} == {f"run{i}" for i in range(6)}
    assert all(len(client.get_metric_history(run.info.run_id, "a")) == 300 for run in runs)


def test_a_mistyped_scheme_is_answered_with_its_neighbour():
    with pytest.raises(UsageError, match="did you mean http://"):
        MLflow("htp://127.0.0.1:5000")
