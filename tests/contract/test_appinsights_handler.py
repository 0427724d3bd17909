"""The log handler for services of the user's own: what is logged arrives, whatever happens on the way."""

import logging
import os
import subprocess
import sys
import time

import pytest
from appinsights_service import Service

import mlobs
from mlobs.integrations.appinsights import log_handler

SERVING = """
import logging, os, sys
from mlobs.integrations.appinsights import log_handler
log = logging.getLogger("api")
log.setLevel(logging.DEBUG)
log.addHandler(log_handler(service="scoring", store="store"))
for number in range(3_000):
    log.info("line %d", number)
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def service():
    serving = Service()
    yield serving
    serving.stop()


@pytest.fixture
def logger(monkeypatch):
    monkeypatch.setenv("MLOBS_DELIVERY", "thread")  # other tests may have ended this program's sender
    made = logging.getLogger("tests.api")
    made.setLevel(logging.DEBUG)
    yield made
    made.propagate = True
    for handler in list(made.handlers):
        made.removeHandler(handler)
        handler.close()


def attach(logger, service, tmp_path, **options):
    handler = log_handler(service.connection_string, service="scoring", store=tmp_path / "store", **options)
    logger.addHandler(handler)
    return handler


def close(handler, service):
    """Close it, and wait for the end to arrive: the process's budget for that may be spent by other tests."""
    handler.close()
    wait_for_end(service)


def wait_for_end(service):
    deadline = time.monotonic() + 60
    while not any(row["name"] == "mlobs.run.end" for row in service.rows("customEvents")):
        assert time.monotonic() < deadline, "the end did not arrive"
        time.sleep(0.05)


@pytest.mark.parametrize("transport", ["opencensus", "azure-monitor"])
def test_records_are_traces_with_their_dimensions_and_exceptions(service, logger, tmp_path, transport):
    handler = attach(logger, service, tmp_path, transport=transport, level=logging.INFO)
    logger.debug("too little")
    logger.warning(
        "slow %s", "answer", extra={"custom_dimensions": {"route": "/score", "ms": 12, "password": "x1"}}
    )
    try:
        raise KeyError("a")  # noqa: TRY301 - a traceback to log
    except KeyError:
        logger.exception("no answer", extra={"custom_dimensions": {"route": "/x"}})
    close(handler, service)

    slow, failed = sorted(service.rows("traces"), key=lambda row: row["timestamp"])
    assert (slow["message"], slow["severityLevel"], slow["cloud_RoleName"]) == ("slow answer", 2, "scoring")
    own = {name: slow["customDimensions"][name] for name in ("route", "ms", "password", "logger", "level")}
    assert own == {
        "route": "/score", "ms": "12", "password": "[redacted]", "logger": "tests.api", "level": "WARNING",
    }  # fmt: skip
    assert (failed["message"], failed["severityLevel"]) == ("no answer", 3)
    (exception,) = service.rows("exceptions")
    assert (exception["type"], exception["outerMessage"]) == ("KeyError", "'a'")
    assert exception["customDimensions"]["route"] == "/x"
    assert (
        exception["details"][0]["parsedStack"][0]["method"]
        == test_records_are_traces_with_their_dimensions_and_exceptions.__name__
    )
    assert "too little" not in [row["message"] for row in service.rows("traces")]


def test_records_as_events_have_measurements(service, logger, tmp_path):
    handler = attach(logger, service, tmp_path, as_events=True)
    own = {"custom_dimensions": {"model": "v7"}, "custom_measurements": {"seconds": 3.25, "n": 2}}
    logger.warning("model reloaded", extra=own)
    close(handler, service)

    (row,) = [one for one in service.rows("customEvents") if one["name"] == "model reloaded"]
    assert row["customDimensions"]["model"] == "v7"
    assert row["customMeasurements"] == {"seconds": 3.25, "n": 2}
    assert service.rows("traces") == []


