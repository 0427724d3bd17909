"""What a lane is told when MLflow does not do its work; against real connections."""

import io
import re
import socket
import sqlite3
import sys
import time
from datetime import datetime, timezone
from email.utils import format_datetime

import pytest
from mlflow_server import scripted_server

from mlobs.backend import Batch, Entry
from mlobs.backends.mlflow import MLflow
from mlobs.backends.mlflow_client import connect
from mlobs.backends.mlflow_errors import retry_after_s, translated
from mlobs.errors import DeliveryError, MissingPackage, ServerError, Unauthorized, Unavailable
from mlobs.events import Artifact, Metrics, Process, RunStarted

# MLflow 3.17 on SQLAlchemy 2.1: its own query, deprecated there
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

RUN = RunStarted(1.7e9, "run-1", "errors", "n", Process("host", 1))


def deliver(backend, *events, ref=None):
    entries = tuple(Entry(str(n), event) for n, event in enumerate(events or (RUN,)))
    return backend.deliver(Batch(RUN, entries, lambda _: io.BytesIO(b"x"), ref))


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [b"no", b'{"error_code": "PERMISSION_DENIED", "message": "no"}'])
def test_refused_credentials_are_unauthorized(status, body):
    with scripted_server(status, body=body) as uri, pytest.raises(Unauthorized, match="refuses"):
        deliver(MLflow(uri))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_unavailable_for_as_long_as_it_says(status):
    with scripted_server(status, [("Retry-After", "7")]) as uri, pytest.raises(Unavailable) as caught:
        deliver(MLflow(uri))
    assert caught.value.retry_after_s == 7.0


def test_without_a_pause_asked_for_none_is_told():
    with scripted_server(503) as uri, pytest.raises(Unavailable) as caught:
        deliver(MLflow(uri))
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"", b"{}", b'{"run": {}}', b"\xff\x00"])
def test_an_answer_that_is_not_mlflows_is_unavailable(body):
    with scripted_server(200, body=body) as uri, pytest.raises(Unavailable):
        deliver(MLflow(uri))


def test_an_answer_that_breaks_off_says_so():
    with (
        scripted_server(200, body=b'{"run":', missing_bytes=90) as uri,
        pytest.raises(Unavailable, match=rf"{uri} broke off its answer"),
    ):
        deliver(MLflow(uri))


def test_an_address_without_mlflow_is_unavailable_and_says_so():
    with scripted_server(404, body=b"not here") as uri, pytest.raises(Unavailable, match="no MLflow server"):
        deliver(MLflow(uri))


def test_a_connection_that_is_closed_is_unavailable():
    with scripted_server(hang_up=True) as uri, pytest.raises(Unavailable):
        deliver(MLflow(uri))


def test_a_refused_connection_is_unavailable_at_once():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"  # bound, but nobody listens
        begin = time.monotonic()
        with pytest.raises(Unavailable):
            deliver(MLflow(uri))
    assert time.monotonic() - begin < 10


def test_a_server_that_never_answers_is_unavailable(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unavailable, match="timeout"):
        deliver(MLflow(f"http://127.0.0.1:{silent.getsockname()[1]}"))


def test_a_password_is_left_out_of_the_message():
    with scripted_server(503) as uri, pytest.raises(Unavailable) as caught:
        deliver(MLflow(uri.replace("//", "//me:hunter2@")))
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_a_refused_value_is_the_vendors_error_once_the_run_is_open(tmp_path):
    backend = MLflow(f"sqlite:///{tmp_path}/m.db", artifact_location=str(tmp_path / "artifacts"))
    ref = deliver(backend).ref
    with pytest.raises(Exception, match="Names may only contain") as caught:
        deliver(backend, Metrics(1.7e9, 1, {"a%b": 1.0}), ref=ref)
    assert not isinstance(caught.value, Unavailable)
    with pytest.raises(Exception, match=re.escape("..")) as caught:
        deliver(backend, Artifact(1.7e9, "../x", 1), ref=ref)
    assert not isinstance(caught.value, Unavailable)


