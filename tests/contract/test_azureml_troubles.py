"""Azure ML in trouble: what the lane is told, how soon, and that nothing is lost or stored twice."""

import threading
import time

import pytest
from azureml_service import GROUP, SUBSCRIPTION, WORKSPACE, azureml_service, error_body, token

import mlobs
from mlobs import ServerError, Unauthorized, Unavailable
from mlobs.events import Artifact, Metrics, Params, Tags
from mlobs.testing.conversation import AT, Conversation

pytest.importorskip("azureml.core", reason="pip install 'mlobs[azureml]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
SOON_S = 5.0  # a request that is answered or refused at once, on a machine that does other things too


@pytest.fixture
def service(monkeypatch):
    for name in ("AZUREML_RUN_ID", "AZUREML_RUN_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with azureml_service() as running:
        yield running


@pytest.fixture
def talk(service):
    backend = mlobs.backends.AzureML(
        WORKSPACE, SUBSCRIPTION, GROUP, token=token(), resource_manager=service.uri, timeout_s=1.0
    )
    conversation = Conversation(backend)
    conversation.send(conversation.run, Metrics(AT, 0, {"loss": 0.0}))
    yield conversation
    service.recover()
    backend.close()


def failing(talk, *events):
    """The error at these events, and the seconds until it came."""
    begun = time.monotonic()
    with pytest.raises(mlobs.DeliveryError) as caught:
        talk.send(*(events or [Metrics(AT + 1, 1, {"loss": 1.0})]))
    return caught.value, time.monotonic() - begun


@pytest.mark.parametrize(
    ("where", "status", "expected"),
    [
        ("/metric/", 401, Unauthorized),
        ("^PATCH", 403, Unauthorized),
        ("^PUT /account/", 403, Unauthorized),
        ("/metric/", 408, Unavailable),
        ("/metric/", 429, Unavailable),
        ("^PATCH", 429, Unavailable),
        ("/artifacts/batch/metadata", 429, Unavailable),
        ("^PUT /account/", 429, Unavailable),
        ("/metric/", 500, ServerError),
        ("^PUT /account/", 500, ServerError),
        ("/metric/", 502, Unavailable),
        ("/metric/", 503, Unavailable),
        ("^PATCH", 503, Unavailable),
        ("^PUT /account/", 503, Unavailable),
        ("/artifacts/batch/metadata", 504, Unavailable),
        ("/metric/", 530, Unavailable),
    ],
)
def test_an_answer_is_told_at_once_and_then_nothing_is_lost(service, talk, status, expected, where):
    service.fail(where, status=status, headers={"Retry-After": "7"} if status == 429 else {})
    events = [Metrics(AT + 1, 1, {"loss": 1.0}), Params(AT + 1, {"lr": 0.1}), Artifact(AT, "a", 1, data=b"a")]
    error, took_s = failing(talk, *events)

    assert type(error) is expected
    assert str(status) in str(error)
    assert took_s < SOON_S
    if status == 429 and "account" not in where:
        assert error.retry_after_s == 7.0
    service.recover()
    talk.repeat()
    assert [step for _, step, _ in talk.points()] == [0, 1]
    assert talk.params() == {"lr": "0.1"}
    assert talk.artifacts() == {("a", None): b"a"}


@pytest.mark.parametrize("where", ["/metric/", "^PATCH", "^PUT /account/", "/artifacts/batch/metadata"])
@pytest.mark.parametrize("fault", [{"status": 500}, {"is_dropped": True}], ids=["500", "dropped"])
def test_an_answer_that_is_lost_doubles_nothing(service, talk, where, fault):
    service.fail(where, is_lost=True, times=1, **fault)
    events = [Metrics(AT + 1, 1, {"loss": 1.0}), Tags(AT + 1, {"a": "b"}), Artifact(AT, "a", 1, data=b"a")]
    error, _ = failing(talk, *events)
    talk.repeat()

    assert isinstance(error, ServerError)
    assert [step for _, step, _ in talk.points()] == [0, 1]
    assert talk.artifacts() == {("a", None): b"a"}
    ids = [row["metricId"] for row in service.metrics[talk.ref.split("/")[1]]["loss"]["value"]]
    assert len(ids) == len(set(ids)) == 2


def test_an_error_whose_formatting_raises_is_told_all_the_same(service, talk):
    body = error_body("the words", details=None)
    service.fail("/metric/", status=400, body=body)
    error, _ = failing(talk)

    assert str(error) == f"Azure ML answers 400 to metrics of run {talk.run.run_id!r}: UserError: the words"


@pytest.mark.parametrize("body", [b"<html>a proxy</html>", b"", {"message": "no"}, []])
def test_an_answer_that_is_no_error_of_azure_mls_is_told(service, talk, body):
    service.fail("/metric/", status=400, body=body)
    error, _ = failing(talk)

    assert "400" in str(error)


def test_metrics_that_are_refused_are_told_and_the_others_are_there(service, talk):
    service.refused_metrics["bad"] = ("UserError", "not this one")
    events = [
        Metrics(AT + 1, 1, {"bad": 1.0}),
        Metrics(AT + 2, 2, {"loss": 2.0}),
        Metrics(AT + 3, 3, {"bad": 3.0, "loss": 3.0}),
    ]
    receipt = talk.send(*events)

    assert list(receipt.rejected.values()) == ["Azure ML refuses metric 'bad': UserError: not this one"]
    assert list(receipt.lowered.values()) == ["Azure ML refuses metric 'bad': UserError: not this one"]
    assert [step for _, step, _ in talk.points()] == [0, 2, 3]


def test_a_metric_at_which_the_service_failed_comes_again(service, talk):
    service.refused_metrics["loss"] = ("ServiceError", "try again")
    error, _ = failing(talk, Metrics(AT + 1, 1, {"loss": 1.0, "acc": 0.5}))
    service.refused_metrics.clear()
    talk.repeat()

    assert isinstance(error, ServerError)
    assert sorted(talk.points()) == [("acc", 1, "0.5"), ("loss", 0, "0.0"), ("loss", 1, "1.0")]


@pytest.mark.parametrize("where", ["/metric/", "^PATCH", "^PUT /account/", "/artifacts/batch/metadata"])
def test_a_service_or_a_storage_that_hangs_is_given_up(service, talk, where):
    service.fail(where, delay_s=20.0, times=1)
    events = [Metrics(AT + 1, 1, {"loss": 1.0}), Tags(AT, {"a": "b"}), Artifact(AT, "a", 1, data=b"a")]
    error, took_s = failing(talk, *events)

    assert isinstance(error, Unavailable)
    assert 0.9 < took_s < 1.0 + SOON_S
    talk.repeat()
    assert [step for _, step, _ in talk.points()] == [0, 1]
    assert talk.artifacts() == {("a", None): b"a"}


@pytest.mark.parametrize("where", ["^GET /subscriptions", "^GET /discovery", "^GET /history"])
@pytest.mark.parametrize(
    "fault",
    [{"delay_s": 20.0}, {"is_dropped": True}, {"status": 500}, {"status": 200, "body": b"<html>"}],
    ids=["hangs", "drops", "500", "a page"],
)
def test_a_workspace_that_cannot_be_opened_is_told(service, where, fault):
    service.fail(where, times=1, **fault)
    options = {"token": token(), "resource_manager": service.uri, "timeout_s": 1.0}
    talk = Conversation(mlobs.backends.AzureML(WORKSPACE, SUBSCRIPTION, GROUP, **options))
    with pytest.raises(Unavailable) as caught:
        talk.send(talk.run, Metrics(AT, 0, {"loss": 0.0}))
    talk.repeat()

    assert not isinstance(caught.value, ServerError)
    assert talk.points() == [("loss", 0, "0.0")]


def test_a_service_that_is_down_refuses_at_once(talk, service):
    talk.backend = mlobs.backends.AzureML("w", "s", "g", token=token(), resource_manager="http://127.0.0.1:9")
    error, took_s = failing(talk)

    assert "refuses connections" in str(error)
    assert took_s < SOON_S
    assert service.requests


def test_a_run_that_was_deleted_is_told(service, talk):
    service.runs.clear()
    talk.backend.close()
    error, _ = failing(talk)

    assert type(error) is Unavailable
    assert "mlobs sync RUN --restart" in str(error)


def test_a_workspace_that_was_moved_is_told(service):
    options = {"token": token(), "resource_manager": service.uri}
    talk = Conversation(mlobs.backends.AzureML("moved", SUBSCRIPTION, GROUP, **options))
    error, _ = failing(talk)

    assert type(error) is Unavailable
    assert "404 to workspace 'moved'" in str(error)


def test_a_completed_run_still_takes_metrics(service, talk):
    service.runs[talk.ref.split("/")[1]]["status"] = "Completed"
    talk.send(Metrics(AT + 1, 1, {"loss": 1.0}))

    assert [step for _, step, _ in talk.points()] == [0, 1]


def test_a_quota_that_is_used_up_makes_events_wait(service, talk):
    service.fail("/metric/", status=400, body=error_body("The quota of storage is exceeded."))
    error, _ = failing(talk)

    assert type(error) is Unavailable
    assert error.retry_after_s == 300.0


def test_a_signed_address_is_not_told_to_anybody(service, talk):
    service.fail("^PUT /account/", status=409)
    receipt = talk.send(Artifact(AT, "a", 1, data=b"a"))

    assert "409" in next(iter(receipt.rejected.values()))
    assert "sig=" not in next(iter(receipt.rejected.values()))


def test_delivery_leaves_no_thread_behind_for_each_run(talk):
    """The SDK's own runs leave two timers each."""
    talk.read()
    before = threading.active_count()
    for _ in range(20):
        other = Conversation(talk.backend)
        other.send(other.run, Metrics(AT, 0, {"loss": 0.0}))
        other.read()

    assert threading.active_count() <= before + 8  # the SDK's pool for pages, which it makes once
