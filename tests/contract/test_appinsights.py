"""Application Insights by both client libraries, against a strict loopback service."""

import base64
import io
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from appinsights_credential import OF_OPENCENSUS, TOKEN, Credential
from appinsights_service import KEY, Service
from PIL import Image

from mlobs.backend import Batch, Entry
from mlobs.backends import AppInsights
from mlobs.delivery.registry import missing_package
from mlobs.errors import DeliveryError, MissingPackage, ServerError, Unauthorized, Unavailable, UsageError
from mlobs.events import (
    Artifact,
    Dataset,
    Histogram,
    Log,
    Metrics,
    ModelFingerprint,
    Params,
    Process,
    Rewind,
    RunFinished,
    RunStarted,
    Snapshot,
    Tags,
)
from mlobs.testing.conversation import Conversation
from mlobs.text import param_text

pytestmark = pytest.mark.filterwarnings(*OF_OPENCENSUS)
NOW = time.time()
RUN = RunStarted(NOW, "run-1", "churn", "baseline", Process("host", 7), parent_run_id="run-0")
CAUSED = """Traceback (most recent call last):
  File "/a/data.py", line 3, in load
    return int(text)
ValueError: invalid literal: 'ä😀'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/a/train.py", line 9, in <module>
    main()
  File "/a/train.py", line 6, in main
    raise RuntimeError("no data") from error
RuntimeError: no data
"""


@pytest.fixture
def service():
    serving = Service()
    yield serving
    serving.stop()


@pytest.fixture(params=["opencensus", "azure-monitor"])
def backend(request, service):
    made = backend_for(service, request.param)
    yield made
    made.close()


def backend_for(service, transport="opencensus", **options):
    asked = {"workspace_id": "w", "query_endpoint": service.endpoint}
    asked["query_credential"] = "appinsights_credential:make"
    return AppInsights(service.connection_string, transport, **(asked | options))


def batch_of(*events, ref=None, first=0, run=RUN):
    entries = [Entry(f"writer:{first + n:d}", event) for n, event in enumerate(events)]
    return Batch(
        run, tuple(entries), lambda entry: io.BytesIO(entry.event.data or b""), ref, place="/store/run-1"
    )


def points(count, first=0):
    return [Metrics(NOW + n / 1000, n, {"loss": n - 5.0}) for n in range(first, first + count)]


def read(backend, ref="run-1"):
    return list(backend.source().read(ref))


# Answers


def answer(code, headers=None, text=""):
    return ("status", code, headers or {}, text)


def item_answer(code, message, count=20):
    errors = [{"index": n, "statusCode": code, "message": message} for n in range(count)]
    return answer(code, None, {"itemsReceived": count, "itemsAccepted": 0, "errors": errors})


@pytest.mark.parametrize(
    ("fault", "error", "words", "pause_s"),
    [
        (answer(400, None, "no JSON"), DeliveryError, "refuses the batch", None),
        (answer(401), Unauthorized, "Monitoring Metrics Publisher", None),
        (answer(403), Unauthorized, "Monitoring Metrics Publisher", None),
        (answer(402), Unavailable, "quota", 600.0),
        (answer(439), Unavailable, "quota", 600.0),
        (answer(404), Unavailable, "404", None),
        (answer(408), Unavailable, "408", None),
        (answer(429, {"Retry-After": "7"}), Unavailable, "429", 7.0),
        (answer(429), Unavailable, "429", None),
        (answer(500), ServerError, "500", None),
        (answer(502), Unavailable, "502", None),
        (answer(503, {"Retry-After": "3"}), Unavailable, "503", 3.0),
        (answer(504), Unavailable, "504", None),
        (answer(418), Unavailable, "418", None),
        ("html", Unavailable, "not as Application Insights does", None),
        ("close", ServerError, "closed the connection", None),
        (("partial", 1, 503), Unavailable, "503", None),
        (("partial", 4, 500), ServerError, "500", None),
        (("partial", 4, 429), Unavailable, "429", None),
        (item_answer(400, "Invalid instrumentation key"), Unauthorized, "connection string", None),
        (
            item_answer(400, "103: Field 'time' is older than the allowed min date"),
            Unavailable,
            "clock",
            None,
        ),
    ],
    ids=lambda one: str(one)[:40] if isinstance(one, tuple | str) else None,
)
def test_an_answer_loses_nothing_and_what_is_sent_again_is_stored_once(
    service, backend, fault, error, words, pause_s
):
    service.script.append(fault)
    batch = batch_of(*points(20))
    with pytest.raises(DeliveryError, match=words) as told:
        backend.deliver(batch)
    assert type(told.value) is error
    assert getattr(told.value, "retry_after_s", None) == pause_s

    receipt = backend.deliver(batch)

    assert (receipt.rejected, receipt.ref) == ({}, "run-1 20")
    assert len(service.rows()) == 20
    assert service.copies() == 0, "what was stored before must not be sent again"