def test_too_large_a_request_is_the_events_fault():
    with (
        scripted_server(413, body=b"too large") as uri,
        pytest.raises(Exception, match="413") as caught,
        translated(remote=True),
    ):
        connect(uri).get_run("0" * 32)
    assert not isinstance(caught.value, DeliveryError)


@pytest.mark.slow
def test_a_locked_database_is_unavailable(tmp_path):
    """20 s: MLflow's own patience with a lock, which nobody can change."""
    backend = MLflow(f"sqlite:///{tmp_path}/m.db", artifact_location=str(tmp_path / "artifacts"))
    ref = deliver(backend).ref
    other = sqlite3.connect(tmp_path / "m.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(Unavailable, match="database is locked"):
            deliver(backend, Metrics(1.7e9, 1, {"a": 1.0}), ref=ref)
    finally:
        other.close()
    deliver(backend, Metrics(1.7e9, 1, {"a": 1.0}), ref=ref)


def test_a_folder_that_cannot_be_written_is_unavailable_and_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")  # root may write everywhere, but not below a file
    with pytest.raises(Unavailable, match="file"):
        deliver(MLflow(f"sqlite:///{tmp_path}/file/m.db"))


def test_a_missing_package_is_said_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # what Python does for a package not there
    with pytest.raises(MissingPackage, match="mlobs\\[mlflow\\]"):
        deliver(MLflow("http://127.0.0.1:1"))


def test_retry_after_is_seconds_or_a_date():
    now = 1_700_000_000.0
    later = format_datetime(datetime.fromtimestamp(now + 90, timezone.utc), usegmt=True)
    assert retry_after_s("12", now) == 12.0
    assert retry_after_s(later, now) == 90.0
    assert retry_after_s(later, now + 100) == 0.0
    assert retry_after_s("soon", now) is None
    assert retry_after_s(None, now) is None


def log_batch(uri):
    """As `deliver` does it once the run is open."""
    from mlflow.entities import Metric

    with translated(remote=True):
        connect(uri).log_batch("0" * 32, [Metric("a", 1.0, 1, 1)])


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ({"status": 500}, ServerError, "answers 500"),
        ({"status": 500, "body": b'{"message": "boom"}'}, ServerError, "answers 500"),
        ({"hang_up": True}, ServerError, "closed the connection without an answer"),
        ({"status": 502}, Unavailable, "answers 502"),
        ({"status": 503}, Unavailable, "answers 503"),
        ({"status": 401, "body": b'{"message": "Unauthorized"}'}, Unauthorized, "answers 401: MLflow refus"),
        ({"status": 429, "body": b'{"message": "slow"}'}, Unavailable, "answers 429"),
        ({"body": b"<html>"}, Unavailable, "answers, but not as MLflow does"),
        ({"body": b'{"run": {"in'}, Unavailable, "answers, but not as MLflow does"),
    ],
)
def test_an_error_at_a_batch_is_told_in_a_sentence_and_keeps_its_cause(answer, error, words):
    with scripted_server(**answer) as uri, pytest.raises(error, match=words) as caught:
        log_batch(uri)

    assert str(caught.value).startswith(uri)
    assert len(str(caught.value)) < 250
    assert type(caught.value) is error
    assert caught.value.__cause__ is not None


def test_a_refused_connection_is_told_in_a_sentence():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(Unavailable) as caught:
            log_batch(uri)

    assert str(caught.value) == f"{uri} refuses connections"


def test_a_run_that_is_gone_for_good_is_no_events_fault(tmp_path):
    client = connect(f"sqlite:///{tmp_path}/m.db")
    with pytest.raises(Unavailable, match=r"not found.*mlobs sync RUN --restart"), translated(remote=False):
        client.set_tag("0" * 32, "a", "b")
