"""A vendor's call that never returns delays neither the program, nor the other backends, nor `mlobs sync`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import delivered, environment, eventually, only_run, run, run_ids, running, sender_of, write

from mlobs.delivery.report import report
from mlobs.delivery.state import States
from mlobs.journal.process import is_alive
from mlobs.journal.store import Store

pytestmark = pytest.mark.slow

BACKENDS = '''
import ctypes, os, threading, time
from dataclasses import dataclass
from pathlib import Path
from mlobs.backend import Capabilities, Receipt

def keep(path, batch):
    with open(path, "a") as file:
        for entry in batch.entries:
            file.write(entry.key + "\\n")

@dataclass
class Healthy:
    """Writes down what it was given."""
    path: str
    name: str = "healthy"
    capabilities = Capabilities(max_events=100)
    def deliver(self, batch):
        keep(self.path, batch)
        return Receipt(ref="healthy")
    def close(self):
        pass

@dataclass
class Hanging:
    """Never returns while the file `path` exists: asleep, or in C with or without the interpreter's lock."""
    path: str
    way: str = "event"
    name: str = "hanging"
    capabilities = Capabilities(max_events=100)
    def deliver(self, batch):
        if os.path.exists(self.path):
            with open(self.path, "a") as file:
                file.write(f"{os.getpid()} {batch.ref}\\n")
            if self.way == "event":
                threading.Event().wait()
            elif self.way == "in C":
                ctypes.CDLL(None).sleep(3600)
            else:
                ctypes.PyDLL(None).sleep(3600)
        keep(self.path + ".got", batch)
        return Receipt(ref="hanging")
    def close(self):
        pass
'''
SLOW_TO_STOP = '''

@dataclass
class SlowToStop(Healthy):
    """Is at work from 2 s to 5.5 s behind the beginning of the first call that hangs."""
    def deliver(self, batch):
        hangs = Path("hangs")
        began = hangs.stat().st_mtime if hangs.stat().st_size else time.time()
        if time.time() - began > 2.0 and not os.path.exists("was slow"):
            Path("was slow").touch()
            time.sleep(max(0.0, began + 5.5 - time.time()))
        return super().deliver(batch)