@pytest.mark.parametrize("code", [400, 413])
def test_an_item_that_is_refused_is_rejected_with_the_services_reason(service, backend, code):
    service.script.append(("partial", 6, code))

    receipt = backend.deliver(batch_of(*points(20)))

    assert set(receipt.rejected) == {f"writer:{n}" for n in (0, 6, 12, 18)}
    assert f"({code}): as the script says" in receipt.rejected["writer:0"]
    assert len(service.rows()) == 16


def test_a_refusal_without_items_is_left_to_the_lane(service, backend):
    service.script.append(answer(400, None, "something is wrong"))

    with pytest.raises(DeliveryError, match="something is wrong") as raised:
        backend.deliver(batch_of(*points(1)))

    assert type(raised.value) is DeliveryError  # the lane asks twice, and slowly, before it gives it up


def test_an_event_of_which_one_row_is_refused_is_there_in_part(service, backend):
    errors = [{"index": 1, "statusCode": 400, "message": "no such metric"}]
    service.script.append(answer(206, None, {"itemsReceived": 3, "itemsAccepted": 2, "errors": errors}))

    receipt = backend.deliver(batch_of(Metrics(NOW, 0, {"a": 1.0, "b": 2.0, "c": 3.0})))

    assert receipt.rejected == {}
    assert (
        "1 of its 3 rows: Application Insights refuses it (400): no such metric"
        in receipt.lowered["writer:0"]
    )


@pytest.mark.parametrize("errors", [5, ["x"], [{"index": 0, "statusCode": "Bad"}], [{"index": "0"}], [None]])
def test_errors_that_make_no_sense_are_no_reason_to_give_an_event_up(service, backend, errors):
    service.script.append(answer(206, None, {"itemsReceived": 5, "itemsAccepted": 0, "errors": errors}))

    with pytest.raises((Unavailable, ServerError)):
        backend.deliver(batch_of(*points(5)))


def test_more_items_accepted_than_it_names_is_no_reason_to_send_them_again(service, backend):
    errors = [{"index": 3, "statusCode": 206, "message": "Telemetry sampled out."}]
    service.script.append(answer(206, None, {"itemsReceived": 5, "itemsAccepted": 5, "errors": errors}))

    assert list(backend.deliver(batch_of(*points(5))).rejected) == ["writer:3"]


@pytest.mark.parametrize("transport", ["opencensus", "azure-monitor"])
def test_a_credential_that_fails_in_a_way_of_its_own_rejects_nothing(service, transport):
    with pytest.raises(Unauthorized, match="the vault is down"):
        backend_for(service, transport, credential="appinsights_credential:failing").deliver(
            batch_of(*points(1))
        )


def test_an_endpoint_that_a_gone_redirect_named_is_left_again(service, backend):
    gone = "http://127.0.0.1:9/v2.1/track"
    service.script.append(answer(307, {"Location": gone}))
    with pytest.raises(Unavailable):
        backend.deliver(batch_of(*points(1)))

    backend.deliver(batch_of(*points(1)))

    assert len(service.rows()) == 1


def test_what_is_sampled_out_is_said_to_be_lost(service, backend):
    errors = [{"index": 3, "statusCode": 206, "message": "Telemetry sampled out."}]
    body = {"itemsReceived": 5, "itemsAccepted": 4, "errors": errors}
    service.script.append(answer(206, None, body))

    receipt = backend.deliver(batch_of(*points(5)))

    assert list(receipt.rejected) == ["writer:3"]
    assert "sampled out" in receipt.rejected["writer:3"]


def test_a_request_that_is_too_large_goes_in_halves(service, backend):
    service.script += [answer(413), answer(413)]

    receipt = backend.deliver(batch_of(*points(20)))

    assert not receipt.rejected
    assert len(service.rows()) == 20
    assert service.copies() == 0


