"""The end of a run is bounded, and its last word is true."""

import logging
import os
import threading
import time

import pytest
from recorded import open_run

from mlobs.delivery.report import report
from mlobs.events import Metrics
from mlobs.finishing import COUNT_S, MOST_COUNTED, Awaited, Budget, say, wait_for_delivery
from mlobs.journal.store import Store
from mlobs.program import Program
from mlobs.progress import SHOW_AFTER_S


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def awaited_run(store, points):
    folder, writer = open_run(store, *(Metrics(1000.0, step, {"loss": 0.5}) for step in range(points)))
    end = writer.end()
    writer.close()
    return Awaited(folder, ("mlflow", "tensorboard"), {writer.id: end})


def test_what_any_run_spent_counts_for_each_trackers_own_total():
    budget = Budget()
    with budget.spending(0.0) as deadline:
        assert deadline <= time.monotonic()
    with budget.spending(60.0) as deadline:
        assert 59 < deadline - time.monotonic() <= 60
    budget._spent_s = 45.0

    assert budget.left_s(60.0) == 15.0
    assert budget.left_s(30.0) == 0.0
    assert budget.left_s() == 15.0  # of the largest
    budget.end()
    assert budget.left_s(3600.0) == 0.0


@pytest.mark.parametrize(
    ("most", "pending"), [(3, "more than 3 pending"), (5, "5 pending"), (None, "5 pending")]
)
def test_a_count_that_was_broken_off_says_so(store, most, pending):
    folder = awaited_run(store, 4).folder  # and its start

    one = report(folder, ["mlflow"], most=most)["mlflow"]

    assert str(one) == f"mlflow: 0 delivered, {pending}"
    assert not one.is_settled


def test_the_last_word_does_not_count_for_ever(store, caplog):
    awaited = awaited_run(store, MOST_COUNTED + 1)
    started = time.monotonic()
    say("run a FINISHED", [awaited] * 20, "the rest waits in the store")

    assert time.monotonic() - started < COUNT_S + 2
    assert f"more than {MOST_COUNTED:,} pending" in caplog.messages[-1]
    assert caplog.messages[-1].endswith(
        f"the rest waits in the store - type: mlobs sync --store {store.path}"
    )
    assert caplog.records[-1].levelno == logging.WARNING


@pytest.fixture
def terminal(monkeypatch):
    """A terminal, as a file to write to and a function that reads what it showed."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)

    def shown():
        try:
            return os.read(ours, 1 << 20).decode("utf-8", "ignore")
        except BlockingIOError:
            return ""

    with open(theirs, "w", encoding="utf-8") as file:  # noqa: PTH123 - of a descriptor
        monkeypatch.setenv("TERM", "xterm")
        yield file, shown
    os.close(ours)


@pytest.mark.parametrize("wait_s", [SHOW_AFTER_S / 5, SHOW_AFTER_S * 2])
def test_a_bar_appears_once_a_wait_is_worth_it_and_starts_no_thread(store, terminal, monkeypatch, wait_s):
    file, shown = terminal
    monkeypatch.setattr("sys.stderr", file)
    threads, seen = [], []

    def is_sending():
        threads.append(threading.active_count())
        seen.append(shown())  # a terminal that nobody reads blocks
        return True

    wait_for_delivery([awaited_run(store, 1)], time.monotonic() + wait_s, is_sending)

    assert ("mlobs: delivering" in "".join([*seen, shown()])) is (wait_s > SHOW_AFTER_S)
    assert max(threads) == threads[0]


class Waited:
    """A wait that notes when it is done."""

    def __init__(self, done, *, is_over=False):
        self._done, self._is_over = done, is_over

    def now(self):
        self._done.append(self)

    def is_over(self):
        return self._is_over


def test_waits_that_are_over_are_not_kept_for_the_end_of_the_program():
    program, done = Program(), []
    over, left, behind = Waited(done, is_over=True), Waited(done), Waited(done, is_over=True)
    for one in (over, left, behind):
        program.wait_later(one)

    assert done == [over]
    program.exit()
    assert done == [over, left, behind]


def test_a_wait_that_comes_while_another_is_done_is_done_behind_it():
    program, done = Program(), []
    behind = Waited(done)

    class Coming(Waited):
        def now(self):
            super().now()
            program.wait_later(behind)
            program.catch_up()  # as another thread would
            assert done == [self]

    first = Coming(done)
    program.wait_later(first)
    program.catch_up()

    assert done == [first, behind]
