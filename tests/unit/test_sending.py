"""What cannot be delivered now costs no run its record, and a busy sender learns of every run."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import mlobs
from mlobs.journal.store import Store
from mlobs.program import Program, program
from mlobs.sender.foreground import sync
from mlobs.sending import SenderProcess
from mlobs.testing import MemoryBackend


@pytest.fixture(autouse=True)
def own_program(monkeypatch):
    """Each test is a program of its own."""
    monkeypatch.setattr("mlobs.program._program", Program())
    yield
    for sending in program()._senders.values():
        sender = getattr(sending, "_process", None)
        if sender is not None:
            sender.send_signal(signal.SIGCONT)
            sender.kill()
            sender.wait()
            sender.stdin.close()
        sending.close(5.0)


def board(tmp_path):
    return mlobs.backends.TensorBoard(str(tmp_path / "board"))


def test_orders_that_a_busy_sender_had_no_room_for_reach_it_while_somebody_waits(tmp_path):
    store = tmp_path.joinpath(*(f"{level}".ljust(150, "x") for level in range(10)))  # orders of 3 kB
    tracker = mlobs.Tracker("unit", store=store, backends=[board(tmp_path)], finish_timeout_s=60)
    run = tracker.start_run()
    sending = next(iter(program()._senders.values()))
    sending._process.send_signal(signal.SIGSTOP)
    children = [run.child(f"{number}") for number in range(70)]
    for child in children:
        child.finish()
    assert sending._backlog, "the pipe is to be full"

    sending._process.send_signal(signal.SIGCONT)
    run.finish()

    assert all(one.delivery()["tensorboard"].is_settled for one in (run, *children))


def test_a_python_without_pipes_that_never_block_delivers_too(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "set_blocking")  # Windows has it from Python 3.12 on
    with mlobs.Tracker("unit", store=tmp_path / "store", backends=[board(tmp_path)]).start_run() as run:
        run.log_metric("loss", 0.5)

    assert run.delivery()["tensorboard"].is_settled


@pytest.fixture
def odd_place(tmp_path):
    """A folder whose name is not UTF-8, as file systems of Linux allow."""
    place = os.fsencode(tmp_path) + b"/caf\xe9"
    try:
        os.mkdir(place)  # noqa: PTH102 - of bytes
    except OSError:
        pytest.skip("this file system has no such names")
    return Path(os.fsdecode(place))


def test_a_store_whose_path_is_not_utf_8_is_delivered(tmp_path, odd_place, monkeypatch):
    monkeypatch.syspath_prepend(odd_place)
    with mlobs.Tracker("unit", store=odd_place / "store", backends=[board(tmp_path)]).start_run() as run:
        run.log_metric("loss", 0.5)

    assert str(run.delivery()["tensorboard"]) == "tensorboard: 3 delivered"


def test_a_backend_that_the_record_cannot_name_is_refused_at_construction(tmp_path, odd_place):
    with pytest.raises(mlobs.UsageError, match=r"backend tensorboard: .*not UTF-8"):
        mlobs.Tracker("unit", store=tmp_path / "store", backends=[board(odd_place)])


@pytest.mark.parametrize("broken", ["no interpreter", "a file in the way"])
def test_a_sender_that_cannot_start_is_said_once_and_sync_delivers(tmp_path, monkeypatch, caplog, broken):
    store = tmp_path / "store"
    if broken == "no interpreter":
        monkeypatch.setattr(sys, "executable", None)
    else:
        store.mkdir()
        (store / "senders").write_text("not a folder")
    with mlobs.Tracker("unit", store=store, backends=[board(tmp_path)]).start_run() as run:
        run.child().finish()

    said = [text for text in caplog.messages if "the sender cannot be started" in text]
    assert len(said) == 1
    assert "`mlobs sync` delivers" in said[0]
    assert "the rest waits in the store - type: mlobs sync" in caplog.messages[-1]
    assert run.status == "FINISHED"
    monkeypatch.undo()
    assert all(one.is_settled for one in sync(list(Store(store).runs())))


@pytest.fixture
def no_more_threads():
    """No thread can be started: the stack that it asks for is larger than the address space."""
    before = threading.stack_size(1 << 46)
    yield
    threading.stack_size(before)


@pytest.mark.usefixtures("no_more_threads")
def test_threads_that_cannot_be_started_are_said_once_and_not_waited_for(tmp_path, caplog):
    backend = MemoryBackend()
    tracker = mlobs.Tracker("unit", store=tmp_path / "store", backends=[backend], delivery="thread")
    started = time.monotonic()
    with tracker.start_run() as run:
        run.log_metric("loss", 0.5)
        run.child().finish()

    assert time.monotonic() - started < 5
    assert run.delivery()["memory"].pending == 3
    (said,) = [text for text in caplog.messages if "cannot be started" in text]
    assert "can't start new thread" in said
    assert (
        "the rest waits in the store; when this program has ended - type: mlobs sync" in caplog.messages[-1]
    )


def test_the_longest_linger_of_a_programs_trackers_counts(tmp_path, monkeypatch):
    for linger_s in ("7", "900", "8"):
        monkeypatch.setenv("MLOBS_LINGER_S", linger_s)
        tracker = mlobs.Tracker("unit", store=tmp_path / "store", backends=[board(tmp_path)])
        tracker.start_run().finish()

    (sending,) = program()._senders.values()
    assert isinstance(sending, SenderProcess)
    assert "for up to 900 s after this program" in sending.outlook()