def test_a_wrong_instrumentation_key_pauses_and_rejects_nothing(service):
    for transport in ("opencensus", "azure-monitor"):
        other = KEY.replace("1", "9")
        wrong = AppInsights(f"InstrumentationKey={other};IngestionEndpoint={service.endpoint}", transport)
        with pytest.raises(Unauthorized, match="check the connection string"):
            wrong.deliver(batch_of(*points(3)))


def test_a_lost_answer_doubles_rows_which_are_counted_once(service, backend):
    service.script.append("lost")
    batch = batch_of(*points(20))
    with pytest.raises(ServerError):
        backend.deliver(batch)
    backend.deliver(batch)

    assert service.copies() == 20
    assert len(read(backend)) == 20
    assert backend.source().copies("run-1 20") == 20


@pytest.mark.parametrize("transport", ["opencensus", "azure-monitor"])
def test_a_service_that_hangs_is_given_up_after_the_timeout(service, transport):
    backend = backend_for(service, transport, timeout_s=0.5)
    service.script.append(("stall", 3.0))
    began = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer"):
        backend.deliver(batch_of(*points(2)))
    assert time.monotonic() - began < 2.5


def test_nobody_at_the_address_is_unavailable(service, backend):
    service.stop()
    with pytest.raises(Unavailable) as told:
        backend.deliver(batch_of(*points(2)))
    assert type(told.value) is Unavailable


# Redirects and tokens


def test_a_redirect_is_followed_and_stays(service, backend):
    other = Service()
    service.script.append(answer(308, {"Location": f"{other.endpoint}/v2.1/track"}))
    try:
        backend.deliver(batch_of(*points(3)))
        backend.deliver(batch_of(*points(3), first=3))
    finally:
        other.stop()
    assert len(other.rows()) == 6
    assert len(service.requests) == 1


def test_a_redirect_to_nowhere_or_in_circles_is_told(service, backend):
    service.script.append(answer(307))
    with pytest.raises(Unavailable, match="IngestionEndpoint"):
        backend.deliver(batch_of(*points(1)))
    service.script += [answer(307, {"Location": service.endpoint})] * 9
    with pytest.raises(Unavailable, match="circles"):
        backend.deliver(batch_of(*points(1)))


@pytest.mark.parametrize("transport", ["opencensus", "azure-monitor"])
def test_a_token_is_sent_but_never_to_another_host(service, transport):
    service.token = TOKEN
    backend = backend_for(service, transport, credential="appinsights_credential:make")
    Credential.scopes.clear()
    assert backend.deliver(batch_of(*points(2))).rejected == {}
    assert Credential.scopes == ["https://monitor.azure.com//.default"]

    elsewhere = Service()
    service.script.append(answer(308, {"Location": f"http://localhost:{elsewhere.port}/v2.1/track"}))
    with pytest.raises(Unavailable, match="not followed with a token"):
        backend.deliver(batch_of(*points(2), first=2))
    elsewhere.stop()
    assert elsewhere.requests == []


