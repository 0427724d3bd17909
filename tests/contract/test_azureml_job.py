"""In a job of Azure ML: whose run it is, whose status it is, and a token that ends."""

import os
import subprocess
import sys
import time
import uuid

import pytest
from azureml_service import azureml_service, forget_tokens, token

import mlobs
from mlobs.events import Dataset, Metrics, RunFinished, Tags
from mlobs.testing.conversation import AT, Conversation

pytest.importorskip("azureml.core", reason="pip install 'mlobs[azureml]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
TRAIN = """
import sys
import mlobs
with mlobs.Tracker("other", backends=["azureml"]).start_run("train", params={"lr": 0.1}) as run:
    for step in range(20):
        run.log_metric("loss", 1 / (step + 1), step=step)
    run.log_text("notes", "hello")
    if "fail" in sys.argv:
        raise ValueError("too hot")
print(run.get_backend_ref("azureml").id)
"""


@pytest.fixture(scope="module")
def service():
    with azureml_service() as running:
        yield running


@pytest.fixture
def job(service, monkeypatch):
    """The id of a job's run, whose environment this process has."""
    for name in [one for one in os.environ if one.startswith("AZUREML_")]:
        monkeypatch.delenv(name)
    run_id = f"job-{uuid.uuid4().hex[:8]}"
    for name, value in service.environment(run_id).items():
        monkeypatch.setenv(name, value)
    yield run_id
    forget_tokens()


def deliver(backend, *events):
    talk = Conversation(backend)
    return talk, talk.send(talk.run, *events)


def test_the_first_run_is_the_jobs_own_and_the_next_is_its_child(service, job):
    backend = mlobs.backends.AzureML()
    _, first = deliver(backend, Metrics(AT, 0, {"loss": 1.0}), RunFinished(AT + 1, "FINISHED"))
    _, second = deliver(backend, Metrics(AT, 0, {"loss": 2.0}), RunFinished(AT + 1, "FAILED", "too hot"))

    assert first.vendor_id == job
    assert second.vendor_id != job
    assert service.runs[second.vendor_id]["parentRunId"] == job
    assert service.runs[second.vendor_id]["status"] == "Failed"


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED", "CRASHED"])
def test_the_jobs_status_is_left_to_azure_ml_and_a_tag_tells_ours(service, job, status):
    talk, _ = deliver(mlobs.backends.AzureML(), RunFinished(AT + 1, status, "it was so"))

    held = service.runs[job]
    assert held["status"] == "Running"
    assert held["endTimeUtc"] is None
    assert held["tags"]["mlobs.status"] == status
    assert ("error" in held) == (status in ("FAILED", "CRASHED"))
    assert talk.end() == RunFinished(AT + 1, status, "it was so")


def test_a_job_that_starts_again_goes_on_with_its_run(job):
    talk, _ = deliver(mlobs.backends.AzureML(), Metrics(AT, 0, {"loss": 1.0}))
    talk.ref, talk.backend = None, mlobs.backends.AzureML()
    again = talk.send(talk.run, Metrics(AT + 1, 1, {"loss": 0.5}))

    assert again.vendor_id == job
    assert [step for _, step, _ in talk.points()] == [0, 1]


def test_what_is_sent_later_from_elsewhere_leaves_the_jobs_status_alone_too(service, job, monkeypatch):
    talk, _ = deliver(mlobs.backends.AzureML(), Metrics(AT, 0, {"loss": 1.0}))
    for name in [one for one in os.environ if one.startswith("AZUREML_")]:
        monkeypatch.delenv(name)
    talk.backend = mlobs.backends.AzureML("ws", "sub", "rg", token=token(), resource_manager=service.uri)
    talk.send(Metrics(AT + 1, 1, {"loss": 0.5}), RunFinished(AT + 2, "FINISHED"))

    assert [step for _, step, _ in talk.points()] == [0, 1]
    assert service.runs[job]["status"] == "Running"
    assert service.runs[job]["tags"]["mlobs.status"] == "FINISHED"


def test_of_two_processes_one_gets_the_jobs_run(service, job):
    """The other process claims it between our look and our claim: a property is written once."""
    service.fail(rf"^GET .*/runs/{job}$", times=1, status=200, body=dict(service.run(job)))
    service.patch_run("job-experiment", job, {"properties": {"mlobs.run_id": "another"}})
    _, receipt = deliver(mlobs.backends.AzureML(), Tags(AT, {"a": "b"}))

    assert receipt.vendor_id != job
    assert service.runs[receipt.vendor_id]["parentRunId"] == job
    assert "a" not in service.runs[job]["tags"]


def test_the_sdk_sees_in_the_job_what_was_delivered(job):
    from azureml.core import Run

    deliver(mlobs.backends.AzureML(), *(Metrics(AT + n, n, {"loss": n / 3}) for n in range(3)))

    run = Run.get_context(allow_offline=False)
    assert run.id == job
    assert run.get_metrics() == {"loss": [0.0, 1 / 3, 2 / 3]}


def test_a_dataset_at_a_web_address_is_registered_from_a_job_too(service, job):
    pytest.importorskip("azureml.dataprep", reason="pip install azureml-dataset-runtime")
    event = Dataset(AT, "train", "v3", "b3:abc", "content", source="https://example.com/train.csv")
    talk, receipt = deliver(mlobs.backends.AzureML(), event)

    assert not receipt.lowered
    assert [one["name"] for one in service.datasets] == ["train"]
    assert event in talk.read()
    assert service.runs[job]["tags"]["mlobs.dataset.train"] == "v3, train, content b3:abc"


def test_a_dataset_that_is_not_registered_is_told_and_holds_nothing_back(service, job):
    pytest.importorskip("azureml.dataprep", reason="pip install azureml-dataset-runtime")
    service.fail("^POST /dataset/", status=403)
    event = Dataset(AT, "val", "v3", "b3:abc", "content", source="https://example.com/val.csv")
    talk, receipt = deliver(mlobs.backends.AzureML(), event)
    service.recover()

    assert "not in the register" in next(iter(receipt.lowered.values()))
    assert event in talk.read()
    assert "mlobs.dataset.val" in service.runs[job]["tags"]


def test_a_workspace_that_is_named_wins_over_the_job(service, job):
    backend = mlobs.backends.AzureML("ws2", "sub", "rg", token=token(), resource_manager=service.uri)
    with pytest.raises(mlobs.Unavailable, match="workspace 'ws2'"):
        deliver(backend, Tags(AT, {"a": "b"}))
    assert "a" not in service.runs[job]["tags"]


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_a_token_is_renewed_before_it_ends_in_every_time_zone(service, monkeypatch, zone):
    """The SDK by itself takes local time for UTC: in Tokyo it would renew nine hours late."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    old, new = token(60), token(3600)
    monkeypatch.setenv("AZUREML_RUN_TOKEN", old)
    service.new_tokens[:] = [new]
    try:
        talk, _ = deliver(mlobs.backends.AzureML(), Metrics(AT, 0, {"loss": 1.0}))
        service.valid_tokens = {new}
        talk.send(Metrics(AT + 1, 1, {"loss": 0.5}))
    finally:
        service.valid_tokens = None
        monkeypatch.undo()
        time.tzset()

    assert not service.new_tokens


@pytest.mark.usefixtures("job")
def test_a_token_that_is_not_renewed_pauses_the_lane(service, monkeypatch):
    monkeypatch.setenv("AZUREML_RUN_TOKEN", token(-10))
    service.new_tokens.clear()

    with pytest.raises(mlobs.Unauthorized, match="401 to the credentials: AuthenticationError: no new token"):
        deliver(mlobs.backends.AzureML(), Metrics(AT, 0, {"loss": 1.0}))


@pytest.mark.usefixtures("job")
def test_something_that_is_no_token_is_told(monkeypatch):
    monkeypatch.setenv("AZUREML_RUN_TOKEN", "opaque")

    with pytest.raises(mlobs.Unauthorized, match="AZUREML_RUN_TOKEN is no token of a run"):
        deliver(mlobs.backends.AzureML(), Metrics(AT, 0, {"loss": 1.0}))


@pytest.mark.parametrize(("words", "status", "code"), [((), "FINISHED", 0), (("fail",), "FAILED", 1)])
def test_a_program_in_a_job_names_the_backend_and_nothing_else(service, job, tmp_path, words, status, code):
    (tmp_path / "train.py").write_text(TRAIN)
    done = subprocess.run(
        [sys.executable, "train.py", *words],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert done.returncode == code, done.stderr
    assert done.stdout.strip() == ("" if words else job)
    held = service.metrics[job]["loss"]["value"]
    assert [(row["step"], row["data"]["loss"]) for row in held] == [(n, 1 / (n + 1)) for n in range(20)]
    assert service.runs[job]["properties"]["param.lr"] == "0.1"
    assert service.runs[job]["tags"]["mlobs.status"] == status
    assert service.blobs[f"ExperimentRun/dcid.{job}/notes.txt"] == b"hello"
