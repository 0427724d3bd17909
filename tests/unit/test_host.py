"""The host of the lanes: many runs, few descriptors, and one run's trouble is nobody else's."""

import contextlib
import errno
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from recorded import ELSEWHERE, open_run, record_run, vanished_run, write_as

from mlobs.delivery.claim import LEASE_S, Claim, Holder
from mlobs.delivery.orders import OpenRun, from_line, key_of, to_line
from mlobs.delivery.registry import resolve
from mlobs.delivery.report import report
from mlobs.delivery.state import LaneChanged, States, StateWriter
from mlobs.errors import Unavailable, UsageError
from mlobs.events import BackendSpec, Metrics, Process
from mlobs.journal.store import RunFolder, Store
from mlobs.sender import disk
from mlobs.sender.descriptors import ENOUGH, raise_limit, room_for_runs
from mlobs.sender.disk import Disk
from mlobs.sender.endings import trim
from mlobs.sender.host import Host
from mlobs.sender.lanes import LaneThread
from mlobs.testing import MemoryBackend


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    made.create()
    return made


class Down(MemoryBackend):
    """A backend that does not answer until somebody starts it."""

    is_up = False

    def deliver(self, batch):
        if not self.is_up:
            raise Unavailable("down", retry_after_s=0.01)
        return super().deliver(batch)