@pytest.mark.parametrize("transport", ["opencensus", "azure-monitor"])
def test_a_refused_or_missing_token_pauses_the_lane(service, transport, monkeypatch):
    service.token = "another"
    with pytest.raises(Unauthorized):
        backend_for(service, transport, credential="appinsights_credential:make").deliver(
            batch_of(*points(1))
        )
    for name in [one for one in os.environ if one.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    with pytest.raises(Unauthorized, match="token"):
        backend_for(service, transport, credential="environment").deliver(batch_of(*points(1)))
    with pytest.raises(Unauthorized, match="cannot be made"):
        backend_for(service, transport, credential="no_such_module:make").deliver(batch_of(*points(1)))


@pytest.mark.parametrize("transport", ["opencensus", "azure-monitor"])
def test_over_tls_with_a_certificate_that_the_environment_trusts(tmp_path, monkeypatch, transport):
    pem = certificate(tmp_path)
    service = Service(certificate=pem, token=TOKEN)
    try:
        with pytest.raises((Unavailable, ServerError)):
            tls_backend(service, transport).deliver(batch_of(*points(2)))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
        tls_backend(service, transport).deliver(batch_of(*points(2)))
    finally:
        service.stop()
    assert len(service.rows()) == 2


def tls_backend(service, transport):
    return AppInsights(service.connection_string, transport, credential="appinsights_credential:make")


def certificate(folder):
    """A self-signed certificate with its key, made by the library that azure-identity stands on."""
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "loopback.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + built.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"connection_string": ""}, "APPLICATIONINSIGHTS_CONNECTION_STRING"),
        ({"connection_string": "IngestionEndpoint=https://x"}, "no instrumentation key"),
        ({"connection_string": f"InstrumentationKey={KEY};IngestionEndpoint=dc.x"}, "expected an address"),
        ({"transport": "pigeon"}, "'opencensus' or 'azure-monitor'"),
        ({"credential": "me"}, "'managed-identity'"),
        ({"credential": "default"}, "in the clear"),
        ({"timeout_s": 0}, "more than 0"),
    ],
)
def test_a_wrong_set_up_is_said_at_once(monkeypatch, options, words):
    monkeypatch.delenv("APPLICATIONINSIGHTS_CONNECTION_STRING", raising=False)
    good = {"connection_string": f"InstrumentationKey={KEY};IngestionEndpoint=http://ingest.example.com"}
    with pytest.raises(UsageError, match=words):
        AppInsights(**(good | options))


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        (f"InstrumentationKey={KEY.upper()};", "https://dc.services.visualstudio.com"),
        (f"instrumentationkey={KEY};INGESTIONENDPOINT=https://a.example.com/", "https://a.example.com"),
        (
            f"InstrumentationKey={KEY};EndpointSuffix=ai.contoso.com;Location=weu",
            "https://weu.dc.ai.contoso.com",
        ),
    ],
)
def test_connection_strings_as_the_portal_and_the_documentation_show_them(monkeypatch, text, endpoint):
    monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", text)
    made = AppInsights()
    assert (made._connection.key, made._connection.endpoint) == (KEY, endpoint)
    assert KEY not in repr(made)


@pytest.mark.parametrize("transport", ["opencensus", "azure-monitor"])
def test_a_connection_string_of_the_environment_may_end_in_a_semicolon(service, monkeypatch, transport):
    text = f"{service.connection_string};ApplicationId=0=;"
    monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", text)
    monkeypatch.setenv("APPINSIGHTS_INSTRUMENTATIONKEY", "another")

    AppInsights(transport=transport).deliver(batch_of(*points(1)))

    assert len(service.rows()) == 1
    assert os.environ["APPLICATIONINSIGHTS_CONNECTION_STRING"] == text


# Content


def test_every_kind_comes_back_as_it_was_recorded(service, backend):
    table = msgspec.json.encode({"columns": ["id", "text"], "data": [[n, f"ä{n}" * 20] for n in range(400)]})
    cells = np.random.default_rng(1).normal(size=(64, 64)).tolist()
    matrix = msgspec.json.encode({"matrix": cells, "rows": [f"r{n}" for n in range(64)]})
    wide = msgspec.json.encode({"matrix": [[n / 7 for n in range(2000)]]})
    events = [
        RUN,
        Params(NOW, {"lr": 0.1, "n": 3, "flag": True, "none": None, "name": "ä'\\", "list": "[1,2]"}),
        Params(NOW + 1, {"lr": 0.2}, "keep_first"),
        Params(NOW + 1, {f"p{n}": "v" * 3900 for n in range(9)}),
        Tags(NOW + 1, {"team": "x", "odd": "\udc80 and 😀"}),
        Metrics(NOW + 2, -7, {"loss": -1e-300}, {"fold": 1}),
        Metrics(NOW + 2, 2**40, {"loss": math.inf}),
        Log(NOW + 3, "hello", "WARNING", "train", step=3, meta={"a": 1}),
        Log(NOW + 3, "x" * 40_000 + "😀", "DEBUG", stream="stdout"),
        Log(NOW + 3, "bad", "ERROR", "train", exception=CAUSED),
        Artifact(NOW + 4, "t.json", len(table), "table", "application/json", data=table, step=1),
        Artifact(NOW + 4, "m.json", len(matrix), "matrix", "application/json", data=matrix),
        Artifact(NOW + 4, "wide.json", len(wide), "confusion_matrix", "application/json", data=wide),
        Artifact(
            NOW + 4, "notes.md", 9, "text", "text/markdown", data="# ä\r\n".encode() * 5000, meta={"b": [1]}
        ),
        Artifact(NOW + 4, "bin", 5, "file", data=bytes(range(256)) * 100),
        Histogram(NOW + 5, None, "weights", [1.0, 2.0] * 900, [n / 3 for n in range(1801)]),
        Dataset(NOW + 5, "train", None, "b3:ab", "rows", source="s3://x", rows=3, columns={"a": "int64"}),
        Snapshot(NOW + 5, "environment", {"packages": {f"package-{n}": "1.2.3" for n in range(900)}}),
        ModelFingerprint(NOW + 5, "model", "b3:cd", "v1", {"layer": "b3:ef"}),
        Rewind(NOW + 6, 3, since=NOW + 2.5, below=2),
        RunFinished(NOW + 7, "FAILED", "RuntimeError: no data", CAUSED, 1, 2),
    ]
    receipt = backend.deliver(batch_of(*events))
    assert not receipt.rejected
    assert service.copies() == 0

    back = read(backend, receipt.ref)

    for sent in events:
        assert any(same(sent, held) for held in back), sent


