"""The life line: the trainer's orders, whole and in order, and the news of its death."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recorded import ELSEWHERE, record_run

from mlobs.delivery.orders import Flush, Hello, OpenRun, to_line
from mlobs.delivery.report import report
from mlobs.events import BackendSpec, Process
from mlobs.journal.process import this_process
from mlobs.journal.store import Store
from mlobs.sender.lifeline import LifeLine

SENDER = [sys.executable, "-m", "mlobs.sender"]
AUTOGROUP = Path("/proc/self/autogroup")
FAR = """
from dataclasses import dataclass
from mlobs.backend import Capabilities, Receipt

@dataclass
class Far:
    name: str = "far"
    capabilities = Capabilities()
    def __post_init__(self):
        raise RuntimeError("no way")
    def deliver(self, batch):
        raise AssertionError
    def close(self):
        pass

@dataclass
class Near:
    name: str = "near"
    capabilities = Capabilities()
    def deliver(self, batch):
        return Receipt(ref="near-1")
    def close(self):
        pass
"""


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    os.close(writing)  # then the thread that listens ends, and its file may be closed


def trainer():
    """A process that lives until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with open(f"/proc/{process.pid}/stat", "rb") as stat:  # noqa: PTH123
        started = int(stat.read().rpartition(b")")[2].split()[19])
    here = this_process()
    return process, Process(here.host, process.pid, here.boot_id, started)


def heard(line, count, timeout_s=10.0):
    orders, deadline = [], time.monotonic() + timeout_s
    while len(orders) < count:
        assert time.monotonic() < deadline
        orders += line.orders(wait_s=0.05)
    return orders


def until_cut(line, timeout_s=10.0):
    orders, deadline = [], time.monotonic() + timeout_s
    while not line.is_cut:
        assert time.monotonic() < deadline
        orders += line.orders(wait_s=0.05)
    return orders


def test_orders_come_in_order_however_the_pipe_cuts_them(pipe):
    reading, writing = pipe
    line = LifeLine(reading, this_process())
    orders = [OpenRun(b"/r1", ()), Flush(), OpenRun(b"/r2", ())]
    content = b"".join(map(to_line, orders))
    for at in range(0, len(content), 5):
        os.write(writing, content[at : at + 5])

    assert heard(line, 3) == orders
    assert not line.is_cut


def test_an_order_that_nobody_understands_is_stepped_over(pipe, caplog):
    reading, writing = pipe
    line = LifeLine(reading, this_process())
    os.write(writing, b"?\n" + to_line(Flush()) + b"AAAA\n" + to_line(Flush()))

    assert heard(line, 2) == [Flush(), Flush()]
    assert len(caplog.records) == 2


def test_last_words_are_heard_after_the_death_and_a_torn_one_is_not(pipe):
    reading, writing = pipe
    process, who = trainer()
    line = LifeLine(reading, who)
    process.kill()
    process.wait()
    os.write(writing, to_line(OpenRun(b"/last", ())) + to_line(Flush())[:-3])

    assert until_cut(line) == [OpenRun(b"/last", ())]


def test_the_end_of_the_pipe_proves_nothing_while_the_trainer_lives():
    reading, writing = os.pipe()
    process, who = trainer()
    line = LifeLine(reading, who)
    os.close(writing)
    assert list(line.orders(wait_s=0.7)) == []
    assert not line.is_cut
    process.kill()
    process.wait()

    until_cut(line)


def test_where_nobody_can_tell_whether_the_trainer_lives_the_end_of_the_pipe_counts():
    reading, writing = os.pipe()
    line = LifeLine(reading, ELSEWHERE)
    assert list(line.orders(wait_s=0.7)) == []
    assert not line.is_cut
    os.close(writing)

    until_cut(line)


@pytest.fixture
def sender(tmp_path):
    """A sender that has heard a hello from a trainer that lives, its run, and how to start it."""
    (tmp_path / "far.py").write_text(FAR)
    store = Store(tmp_path / "store")
    store.create()
    store.senders.mkdir()
    process, who = trainer()
    hello = Hello(who, "s1", 20.0, tuple(map(os.fsencode, (tmp_path, *sys.path))))
    with (store.senders / "s1.log").open("wb") as output:
        started = subprocess.Popen(SENDER, stdin=subprocess.PIPE, stdout=output, stderr=output, bufsize=0)
    started.stdin.write(to_line(hello))
    yield started, process, store
    for one in (process, started):
        one.kill()
        one.wait()
    started.stdin.close()


def order_of(folder, *types):
    return to_line(
        OpenRun(os.fsencode(folder.path), tuple(BackendSpec(name, f"far:{name.title()}") for name in types))
    )


def test_a_backend_that_cannot_be_made_does_not_keep_its_run_from_a_healthy_one(sender):
    started, trainer, store = sender
    first, second = record_run(store), record_run(store)
    started.stdin.write(order_of(first, "far", "near") + b"nonsense\n" + order_of(second, "near")[:-1])
    os.write(started.stdin.fileno(), b"\n")
    trainer.kill()
    assert started.wait(timeout=30) == 0

    reports = report(first, ["far", "near"])
    assert (reports["near"].delivered, reports["far"].pending) == (2, 2)
    assert (reports["far"].state, reports["far"].trouble) == ("paused", "no way")
    assert report(second)["near"].is_settled
    log = (store.senders / "s1.log").read_text()
    assert "an order was not understood" in log


def test_a_line_torn_by_the_trainers_death_does_not_end_the_sender(sender):
    started, trainer, store = sender
    whole, torn = record_run(store), record_run(store)
    started.stdin.write(order_of(whole, "near") + order_of(torn, "near")[:-4])
    trainer.kill()
    started.stdin.close()
    assert started.wait(timeout=30) == 0

    assert report(whole)["near"].is_settled
    assert not torn.delivery.exists()


def test_a_sender_that_had_nothing_to_say_leaves_no_file(sender):
    started, trainer, store = sender
    started.stdin.write(order_of(record_run(store), "near"))
    trainer.kill()
    assert started.wait(timeout=30) == 0

    assert list(store.senders.iterdir()) == []


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel has no autogroups")
@pytest.mark.skipif(
    getattr(os, "geteuid", int)() != 0, reason="others may write it ten times a second, all together"
)
@pytest.mark.parametrize("has_own_session", [True, False])
def test_a_sender_steps_back_in_a_session_of_its_own_alone(has_own_session):
    """Else whoever started it from a shell would have slowed down the whole shell."""
    look = "import pathlib; from mlobs.sender.process import _lower_group_priority as lower; lower(); "
    look += f"print(pathlib.Path({str(AUTOGROUP)!r}).read_text())"
    before = AUTOGROUP.read_text()
    printed = subprocess.run(
        [sys.executable, "-c", look],
        start_new_session=has_own_session,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if has_own_session:
        assert printed.split()[-1] == "19"
    else:
        assert printed.split() == before.split()  # nothing at all where the session is the machine's first
    assert AUTOGROUP.read_text() == before