@pytest.fixture
def few_descriptors():
    """As `ulimit -n` with room for 64 more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()) + 64, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_descriptors")
def test_a_sweep_of_many_runs_holds_few_descriptors(store):
    host, backend = Host("s1"), MemoryBackend()
    for _ in range(100):
        host.open(record_run(store), {"memory": backend})
    host.finish()
    wait_until(host.is_drained)
    host.close()

    assert len(backend.held) == 100


@pytest.mark.usefixtures("few_descriptors")
def test_while_a_backend_is_down_more_runs_than_descriptors_wait_and_then_go(store):
    host, backend = Host("s1"), Down()
    for _ in range(100):
        host.open(record_run(store), {"memory": backend})
    assert not host.claim_waiting()
    backend.is_up = True
    host.finish()
    wait_until(host.is_drained)
    host.close()

    assert len(backend.held) == 100


@pytest.mark.usefixtures("few_descriptors")
def test_without_any_descriptor_left_the_sender_goes_on_as_soon_as_there_is_one(store):
    host, backend = Host("s1"), MemoryBackend()
    first, second = record_run(store), record_run(store)
    host.open(first, {"memory": backend})
    wait_until(lambda: host._lanes["memory"].is_complete(first.run_id))  # then the lane opens nothing
    held = exhaust_descriptors()
    try:
        host.open(second, {"memory": backend})
        assert not host.claim_waiting()
    finally:
        for file in held:
            os.close(file)
    host.finish()
    wait_until(host.is_drained)
    host.close()

    assert set(backend.held) == {first.run_id, second.run_id}
    assert report(second)["memory"].rejected == 0


@pytest.mark.usefixtures("few_descriptors")
def test_the_sender_takes_as_many_descriptors_as_it_may_have():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = room_for_runs()
    raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(hard, ENOUGH), hard)
    assert room_for_runs() > before


def test_a_record_of_the_delivery_state_that_is_cut_short_is_an_error_and_harms_no_other(tmp_path):
    writer = StateWriter(tmp_path, "s1")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer.append(LaneChanged(1.0, "memory", "paused", "before"))
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "s1.state").stat().st_size + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="only 20 of"):
            writer.append(LaneChanged(2.0, "memory", "paused", "cut"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert States(tmp_path).refresh().of("memory").lane.reason == "before"
    writer.append(LaneChanged(3.0, "memory", "paused", "after"))
    assert States(tmp_path).refresh().of("memory").lane.reason == "after"


def test_a_claim_is_released_only_when_no_lane_delivers_the_run_any_more(store):
    host, backend = Host("s1"), MemoryBackend()
    folder = record_run(store)
    host.open(folder, {"memory": backend})
    wait_until(lambda: folder.run_id in backend.held)

    assert not Claim(folder.delivery).acquire()
    assert host.leave()
    assert Claim(folder.delivery).acquire()
    host.close()


def test_a_run_that_cannot_be_taken_does_not_keep_the_lane_from_others_and_is_not_drained(store):
    broken, whole = record_run(store), record_run(store)
    broken.delivery.mkdir()
    (broken.delivery / "s0.state").mkdir()  # reading it fails, for root too
    backend = MemoryBackend()
    lane = LaneThread(backend, "s1")
    lane.add(broken)
    lane.add(whole)
    lane.finish()
    wait_until(lambda: whole.run_id in backend.held)

    wait_until(lambda: lane.lane().state == "backing off")
    assert not lane.is_drained()
    (broken.delivery / "s0.state").rmdir()
    lane.flush()
    wait_until(lane.is_drained)
    lane.stop()
    assert broken.run_id in backend.held
    assert lane.join(5.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lane_whose_thread_died_has_delivered_nothing(store):
    class Fatal(MemoryBackend):
        def deliver(self, batch):
            del batch
            raise GeneratorExit  # past `except Exception`, as a vendor's fault in C may be

    lane = LaneThread(Fatal(), "s1")
    lane.add(record_run(store))
    lane.finish()
    assert lane.join(30.0)

    assert not lane.is_drained()
    assert lane.lane().state == "stopped"


def test_a_vanished_run_that_had_to_wait_for_its_turn_is_ended_and_delivered(store):
    host, backend = Host("s1", most_runs=1), MemoryBackend()
    vanished = [vanished_run(store, at) for at in (1000.0, 2000.0)]
    for folder in vanished:
        host.open(folder, {"memory": backend})
    host.end_abandoned()
    host.finish()
    wait_until(host.is_drained)
    host.close()

    ends = [list(backend.held[folder.run_id].values())[-1].status for folder in vanished]
    assert ends == ["CRASHED", "CRASHED"]


def test_a_claim_without_locks_is_kept_from_others_as_long_as_its_holder_lives(tmp_path):
    with subprocess.Popen([sys.executable, "-c", _HOLDING, str(tmp_path)], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert not Claim(tmp_path, lock=no_locks).acquire()
        other.kill()
        other.wait()
        assert Claim(tmp_path, lock=no_locks).acquire()


def test_a_claim_without_locks_is_a_lease_where_nobody_knows_whether_its_holder_lives(tmp_path):
    path = tmp_path / "claim"
    path.write_text(json.dumps({"process": list(as_tuple(ELSEWHERE)), "is_lingering": False}))
    claim = Claim(tmp_path, lock=no_locks)
    assert claim.holder() == Holder(ELSEWHERE)
    assert not claim.acquire()
    os.utime(path, (0, time.time() - LEASE_S - 1))

    assert claim.acquire()
    os.utime(path, (0, 0))
    claim.renew()
    assert path.stat().st_mtime > time.time() - LEASE_S
    claim.release()
    assert claim.holder() is None


def test_blobs_and_folders_are_forced_onto_the_disk_once(store):
    folder, writer = open_run(store, Metrics(1.0, 0, {"a": 1.0}))
    ordinal = writer.keep_bytes(b"large")
    kept = []
    keeping = Disk(fsync=kept.append)
    keeping.keep(folder)
    blob = folder.path / "blobs" / f"{writer.id}-{ordinal}"
    assert kept == [*folder.journals(), blob, blob.parent, folder.path, folder.path.parent]

    kept.clear()
    keeping.keep(folder)
    assert kept == []
    writer.keep_bytes(b"another")
    keeping.keep(folder)
    assert [path.name for path in kept] == [f"{writer.id}-{ordinal + 1}", "blobs"]
    disk.fsync(folder.path)
    disk.fsync(blob)
    writer.close()


def test_what_cannot_be_forced_onto_the_disk_stops_nothing_and_is_tried_again(store, caplog):
    folder = record_run(store)
    tried = []

    def refuse(path):
        tried.append(path)
        raise OSError(errno.EIO, "Input/output error")

    keeping = Disk(fsync=refuse)
    keeping.keep(folder)
    keeping.keep(folder)

    assert tried == [*folder.journals(), folder.path, folder.path.parent] * 2
    assert len(caplog.records) == 1


def test_trim_cuts_a_dead_writers_file_to_its_records_and_leaves_a_living_ones(store):
    dead = vanished_run(store)
    (journal,) = dead.journals()
    reserved = journal.stat().st_size
    with open(journal, "r+b") as file:  # noqa: PTH123
        file.truncate(reserved + 1_000_000)
    trim(dead)
    assert journal.stat().st_size < reserved + 1_000_000
    cut = journal.read_bytes()
    trim(dead)
    assert journal.read_bytes() == cut
    assert not cut.endswith(bytes(64))

    folder, writer = open_run(store)
    size = folder.journals()[0].stat().st_size
    trim(folder)
    assert folder.journals()[0].stat().st_size == size
    writer.close()
    elsewhere = write_as(store.new_run("elsewhere"), ELSEWHERE, is_opener=True)
    trim(RunFolder(elsewhere.parent))


def test_parameters_arrive_at_the_sender_as_they_were_given():
    params = {"key": b"\x00\xff", "limit": float("inf"), "nan": -float("inf"), "names": ["a\nb", None, True]}
    spec = BackendSpec("far", "m:Far", params)
    order = OpenRun(b"/store/runs/r1", (spec,))
    line = to_line(order)

    assert from_line(line) == order
    assert line.count(b"\n") == 1
    assert key_of(spec) != key_of(BackendSpec("far", "m:Far", {**params, "nan": float("inf")}))


@dataclass
class Counted(MemoryBackend):
    most: int = 0


def test_a_parameter_that_cannot_travel_is_refused_when_it_is_given():
    resolve([Counted(most=2**64 - 1)], {}, travels=False)
    with pytest.raises(UsageError, match="travel"):
        resolve([Wide(most=2**64)], {})


@dataclass
class Wide:
    name: str = "wide"
    most: int = 0
    capabilities = MemoryBackend().capabilities

    def deliver(self, batch):
        raise AssertionError(batch)

    def close(self):
        pass


_HOLDING = """
import errno, sys, time
from pathlib import Path
from mlobs.delivery.claim import Claim

def no_locks(fd):
    raise OSError(errno.ENOLCK, "no locks available")

claim = Claim(Path(sys.argv[1]), lock=no_locks)
assert claim.acquire()
print("held", flush=True)
time.sleep(60)
"""


def no_locks(fd):
    raise OSError(errno.ENOLCK, f"no locks available on {fd}")


def as_tuple(process: Process):
    return process.host, process.pid, process.boot_id, process.started


def open_descriptors():
    return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]


def exhaust_descriptors():
    held = []
    with contextlib.suppress(OSError):
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    return held


def wait_until(holds, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_thousands_of_runs_are_kept_on_the_disk_a_few_at_a_time(store):
    """All of them at once kept the sender from its orders for longer than its watchdog waits."""
    host = Host("keeping")
    for _ in range(3):
        host.open(record_run(store), {})

    looks = [host.keep_on_disk(for_s=0.0) for _ in range(4)]
    host.close()

    assert looks == [False, False, True, False]