def same(sent, held):
    """Equal as far as the service can hold it: times to the microsecond."""
    if type(sent) is not type(held) or abs(sent.at - held.at) > 1e-5:
        return False
    match sent:
        case Params():
            texts = {name: param_text(value) for name, value in sent.values.items()}
            return texts == {name: param_text(value) for name, value in held.values.items()}
        case Artifact():
            names = ("path", "role", "media_type", "data", "step", "meta")
            return all(getattr(sent, name) == getattr(held, name) for name in names)
        case _:
            return msgspec.structs.replace(sent, at=0.0) == msgspec.structs.replace(held, at=0.0)


def test_pictures_are_thumbnails_with_a_digest_and_small_ones_are_whole(service, backend):
    noise = np.random.default_rng(2).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    large, small = io.BytesIO(), io.BytesIO()
    Image.fromarray(noise).save(large, "PNG")
    Image.fromarray(noise[:8, :9]).save(small, "PNG")
    sent = [
        Artifact(NOW, "large.png", 1, "image", "image/png", data=large.getvalue(), step=2),
        Artifact(NOW, "small.png", 1, "figure", "image/png", data=small.getvalue()),
        Artifact(NOW, "false.png", 1, "image", "image/png", data=b"no picture" * 900),
    ]

    receipt = backend.deliver(batch_of(*sent))

    assert "thumbnail" in receipt.lowered["writer:0"]
    assert "writer:1" not in receipt.lowered
    rows = {row["customDimensions"]["path"]: row for row in service.rows("customEvents")}
    row = rows["large.png"]
    assert row["customMeasurements"] == {
        "size_bytes": len(large.getvalue()),
        "width_px": 400,
        "height_px": 300,
    }
    head, _, data = row["customDimensions"]["thumbnail"].partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as thumbnail:
        assert thumbnail.width >= 64
    assert "thumbnail" not in rows["false.png"]["customDimensions"]
    assert [one.data for one in read(backend)] == [None, small.getvalue(), None]


def test_content_that_is_too_large_is_named_with_its_digest(service, backend):
    import hashlib

    data = bytes(range(256)) * 400
    receipt = backend.deliver(batch_of(Artifact(NOW, "m.bin", len(data), "model", data=data)))

    assert "SHA-256" in receipt.lowered["writer:0"]
    (row,) = service.rows("customEvents")
    assert row["name"] == "mlobs.model"
    assert row["customDimensions"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert row["customDimensions"]["store"] == "/store/run-1"
    assert row["customMeasurements"]["size_bytes"] == len(data)


def test_exceptions_have_their_cause_chain_and_their_frames(service, backend):
    backend.deliver(batch_of(Log(NOW, "bad", "ERROR", "train", exception=CAUSED)))

    (row,) = service.rows("exceptions")
    outer, cause = row["details"]
    assert (outer["typeName"], outer["message"], outer["id"], outer["outerId"]) == (
        "RuntimeError",
        "no data",
        1,
        0,
    )
    assert (cause["typeName"], cause["message"], cause["outerId"]) == (
        "ValueError",
        "invalid literal: 'ä😀'",
        1,
    )
    assert outer["parsedStack"] == [
        {"level": 0, "method": "main", "fileName": "/a/train.py", "line": 6},
        {"level": 1, "method": "<module>", "fileName": "/a/train.py", "line": 9},
    ]
    assert row["customDimensions"]["traceback"] == CAUSED
    (trace,) = service.rows("traces")
    assert (trace["message"], trace["severityLevel"]) == ("bad", 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no traceback at all",
        "  | ExceptionGroup: two (2 sub-exceptions)",
        "KeyError",
        "x: " + "y" * 99_999,
    ],
)
def test_whatever_a_traceback_looks_like_it_arrives(backend, text):
    receipt = backend.deliver(batch_of(RunFinished(NOW, "FAILED", "", text)))

    assert not receipt.rejected
    (end,) = read(backend)
    assert end.traceback == (text or None)