'''
TRAIN = """
import os, pathlib, sys, time
import mlobs, vendors

os.environ["MLOBS_HANG_TIMEOUT_S"] = "1"

way, seconds = sys.argv[1], float(sys.argv[2])
backends = [vendors.Hanging(os.path.abspath("hangs"), way), vendors.Healthy(os.path.abspath("healthy"))]
tracker = mlobs.Tracker("hang", backends=backends, store="store", finish_timeout_s=3)
run = tracker.start_run()
longest, step, started = 0.0, 0, time.perf_counter()
while step < 200 or (time.perf_counter() - started < seconds and not pathlib.Path("enough").exists()):
    before = time.perf_counter()
    run.log_metric("loss", 0.5, step=step)
    longest = max(longest, time.perf_counter() - before)
    step += 1
    time.sleep(0.005)
before = time.perf_counter()
run.finish()
print(step, longest, time.perf_counter() - before)
"""


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, BACKENDS, "vendors.py")
    (tmp_path / "hangs").touch()
    return tmp_path


def lane(folder, name):
    (run_folder,) = Store(folder / "store").runs()
    found = States(run_folder.delivery).refresh().of(name).lane
    return ("", "", None) if found is None else (found.state, found.reason, found.until)


def settled(folder, name):
    (run_folder,) = Store(folder / "store").runs()
    return report(run_folder)[name]


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("way", ["event", "in C"])
def test_a_hung_call_is_left_to_a_successor_that_serves_the_others(folder, way):
    """The sender keeps its pid, so the trainer need not know; its end does not wait for the call."""
    with running(folder, TRAIN, way, 60) as program:
        eventually(lambda: lane(folder, "hanging")[2] if run_ids(folder) else None)
        state, reason, until = lane(folder, "hanging")
        first = lines(folder / "hangs")[0].split()[0]
        before = len(lines(folder / "healthy"))
        eventually(lambda: len(lines(folder / "healthy")) > before + 100)
        sender = sender_of(folder, run_ids(folder)[0])
        (folder / "enough").touch()
        assert program.wait(timeout=60) == 0

    assert (state, until > time.time()) == ("hung", True)
    assert "has not returned for" in reason
    assert sender.pid == int(first)
    output = (folder / "output").read_text()
    steps, longest, finish = map(float, output.split()[-3:])
    assert finish < 3.0  # the lane is held back for a minute: nobody waits for it
    assert output.count("not returned") == 1  # said once, at the end
    assert longest < 1.0
    assert settled(folder, "healthy").is_settled
    assert len(set(lines(folder / "healthy"))) == len(lines(folder / "healthy")) == steps + 2


def test_what_a_hung_backend_missed_arrives_once_when_it_has_recovered(folder):
    run(folder, TRAIN, "event", 0, MLOBS_LINGER_S="1")
    run_id = only_run(folder).run_id
    (folder / "hangs").unlink()
    eventually(lambda: sender_of(folder, run_id) is None)

    sync = [sys.executable, "-m", "mlobs", "sync", "--store", "store"]
    done = subprocess.run(
        sync, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert delivered(folder, run_id, "hanging", "healthy")
    got = lines(folder / "hangs.got")
    assert len(got) == len(set(got)) == 202


@pytest.mark.parametrize("way", ["event", "in C", "with the lock"])
def test_sync_gives_up_a_call_that_hangs(folder, way):
    """It says so and exits with 1; also where the call keeps every other thread from running."""
    run(folder, TRAIN, way, 0, MLOBS_MODE="offline")
    sync = [sys.executable, "-m", "mlobs", "sync", "--store", "store"]
    settings = environment(MLOBS_HANG_TIMEOUT_S="1")
    started = time.monotonic()
    done = subprocess.run(
        sync, cwd=folder, env=settings, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1
    assert time.monotonic() - started < 30
    if way != "with the lock":
        assert "has not returned for" in done.stderr + done.stdout
        assert settled(folder, "healthy").is_settled
    assert settled(folder, "hanging").pending == 202


def test_a_call_that_holds_the_interpreters_lock_ends_its_sender_not_the_program(folder):
    """Nothing can run beside such a call, so the process is ended from outside of Python; another follows."""
    with running(folder, TRAIN, "with the lock", 120) as program:
        eventually(lambda: lines(folder / "hangs"))
        first = int(lines(folder / "hangs")[0].split()[0])
        eventually(lambda: _has_ended(first))
        (folder / "hangs").unlink()
        (folder / "enough").touch()
        assert program.wait(timeout=60) == 0

    eventually(lambda: delivered(folder, only_run(folder).run_id, "hanging", "healthy"))
    got = lines(folder / "hangs.got")
    assert len(got) == len(set(got)) == float((folder / "output").read_text().split()[-3]) + 2


def test_who_waits_for_ever_has_a_sender_too(folder):
    (folder / "hangs").unlink()
    source = TRAIN.replace('"1"', '"inf"')
    run(folder, source, "event", 0)

    assert "Traceback" not in _said_by_sender(folder)
    assert settled(folder, "healthy").is_settled


def test_a_sender_that_is_told_to_leave_while_it_makes_way_has_no_successor(folder):
    """`mlobs sync` says it once, and waits for it."""
    write(folder, BACKENDS + SLOW_TO_STOP, "vendors.py")
    source = TRAIN.replace('"1"', '"3"').replace("vendors.Healthy", "vendors.SlowToStop")
    with running(folder, source, "event", 60) as program:
        eventually(lambda: "hangs:" in _said_by_sender(folder))
        sender = int(lines(folder / "hangs")[0].split()[0])
        os.kill(sender, signal.SIGTERM)
        eventually(lambda: _has_ended(sender), timeout_s=10)
        (folder / "enough").touch()
        assert program.wait(timeout=60) == 0


def _said_by_sender(folder):
    return "".join(path.read_text() for path in (folder / "store/senders").glob("*.log"))


def _has_ended(pid):
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_bytes().rpartition(b")")[2].split()[0] == b"Z"


def test_threads_that_hang_are_told_too(folder):
    done = run(folder, TRAIN, "event", 3, MLOBS_DELIVERY="thread")

    assert done.returncode == 0
    assert lane(folder, "hanging")[0] == "hung"
    assert "has not returned for" in done.stderr
    assert settled(folder, "healthy").is_settled


def test_a_successor_keeps_the_end_that_was_set_for_lingering(folder):
    """Otherwise a backend that hangs again and again would keep its sender for ever."""
    run(folder, TRAIN, "event", 0, MLOBS_LINGER_S="15")
    ended = time.monotonic()
    run_id = only_run(folder).run_id
    eventually(lambda: settled(folder, "healthy").is_settled)  # it may have to be started yet
    sender = sender_of(folder, run_id)
    eventually(lambda: sender is None or is_alive(sender) is False, timeout_s=60)

    assert time.monotonic() - ended < 45
