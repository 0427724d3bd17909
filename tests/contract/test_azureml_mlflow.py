"""Azure ML by the MLflow protocol: its plugin, over TLS, in front of a real `mlflow server`.

It has an environment of its own, since the plugin allows MLflow up to 3.15: `make test-azureml-mlflow`.
"""

import json

import pytest
from msgspec.structs import replace

pytest.importorskip("azureml.mlflow", reason="it has an environment of its own: make test-azureml-mlflow")

from azureml_mlflow_proxy import PREFIX, workspace
from azureml_service import token
from mlflow import MlflowClient
from mlflow_server import mlflow_server

import mlobs
from mlobs.events import Artifact, Dataset, Metrics, Params, RunFinished, Tags
from mlobs.testing import BackendContract
from mlobs.testing.conversation import AT, Conversation

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """The real server, by its own client."""
    with mlflow_server(tmp_path_factory.mktemp("server")) as uri:
        yield uri


@pytest.fixture(scope="module")
def service(behind, tmp_path_factory):
    with (
        workspace(tmp_path_factory.mktemp("tls"), behind) as (running, ca),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("REQUESTS_CA_BUNDLE", str(ca))
        patch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(ca))
        patch.setenv("AZUREML_CURRENT_CLOUD", "AzureCloud")
        yield running


@pytest.fixture
def server(behind):
    return MlflowClient(behind)


@pytest.fixture
def job(service, server, monkeypatch):
    """The run of an SDK v2 job, whose environment this process has."""
    found = server.get_experiment_by_name("job")
    experiment = found.experiment_id if found else server.create_experiment("job")
    run = server.create_run(experiment)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", service.uri.replace("https", "azureml") + PREFIX)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token())
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    return run.info.run_id


@pytest.mark.usefixtures("job")
class TestContract(BackendContract):
    # The plugin downloads from Azure's own hosts alone, and the traceback of an end is a file.
    reads = frozenset({"params", "metrics", "tags"})

    @pytest.fixture
    def backend(self):
        return mlobs.backends.MLflow()

    def restarted(self, backend):
        backend.close()
        return mlobs.backends.MLflow()


def deliver(backend, *events):
    talk = Conversation(backend)
    return talk, talk.send(talk.run, *events)


def files(service, ref):
    found = {}
    for name, content in service.blobs.items():
        if name.startswith(f"ExperimentRun/dcid.{ref}/"):
            found[name.removeprefix(f"ExperimentRun/dcid.{ref}/")] = content
    return found


def test_the_first_run_is_the_jobs_own_and_values_are_there(service, server, job):
    _, receipt = deliver(
        mlobs.backends.MLflow(),
        *(Metrics(AT + n, n, {"loss": n / 3}) for n in range(4)),
        Params(AT, {"lr": 0.1}),
        Tags(AT, {"team": "x"}),
        Artifact(AT, "deep/notes.txt", 5, "text", "text/plain", data=b"hello"),
        RunFinished(AT + 9, "FINISHED"),
    )

    held = server.get_run(job)
    assert receipt.ref == job
    points = server.get_metric_history(job, "loss")
    assert [(one.step, one.value) for one in points] == [(n, n / 3) for n in range(4)]
    assert held.data.params == {"lr": "0.1"}
    assert held.data.tags["team"] == "x"
    assert files(service, job) == {"deep/notes.txt": b"hello"}
    assert (held.info.status, held.data.tags["mlobs.status"]) == ("RUNNING", "FINISHED")


def test_the_next_run_is_below_it_with_a_status_of_its_own(server, job):
    backend = mlobs.backends.MLflow()
    deliver(backend, RunFinished(AT + 1, "FINISHED"))
    _, receipt = deliver(backend, RunFinished(AT + 1, "FAILED", "too hot"))

    held = server.get_run(receipt.ref)
    assert held.data.tags["mlflow.parentRunId"] == job
    assert held.info.status == "FAILED"


def test_a_job_that_starts_again_goes_on_with_its_run(server, job):
    talk, _ = deliver(mlobs.backends.MLflow(), Metrics(AT, 0, {"loss": 1.0}))
    talk.ref, talk.backend = None, mlobs.backends.MLflow()
    again = talk.send(talk.run, Metrics(AT + 1, 1, {"loss": 0.5}))

    assert again.ref == job
    assert [one.step for one in server.get_metric_history(job, "loss")] == [0, 1]


def test_a_job_that_is_gone_on_with_or_synced_from_elsewhere_keeps_its_status(server, job, monkeypatch):
    talk, _ = deliver(mlobs.backends.MLflow(), RunFinished(AT + 1, "KILLED", "SIGTERM"))
    talk.backend = mlobs.backends.MLflow()
    talk.send(
        replace(talk.run, at=AT + 2, attempt=2, resumed_from="writer"), Metrics(AT + 3, 1, {"loss": 1.0})
    )
    monkeypatch.delenv("MLFLOW_RUN_ID")
    talk.backend = mlobs.backends.MLflow()
    talk.send(RunFinished(AT + 9, "FINISHED"))

    held = server.get_run(job)
    assert (held.info.status, held.data.tags["mlobs.status"]) == ("RUNNING", "FINISHED")


def test_a_file_whose_batch_comes_again_lies_there_once(service, job):
    talk, _ = deliver(mlobs.backends.MLflow(), Artifact(AT, "m.bin", 1, data=b"x"))
    for _ in range(7):
        talk.repeat()

    assert files(service, job) == {"m.bin": b"x"}


def test_params_beyond_200_are_in_a_file(service, server, job):
    params = {f"p{n:03}": n for n in range(250)}
    deliver(mlobs.backends.MLflow(), Params(AT, params))

    held = server.get_run(job).data.params
    document = json.loads(files(service, job)["params.json"])
    assert len(held) == 200
    assert {**{name: int(text) for name, text in held.items()}, **document} == params


def test_files_are_written_once_and_a_second_one_lies_beside_the_first(service, job):
    talk, _ = deliver(mlobs.backends.MLflow(), Artifact(AT, "m.bin", 3, data=b"one"))
    talk.send(Artifact(AT, "m.bin", 3, data=b"two"))

    first, second = files(service, job).items()
    assert first == ("m.bin", b"one")
    assert second[0].startswith("m~")
    assert second[1] == b"two"


def test_datasets_are_files_since_the_server_does_not_know_them(service, job):
    backend = mlobs.backends.MLflow()
    deliver(backend, Dataset(AT, "train", "v1", "abc", "content", rows=3))

    assert "dataset" not in backend.capabilities.kinds
    assert "dataset" in mlobs.backends.MLflow("sqlite:///x.db").capabilities.kinds
    document = json.loads(files(service, job)["mlobs/datasets/train.json"])
    assert document["fingerprint"] == "abc"


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize(
    ("status", "expected"), [(429, mlobs.Unavailable), (401, mlobs.Unauthorized), (503, mlobs.Unavailable)]
)
def test_trouble_is_told(service, status, expected):
    talk, _ = deliver(mlobs.backends.MLflow(), Metrics(AT, 0, {"loss": 1.0}))
    service.fail("log-batch", status=status, times=1)
    with pytest.raises(expected):
        talk.send(Metrics(AT + 1, 1, {"loss": 0.5}))
    talk.repeat()

    assert [step for _, step, _ in talk.points()] == [0, 1]