def test_a_row_says_which_run_step_and_parent_and_nothing_that_costs_for_nothing(service, backend):
    backend.deliver(batch_of(Metrics(NOW, 3, {"val/loss": 0.25, "acc": 0.5})))

    first, second = service.rows()
    assert first["customDimensions"] == {"step": "3", "run_id": "run-1", "key": "writer:0"}
    assert second["customDimensions"]["key"] == "writer:0#1"
    assert (first["name"], first["value"], first["valueCount"]) == ("val/loss", 0.25, 1)
    assert (first["operation_Id"], first["operation_ParentId"]) == ("run-1", "run-0")
    assert (first["operation_Name"], first["cloud_RoleName"]) == ("baseline", "churn")


def test_what_is_older_than_48_hours_arrives_with_its_own_time_beside_it(backend):
    old = NOW - 3 * 86_400
    receipt = backend.deliver(batch_of(Metrics(old, 1, {"loss": 1.0}), Metrics(NOW, 2, {"loss": 2.0})))

    assert list(receipt.lowered) == ["writer:0"]
    assert "recorded_at" in receipt.lowered["writer:0"]
    assert [round(one.at - old) for one in read(backend)] == [0, 3 * 86_400]


def test_the_end_says_how_many_points_were_sent_in_all_batches(service, backend):
    first = backend.deliver(batch_of(RUN, *points(7)))
    nan = Metrics(NOW, 9, {"loss": math.nan, "acc": 1.0})
    last = backend.deliver(batch_of(nan, RunFinished(NOW + 9, "FINISHED"), ref=first.ref, first=99))

    end = next(row for row in service.rows("customEvents") if row["name"] == "mlobs.run.end")
    assert end["customMeasurements"]["points_sent"] == 9
    assert end["customMeasurements"]["duration_s"] == pytest.approx(9)
    assert (last.ref, last.vendor_id) == ("run-1 9", "run-1")
    assert "not finite" in last.lowered["writer:99"]


def test_names_and_facts_beyond_the_services_limits_arrive(backend):
    talk = Conversation(backend, parent_run_id="p")
    run = RunStarted(NOW, talk.run.run_id, "e" * 9000, "n😀" * 5000, Process("h" * 400, 1))
    talk.run = run
    receipt = talk.send(run, Metrics(NOW, 0, {"m" * 400: 1.0}), Params(NOW, {"p" * 300: "v" * 90_000}))
    assert not receipt.rejected
    assert [value for _, _, value in talk.points()] == ["1.0"]
    started = next(one for one in talk.read() if isinstance(one, RunStarted))
    assert (started.experiment, started.name) == (run.experiment, run.name)


# What the client libraries must not do


@pytest.mark.parametrize("transport", ["opencensus", "azure-monitor"])
def test_nothing_of_the_vendors_happens_beside_the_requests(service, transport, tmp_path):
    """No thread that stays, no files, no connection elsewhere, no patch, no line of a log."""
    program = f"""
import http.server, json, logging, os, sys, tempfile, threading, time
sys.path[:0] = {[str(Path(__file__).parent)]!r}
lines, places, written = [], set(), []
class Seen(logging.Handler):
    def emit(self, record): lines.append(f"{{record.name}}: {{record.getMessage()}}")
logging.getLogger().addHandler(Seen()); logging.getLogger().setLevel(logging.INFO)
def watch(event, arguments):
    if event == "socket.connect": places.add(arguments[1][1])
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        written.append(str(arguments[0]))
init, before = http.server.HTTPServer.__init__, dict(os.environ)
from mlobs.backends import AppInsights
from mlobs.backend import Batch, Entry
from mlobs.events import Metrics, Process, RunStarted
backend = AppInsights({service.connection_string!r}, {transport!r})
sys.dont_write_bytecode = True
sys.addaudithook(watch)
run = RunStarted(time.time(), "r", "e", "n", Process("h", 1))
for n in range(3):
    backend.deliver(Batch(run, (Entry(f"w:{{n}}", Metrics(time.time(), n, {{"a": 1.0}})),), open))
time.sleep(0.5)
print(json.dumps({{
    "threads": [one.name for one in threading.enumerate()], "lines": lines, "places": sorted(places),
    "patched": http.server.HTTPServer.__init__ is not init, "env": dict(os.environ) == before,
    "written": written, "temporary": os.listdir(tempfile.gettempdir()),
}}))
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen == {
        "threads": ["MainThread"],
        "lines": [],
        "places": [service.port],
        "patched": False,
        "env": True,
        "written": [],
        "temporary": [],
    }
    assert len(service.rows()) == 3


@pytest.mark.parametrize(
    ("transport", "package", "extra"),
    [("opencensus", "opencensus", "appinsights"), ("azure-monitor", "azure", "azure-monitor")],
)
def test_a_missing_package_names_the_extra_and_the_events_wait(service, transport, package, extra):
    program = f"""
