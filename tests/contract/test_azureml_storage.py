"""Artifacts of Azure ML in real blob storage, Azurite over TLS, as the SDK downloads them."""

import hashlib
import os
import time

import pytest
from azureml_service import GROUP, SUBSCRIPTION, WORKSPACE, azureml_service, token
from azurite import azurite, azurite_blob, create_container
from test_azureml import sdk_run

import mlobs
from mlobs.events import Artifact, Log, Metrics
from mlobs.testing import BackendContract
from mlobs.testing.conversation import AT, Conversation

pytest.importorskip("azureml.core", reason="pip install 'mlobs[azureml]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(azurite_blob() is None, reason="Azurite is not installed - make azurite"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
LARGE_BYTES = 70 << 20  # above 64 MiB the SDK's storage client sends blocks


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, azurite(tmp_path_factory.mktemp("azurite")) as storage:
        for name in [one for one in os.environ if one.startswith("AZUREML_")]:
            patch.delenv(name)
        patch.setenv("REQUESTS_CA_BUNDLE", str(storage.ca))
        create_container(storage)
        with azureml_service() as running:
            running.signed = storage.signed
            yield running


@pytest.fixture
def backend(service):
    options = {"token": token(), "resource_manager": service.uri}
    return mlobs.backends.AzureML(WORKSPACE, SUBSCRIPTION, GROUP, **options)


class TestContract(BackendContract):
    loses = frozenset({"artifact.at", "artifact.role", "artifact.media_type"})  # it keeps files: a path alone

    @pytest.fixture
    def backend(self, service):
        options = {"token": token(), "resource_manager": service.uri}
        return mlobs.backends.AzureML(WORKSPACE, SUBSCRIPTION, GROUP, **options)


@pytest.fixture
def talk(backend):
    conversation = Conversation(backend)
    yield conversation
    conversation.backend.close()


def test_files_of_any_name_are_what_the_sdk_downloads(service, talk, tmp_path):
    content = bytes(range(256)) * 40
    names = ("deep/data.bin", "a b.txt", "ä(1).txt", "50%#?.txt", "c+d=e,f@g.txt", "empty")
    files = {name: content if name != "empty" else b"" for name in names}
    receipt = talk.send(talk.run, *(Artifact(AT, name, len(data), data=data) for name, data in files.items()))

    run = sdk_run(service, receipt.ref)
    for name, data in zip(run.get_file_names(), files.values(), strict=True):
        run.download_file(name, str(tmp_path / "got"))
        assert (tmp_path / "got").read_bytes() == data
    assert talk.artifacts() == {(name, None): data for name, data in files.items()}


def test_a_second_artifact_of_a_path_and_log_lines(talk):
    talk.send(talk.run, Artifact(AT, "m.bin", 1, data=b"1"), Log(AT, "hello"))
    talk.send(Artifact(AT + 1, "m.bin", 1, data=b"2"), Log(AT + 1, "more"))
    talk.repeat()

    assert talk.artifacts() == {("m.bin", None): b"2"}
    assert [one.message for one in talk.read() if isinstance(one, Log)] == ["hello", "more"]


def test_a_large_file_of_a_program_arrives_whole(service, backend, tmp_path):
    content = hashlib.shake_128(b"mlobs").digest(1 << 20) * (LARGE_BYTES >> 20)
    (tmp_path / "model.bin").write_bytes(content)
    tracker = mlobs.Tracker("large", backends=[backend], store=tmp_path / "store", delivery="thread")
    with tracker.start_run() as run:
        run.log_artifact(tmp_path / "model.bin", "models")
        run.log_metric("loss", 0.5)

    assert run.delivery()["azureml"].delivered == 4, run.delivery()
    there = sdk_run(service, f"large/{run.get_backend_ref('azureml').id}")
    there.download_file("models/model.bin", str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == content
    assert there.get_metrics() == {"loss": 0.5}


def test_a_storage_that_is_not_trusted_is_told_at_once(talk, monkeypatch):
    """The SDK's own upload would try for 84 s."""
    talk.send(talk.run, Metrics(AT, 0, {"loss": 0.5}))
    begun = time.monotonic()
    with monkeypatch.context() as patch:
        patch.delenv("REQUESTS_CA_BUNDLE")
        patch.delenv("CURL_CA_BUNDLE", raising=False)
        with pytest.raises(mlobs.Unavailable, match="certificate"):
            talk.send(Artifact(AT, "a", 1, data=b"a"))
    talk.repeat()

    assert time.monotonic() - begun < 20.0
    assert talk.artifacts() == {("a", None): b"a"}


def test_a_signed_address_that_has_ended_pauses_the_lane(service, talk):
    talk.send(talk.run, Metrics(AT, 0, {"loss": 0.5}))
    signed = service.signed
    service.signed = lambda blob, permissions: signed(blob, permissions).replace("sig=", "sig=x")
    with pytest.raises(mlobs.Unauthorized, match="403") as caught:
        talk.send(Artifact(AT, "a", 1, data=b"a"))
    service.signed = signed
    talk.repeat()

    assert "sig=" not in str(caught.value)
    assert talk.artifacts() == {("a", None): b"a"}