def test_odd_dimensions_arrive_and_take_no_place_of_ours(service, logger, tmp_path):
    handler = attach(logger, service, tmp_path)
    logger.warning("many", extra={"custom_dimensions": {f"{n}" + "ä" * 200: "v" * 400 for n in range(300)}})
    logger.warning("ours", extra={"custom_dimensions": {"key": "1", "run_id": "2", "level": "3", "": "4"}})
    handler._as_events = True
    logger.warning("x" * 900, extra={"custom_measurements": {"nan": float("nan"), "one": 1}})
    close(handler, service)

    many, ours = sorted(service.rows("traces"), key=lambda row: row["timestamp"])
    assert many["customDimensions"]["custom_dimensions"].startswith('{"0')
    own = {"custom_key": "1", "custom_run_id": "2", "level": "3", "custom_": "4"}
    assert own.items() <= ours["customDimensions"].items()
    (event,) = [row for row in service.rows("customEvents") if row["name"].startswith("xxx")]
    assert (event["customMeasurements"], event["customDimensions"]["nan"]) == ({"one": 1}, "nan")
    assert "x" * 900 in event["customDimensions"]["mlobs"]


def test_a_burst_during_an_outage_is_neither_slow_nor_lost(service, logger, tmp_path):
    service.script += ["close", ("status", 503, {}, ""), ("partial", 3, 500)]
    handler = attach(logger, service, tmp_path)
    began = time.monotonic()
    for number in range(12_000):  # OpenCensus's queue holds 8,192
        logger.info("line %d", number)
    spent_s = time.monotonic() - began
    close(handler, service)

    assert {row["message"] for row in service.rows("traces")} == {f"line {n}" for n in range(12_000)}
    assert service.copies() == 0
    assert spent_s < 10


def test_what_was_logged_before_kill_9_arrives(service, tmp_path):
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MLOBS_")}
    environment["APPLICATIONINSIGHTS_CONNECTION_STRING"] = service.connection_string
    done = subprocess.run(
        [sys.executable, "-c", SERVING], cwd=tmp_path, env=environment, timeout=60, check=False
    )
    assert done.returncode == -9

    wait_for_end(service)

    assert {row["message"] for row in service.rows("traces")} == {f"line {n}" for n in range(3_000)}


def test_it_is_nobodys_current_run_and_hears_nothing_of_itself(service, logger, tmp_path):
    root = logging.getLogger()
    before = root.level
    handler = attach(root, service, tmp_path)
    root.setLevel(logging.DEBUG)
    try:
        assert mlobs.current_run() is None
        logger.info("once")
        time.sleep(1.0)
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
        close(handler, service)
    assert [row["message"] for row in service.rows("traces")] == ["once"]


def test_what_cannot_be_recorded_never_raises_into_the_service(service, logger, tmp_path, capsys):
    handler = attach(logger, service, tmp_path)
    logger.propagate = False  # pytest's own handler raises
    logger.warning("%d", "no number")
    logger.warning("bad", extra={"custom_dimensions": "text"})
    close(handler, service)
    logger.warning("after the end")

    assert [row["message"] for row in service.rows("traces")] == ["%d ('no number',)"]
    assert "is no mapping" in capsys.readouterr().err


def test_an_event_keeps_its_exception_and_what_is_no_number(service, logger, tmp_path):
    handler = attach(logger, service, tmp_path, as_events=True)
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logger.exception("failed", extra={"custom_measurements": {"a": None, "b": 1}})
    close(handler, service)

    (event,) = [row for row in service.rows("customEvents") if row["name"] == "failed"]
    assert event["customMeasurements"] == {"b": 1}
    assert event["customDimensions"]["a"] == "None"
    (exception,) = service.rows("exceptions")
    assert "ZeroDivisionError" in exception["customDimensions"]["traceback"]


def test_each_process_of_a_launcher_has_logs_of_its_own(service, logger, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    handler = attach(logger, service, tmp_path)
    logger.warning("from rank 1")
    close(handler, service)

    assert [row["message"] for row in service.rows("traces")] == ["from rank 1"]