import sys, time
sys.modules[{package!r}] = None
from mlobs.backend import Batch
from mlobs.backends import AppInsights
from mlobs.errors import MissingPackage
from mlobs.events import Process, RunStarted
backend = AppInsights({service.connection_string!r}, {transport!r})
try:
    backend.deliver(Batch(RunStarted(time.time(), "r", "e", "n", Process("h", 1)), (), open))
except MissingPackage as error:
    assert error.extra == {extra!r} == backend.extra, error
else:
    raise SystemExit("no MissingPackage")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert MissingPackage("x", extra).extra == extra


def test_the_training_process_imports_nothing_of_the_vendors(service, tmp_path):
    program = f"""
import sys, mlobs
backends = [
    mlobs.backends.AppInsights({service.connection_string!r}, one, name=one)
    for one in ("opencensus", "azure-monitor")
]
with mlobs.Tracker(backends=backends, store={str(tmp_path)!r}).start_run() as run:
    run.log_metric("loss", 1.0)
vendors = ("azure", "opencensus", "opentelemetry", "requests", "numpy", "PIL")
print([name for name in vendors if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
    assert len(service.rows(distinct=False)) == 2


def test_a_package_that_is_there_only_in_part_counts_as_missing(service):
    backend = backend_for(service)
    assert missing_package(backend) is None
    backend.package = "opencensus.ext.nothing"
    assert "pip install 'mlobs[appinsights]'" in str(missing_package(backend))
    backend.package = "nothing.at.all"
    assert missing_package(backend) is not None


def test_another_version_of_opencensus_is_refused_with_the_command_to_type(service):
    program = f"""
import importlib.metadata, time
real = importlib.metadata.version
importlib.metadata.version = lambda name: "1.1.99" if name == "opencensus-ext-azure" else real(name)
from mlobs.backend import Batch
from mlobs.backends import AppInsights
from mlobs.errors import Unavailable
from mlobs.events import Process, RunStarted
try:
    AppInsights({service.connection_string!r}).deliver(
        Batch(RunStarted(time.time(), "r", "e", "n", Process("h", 1)), (), open)
    )
except Unavailable as error:
    assert "1.1.99; expected 1.1.15 - type: pip install 'mlobs[appinsights]'" in str(error), error
else:
    raise SystemExit("no Unavailable")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_gzip_is_used_where_the_library_can(service, backend):
    backend.deliver(batch_of(*points(500)))
    (headers, size_bytes) = service.requests[0]
    is_zipped = headers.get("Content-Encoding") == "gzip"
    assert is_zipped == (backend.transport == "azure-monitor")
    if is_zipped:
        assert size_bytes < 500 * 50


def test_it_is_used_from_several_runs_at_once(service, backend):
    other = RunStarted(NOW, "run-2", "churn", "other", Process("host", 7))
    service.script += [("partial", 2, 500), ("partial", 3, 500)]
    batches = [batch_of(*points(10)), batch_of(*points(10), first=100, run=other)]
    for batch in batches:
        with pytest.raises(ServerError):
            backend.deliver(batch)
    for batch in batches:
        backend.deliver(batch)
    assert len(service.rows(distinct=False)) == 20
    assert sum(service.points("run-2").values()) == 10
    assert threading.active_count() < 50
