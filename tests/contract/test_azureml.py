"""Azure ML by the real SDK, against a workspace on 127.0.0.1; values are read back by the SDK's own Run."""

import http.server
import json
import math
import os
import sys
import threading
import uuid

import pytest
from azureml_service import GROUP, SUBSCRIPTION, WORKSPACE, azureml_service, forget_tokens, token

import mlobs
from mlobs.events import Artifact, Dataset, Histogram, Log, Metrics, Params, RunFinished, RunStarted, Tags
from mlobs.testing import BackendContract
from mlobs.testing.conversation import AT, Conversation

pytest.importorskip("azureml.core", reason="pip install 'mlobs[azureml]'")
# msrest on requests and urllib3 of these years: their own code
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def service():
    with azureml_service() as running:
        yield running


@pytest.fixture(autouse=True)
def _outside_of_jobs(monkeypatch):
    for name in [one for one in os.environ if one.startswith("AZUREML_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def backend(service):
    return interactive(service)


def interactive(service, **more):
    return mlobs.backends.AzureML(
        WORKSPACE, SUBSCRIPTION, GROUP, token=token(), resource_manager=service.uri, **more
    )


def sdk_run(service, ref):
    """The run as a user opens it, with the SDK's public classes over the SDK's own discovery."""
    from azureml._restclient.service_context import ServiceContext
    from azureml.core import Experiment, Run, Workspace
    from azureml.core.authentication import TokenAuthentication

    auth = TokenAuthentication(lambda _: token(), cloud="AzureCloud")
    context = ServiceContext(
        SUBSCRIPTION, GROUP, WORKSPACE, f"id-{service.uri}", f"{service.uri}/discovery", auth
    )
    workspace = Workspace._from_service_context(context, "loopback")
    experiment, _, run_id = ref.rpartition("/")
    return Run(Experiment(workspace, experiment), run_id)


KEEPS_FILES = frozenset({"artifact.at", "artifact.role", "artifact.media_type"})  # a path alone


class TestContract(BackendContract):
    loses = KEEPS_FILES

    @pytest.fixture
    def backend(self, service):
        return interactive(service)

    @pytest.fixture
    def unreachable(self):
        return mlobs.backends.AzureML(
            WORKSPACE, SUBSCRIPTION, GROUP, token=token(), resource_manager="http://127.0.0.1:9"
        )


class TestContractInJob(BackendContract):
    """The same rules where the run is the job's own, and its children."""

    loses = KEEPS_FILES

    @pytest.fixture
    def backend(self, service, monkeypatch):
        for name, value in service.environment(f"job-{uuid.uuid4().hex[:8]}").items():
            monkeypatch.setenv(name, value)
        yield mlobs.backends.AzureML()
        forget_tokens()


@pytest.fixture
def talk(backend):
    conversation = Conversation(backend)
    yield conversation
    conversation.backend.close()


def start(talk, *events):
    return talk.send(talk.run, *events)


def test_values_are_what_the_sdk_reads(service, talk):
    receipt = start(
        talk,
        Params(AT, {"lr": 0.1, "layers": [1, 2]}),
        Tags(AT, {"team": "x"}),
        *(Metrics(AT + n, n, {"loss": 1 / (n + 1), "val/acc": n / 3}) for n in range(5)),
        Artifact(AT, "notes.txt", 5, "text", "text/plain", data=b"hello"),
        RunFinished(AT + 9, "FINISHED"),
    )

    run = sdk_run(service, receipt.ref)
    assert run.get_metrics()["loss"] == [1 / (n + 1) for n in range(5)]
    assert run.get_metrics()["val/acc"] == [n / 3 for n in range(5)]
    assert {"param.lr": "0.1", "param.layers": "[1,2]"}.items() <= run.get_properties().items()
    assert run.get_tags()["team"] == "x"
    assert run.get_file_names() == ["notes.txt"]
    assert run.get_status() == "Completed"
    assert run.get_details()["startTimeUtc"].startswith("2023-11-14T22:13:20.25")
    assert receipt.url.endswith(
        f"/runs/{run.id}?wsid=/subscriptions/{SUBSCRIPTION}/resourcegroups/{GROUP}/workspaces/{WORKSPACE}"
    )
    assert run.get_portal_url().partition("&tid=")[0] == receipt.url


def test_files_are_what_the_sdk_downloads(service, talk, tmp_path):
    content = bytes(range(256)) * 40
    names = ("deep/data.bin", "a b.txt", "ä(1).txt", "50%#?.txt", "x@step3.txt", "ckpt.step3.pt")
    receipt = start(talk, *(Artifact(AT, name, len(content), data=content) for name in names))

    run = sdk_run(service, receipt.ref)
    there = run.get_file_names()
    assert there == [
        "deep/data.bin",
        "a b.txt",
        "ä(1).txt",
        "50_x25__x23__x3F_.txt",
        "x_x40_step3.txt",
        "ckpt.step3.pt",
    ]
    for name in there:
        run.download_file(name, str(tmp_path / "got"))
        assert (tmp_path / "got").read_bytes() == content
    assert set(talk.artifacts()) == {(name, None) for name in names}


def test_a_second_artifact_of_a_path_lies_beside_the_first(service, talk):
    receipt = start(talk, Artifact(AT, "a/model.bin", 3, data=b"one"))
    again = talk.send(Artifact(AT, "a/model.bin", 3, data=b"two"))
    talk.repeat()

    first, second = sdk_run(service, receipt.ref).get_file_names()
    assert first == "a/model.bin"
    assert second.startswith("a/model~")
    assert second.endswith(".bin")
    assert list(again.lowered.values())
    assert talk.artifacts() == {("a/model.bin", None): b"two"}


def test_a_path_whose_content_never_came_is_left_behind(service, talk):
    start(talk, Tags(AT, {"a": "b"}))
    service.fail("^PUT /account/", status=403, times=1)
    with pytest.raises(mlobs.Unauthorized):
        talk.send(Artifact(AT, "model.bin", 3, data=b"one"))
    talk.send(Artifact(AT, "model.bin", 3, data=b"one"))

    assert talk.artifacts() == {("model.bin", None): b"one"}


def test_names_beyond_the_fiftieth_are_rows_of_a_table(service, talk):
    values = {f"m{n:03}": n / 7 for n in range(120)}
    receipt = start(talk, Metrics(AT, 1, values))
    talk.send(Metrics(AT + 1, 2, values))

    held = sdk_run(service, receipt.ref).get_metrics()
    assert len(held) == 50
    assert len(held["mlobs.more_metrics"]["metric"]) == 2 * (120 - 49)
    assert "a run holds 50 names of metrics there" in next(iter(receipt.lowered.values()))
    assert sorted(talk.points()) == sorted((n, s, repr(v)) for n, v in values.items() for s in (1, 2))


def test_points_of_a_restarted_process_find_the_names_that_are_there(service, talk):
    start(talk, Metrics(AT, 0, {f"m{n:03}": 0.5 for n in range(49)}))
    talk.backend = interactive(service)
    talk.send(Metrics(AT + 1, 1, {"new": 2.0, "m000": 1.0}))

    assert {("new", 1, "2.0"), ("m000", 1, "1.0")} <= set(talk.points())


def test_a_post_has_at_most_250_rows_of_a_name_and_50_names(talk):
    start(talk, *(Metrics(AT + n / 100, n, {"loss": float(n)}) for n in range(900)))

    assert len(talk.points()) == 900  # the service refuses more in a post


def test_not_finite_values_are_told(service, talk):
    receipt = start(
        talk,
        Metrics(AT, 0, {"loss": math.nan}),
        Metrics(AT, 1, {"loss": -math.inf}),
        Metrics(AT, 2, {"loss": 0.5}),
    )

    run = sdk_run(service, receipt.ref)
    assert run.get_metrics()["loss"] == [-sys.float_info.max, 0.5]
    assert run.get_tags()["mlobs.nan.loss"] == "nan at step 0; there may be more"
    assert talk.points() == [("loss", 1, "-inf"), ("loss", 2, "0.5")]


def test_params_and_tags_beyond_the_limits_are_in_a_file(service, talk):
    params = {f"p{n:03}": n for n in range(60)}
    receipt = start(talk, Params(AT, params), Tags(AT, {f"t{n:03}": "x" for n in range(60)}))
    talk.send(RunFinished(AT + 1, "FAILED", "an error", exit_code=3, unrecorded=1))

    run = sdk_run(service, receipt.ref)
    held = {
        name.removeprefix("param."): text for name, text in run.get_properties().items() if "param" in name
    }
    document = json.loads(talk.artifacts()["params.json", None])
    assert {**{name: int(text) for name, text in held.items()}, **document} == params
    assert len(run.get_tags()) <= 50
    assert len(json.loads(talk.artifacts()["tags.json", None])) == 60 - 38
    assert "lowered" in talk.outcomes


def test_a_param_keeps_its_first_value(service, talk):
    start(talk, Params(AT, {"lr": 0.1}))
    receipt = talk.send(
        Params(AT, {"lr": 0.2}, "keep_first"), Params(AT, {"depth": 7}), Params(AT, {"depth": 7.0})
    )

    run = sdk_run(service, talk.ref)
    assert run.get_properties()["param.lr"] == "0.1"
    assert run.get_tags()["mlobs.param_conflict.lr"] == "0.2"
    assert "keeps its first value" in next(iter(receipt.lowered.values()))
    assert talk.params() == {"lr": "0.1", "depth": "7"}


def test_a_param_that_another_process_wrote_first_keeps_its_value(service, talk):
    start(talk, Params(AT, {"lr": 0.1}))
    run_id = talk.ref.split("/")[1]
    service.patch_run("contract", run_id, {"properties": {"param.depth": "3"}})
    receipt = talk.send(Params(AT, {"depth": 4, "late": 1}))

    held = sdk_run(service, talk.ref)
    assert {"param.depth": "3", "param.late": "1"}.items() <= held.get_properties().items()
    assert held.get_tags()["mlobs.param_conflict.depth"] == "4"
    assert list(receipt.lowered.values()) == [
        "param 'depth' keeps its first value there: another stands in tag 'mlobs.param_conflict.depth'"
    ]


def test_an_overwritten_param_counts(talk):
    start(talk, Params(AT, {"lr": 0.1}))
    talk.send(Params(AT, {"lr": 0.2}, "overwrite"))

    assert talk.params() == {"lr": "0.2"}


def test_pictures_tables_and_matrices_are_shown_in_the_portal(service, talk):
    table = json.dumps({"columns": ["id", "name", "score"], "data": [[1, "a", 0.5], [2, None, 1]]}).encode()
    confusion = json.dumps({"matrix": [[5, 1], [0, 4]], "labels": ["cat", "dog"]}).encode()
    receipt = start(
        talk,
        Artifact(AT, "predictions.json", len(table), "table", "application/json", data=table),
        Artifact(AT, "cm.json", len(confusion), "confusion_matrix", "application/json", data=confusion),
        Artifact(AT, "val/sample.png", 3, "image", "image/png", data=b"png", step=7),
        Histogram(AT, 3, "weights", [1.0, 2.0], [0.0, 0.5, 1.0]),
    )

    metrics = service.metrics[receipt.vendor_id]
    kinds = {name: one["properties"]["uxMetricType"] for name, one in metrics.items()}
    assert kinds == {
        "predictions.json": "azureml.v1.table",
        "cm.json": "azureml.v2.confusion_matrix",
        "val/sample.png": "azureml.v2.image",
        "weights.histogram": "azureml.v1.table",
    }
    run = sdk_run(service, receipt.ref)
    held = run.get_metrics()
    assert held["predictions.json"] == {"id": [1, 2], "name": ["a", ""], "score": [0.5, 1.0]}
    assert held["weights.histogram"] == {"left": [0.0, 0.5], "right": [0.5, 1.0], "count": [1.0, 2.0]}
    image = held["val/sample.png"].rpartition(f"/dcid.{run.id}/")[2]
    assert image == "val/sample@step7.png"
    drawn = service.blobs[held["cm.json"].removeprefix("aml://artifactId/")]
    assert json.loads(drawn)["data"] == {"class_labels": ["cat", "dog"], "matrix": [[5, 1], [0, 4]]}
    assert talk.artifacts()["val/sample.png", 7] == b"png"
    assert ("predictions.json", None) in talk.artifacts()


def test_a_large_table_is_a_file_alone(service, talk):
    rows = [[n] for n in range(251)]
    table = json.dumps({"columns": ["n"], "data": rows}).encode()
    receipt = start(talk, Artifact(AT, "large.json", len(table), "table", "application/json", data=table))

    assert "large.json" not in service.metrics.get(receipt.vendor_id, {})
    assert "it is a file alone" in next(iter(receipt.lowered.values()))
    assert talk.artifacts() == {("large.json", None): table}


def test_log_lines_are_files_that_a_person_reads(service, talk, tmp_path):
    lines = [
        Log(AT, "first\nand more", "WARNING", "train", exception="Traceback\n  ValueError: x", step=3),
        Log(AT + 1, "\ttabs\\", stream="stdout"),
        Log(AT + 2, ""),
    ]
    receipt = start(talk, *lines)
    talk.lose(Log(AT + 3, "fourth"))
    talk.send(Log(AT + 4, "fifth"))

    run = sdk_run(service, receipt.ref)
    run.download_file(run.get_file_names()[0], str(tmp_path / "log"))
    assert (tmp_path / "log").read_text().splitlines()[:4] == [
        "2023-11-14T22:13:20.250000Z\tWARNING\tlogging\ttrain\tstep 3\tfirst",
        "  | and more",
        "  ! Traceback",
        "  !   ValueError: x",
    ]
    held = [event for event in talk.read() if isinstance(event, Log)]
    assert held == [*lines, Log(AT + 3, "fourth"), Log(AT + 4, "fifth")]


def test_log_lines_whose_file_stayed_empty_come_again(service, talk):
    start(talk, Log(AT, "first"))
    service.fail("^PUT /account/", status=500, times=1)
    with pytest.raises(mlobs.Unavailable):
        talk.lose(Log(AT + 1, "second"))
    talk.backend = interactive(service)
    talk.send(Log(AT + 2, "third"))

    assert [event.message for event in talk.read() if isinstance(event, Log)] == ["first", "second", "third"]


@pytest.mark.parametrize(
    ("status", "there"),
    [("FINISHED", "Completed"), ("FAILED", "Failed"), ("KILLED", "Canceled"), ("CRASHED", "Failed")],
)
def test_the_end_is_true(service, talk, status, there):
    end = RunFinished(AT + 9, status, "it was so", "Traceback\nValueError", 3, 2)
    receipt = start(talk, end)

    run = sdk_run(service, receipt.ref)
    details = run.get_details()
    assert details["status"] == there
    assert service.runs[run.id]["endTimeUtc"].startswith("2023-11-14T22:13:29.25")
    assert (service.runs[run.id].get("error") is not None) == (there == "Failed")
    assert talk.end() == end


def test_a_child_run_is_below_its_parent(service, backend):
    parent = Conversation(backend)
    start(parent)
    child = Conversation(backend, parent_run_id=parent.run.run_id)
    batch = child._batch(child._entries([child.run, Metrics(AT, 0, {"loss": 1.0})]))
    receipt = backend.deliver(msgspec_replace(batch, parent_ref=parent.ref))

    assert service.runs[receipt.vendor_id]["parentRunId"] == service.runs[parent.ref.split("/")[1]]["runId"]
    (found,) = sdk_run(service, parent.ref).get_children()
    assert found.id == receipt.vendor_id


def msgspec_replace(batch, **changes):
    import dataclasses

    return dataclasses.replace(batch, **changes)


def test_a_run_id_that_azure_ml_does_not_take_is_another_one(backend):
    talk = Conversation(backend)
    talk.run = RunStarted(AT, "a/b c", "exp with spaces", "x", talk.run.process)
    receipt = start(talk, Metrics(AT, 0, {"loss": 1.0}))

    assert receipt.ref.startswith("exp-with-spaces/xa-b-c-")
    assert next(event for event in talk.read() if isinstance(event, RunStarted)).run_id == "a/b c"


def test_a_workspace_is_found_by_its_config_file(service, tmp_path, monkeypatch):
    (tmp_path / ".azureml").mkdir()
    (tmp_path / "deep").mkdir()
    facts = {"subscription_id": SUBSCRIPTION, "resource_group": GROUP, "workspace_name": WORKSPACE}
    (tmp_path / ".azureml" / "config.json").write_text(json.dumps(facts))
    monkeypatch.chdir(tmp_path / "deep")
    talk = Conversation(mlobs.backends.AzureML(token=token(), resource_manager=service.uri))

    start(talk, Metrics(AT, 0, {"loss": 1.0}))

    assert talk.points() == [("loss", 0, "1.0")]


def test_without_a_workspace_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mlobs.UsageError, match="download it from the workspace's page"):
        Conversation(mlobs.backends.AzureML(token=token())).send(Metrics(AT, 0, {"loss": 1.0}))


def test_a_credential_that_is_none_is_refused():
    with pytest.raises(mlobs.UsageError, match="expected one of default, environment"):
        mlobs.backends.AzureML(credential="password")


def test_without_the_plugin_mlflows_way_says_what_to_install():
    pytest.importorskip("mlflow")
    from importlib.util import find_spec

    if find_spec("azureml.mlflow"):
        pytest.skip("the plugin is installed here")
    talk = Conversation(mlobs.backends.MLflow("azureml://127.0.0.1/mlflow/v2.0"))
    with pytest.raises(mlobs.MissingPackage, match=r"pip install 'mlobs\[azureml-mlflow\]'"):
        talk.send(Metrics(AT, 0, {"loss": 1.0}))


@pytest.fixture
def identity(monkeypatch):
    """A managed identity as App Service offers it, which azure-identity finds by two variables."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = json.dumps(
                {"access_token": token(), "expires_on": "2000000000", "resource": "x", "token_type": "Bearer"}
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            """Keep the test's output quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}/token")
        monkeypatch.setenv("IDENTITY_HEADER", "secret")
        yield asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("credential", ["managed-identity", "default"])
def test_a_credential_of_azure_identity_gets_in(service, identity, credential):
    options = {"credential": credential, "resource_manager": service.uri}
    talk = Conversation(mlobs.backends.AzureML(WORKSPACE, SUBSCRIPTION, GROUP, **options))
    start(talk, Metrics(AT, 0, {"loss": 1.0}))

    assert talk.points() == [("loss", 0, "1.0")]
    assert "resource=https" in identity[0]


@pytest.mark.parametrize("credential", ["environment", "sdk-service-principal"])
def test_credentials_that_are_not_there_pause_the_lane(service, credential, monkeypatch):
    for name in ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID"):
        monkeypatch.delenv(name, raising=False)
    options = {"credential": credential, "resource_manager": service.uri}
    talk = Conversation(mlobs.backends.AzureML(WORKSPACE, SUBSCRIPTION, GROUP, **options))
    with pytest.raises(mlobs.Unauthorized):
        talk.send(talk.run, Metrics(AT, 0, {"loss": 1.0}))


def test_a_dataset_at_a_web_address_is_registered(tmp_path, monkeypatch):
    """Over TLS, since the SDK asks its newest service, of versions of data, in no other way."""
    pytest.importorskip("azureml.dataprep", reason="pip install azureml-dataset-runtime")
    from azurite import certificates

    ca, *own = certificates(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca))
    event = Dataset(AT, "train", "v3", "b3:abc", "content", source="https://example.com/train.csv", rows=3)
    with azureml_service(certificate=tuple(own)) as service:
        talk = Conversation(interactive(service))
        start(talk, event, Dataset(AT, "local", "v1", "b3:def", "content", source="/data/train.csv"))
        talk.repeat()
        held = [one.fingerprint for one in talk.read() if isinstance(one, Dataset)]

    (found,) = service.datasets
    assert (found["name"], found["datasetType"]) == ("train", "file")
    assert "https://example.com/train.csv" in found["latest"]["dataflow"]
    tags = {"mlobs.fingerprint": "b3:abc", "mlobs.strength": "content", "mlobs.version": "v3"}
    assert found["tags"] == tags
    assert held == ["b3:abc", "b3:def"]


def test_without_that_package_a_dataset_is_a_file_and_a_tag(service, talk):
    from importlib.util import find_spec

    if find_spec("azureml.dataprep"):
        pytest.skip("azureml-dataset-runtime is installed here")
    event = Dataset(AT, "train", "v3", "b3:abc", "content", source="https://example.com/train.csv")
    receipt = start(talk, event)

    assert not receipt.lowered
    assert sdk_run(service, receipt.ref).get_tags()["mlobs.dataset.train"] == "v3, train, content b3:abc"
    assert event in talk.read()
