"""Log lines at a backend that keeps files but no lines."""

import pytest

from mlobs.backend import Capabilities, Entry
from mlobs.delivery import rolling
from mlobs.delivery.courier import Courier
from mlobs.delivery.lowering import Memory, lower
from mlobs.delivery.report import report
from mlobs.events import Artifact, Log, Process, RunFinished, RunStarted
from mlobs.journal.store import Store
from mlobs.journal.writer import Writer
from mlobs.testing import FlakyBackend, MemoryBackend
from mlobs.text import log_line

FILES_ALONE = Capabilities(
    kinds=frozenset({"run_started", "run_finished", "metrics", "artifact"}),
    roles=frozenset({"file"}),
    max_events=7,
)


@pytest.fixture
def opened(tmp_path):
    store = Store(tmp_path / "store")
    store.create()
    folder = store.new_run("r1")
    writer = Writer(folder.path, "r1", is_opener=True)
    writer.append(RunStarted(1.0, "r1", "e", "n", Process("h", 1)))
    return folder, writer


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def log(number, message="step"):
    return Log(1000.0 + number, f"{message} {number}", "INFO", "train")


def drain(courier, clock=None):
    for _ in range(500):
        if courier.step(is_final=True) == "idle":
            return
        if clock is not None:
            clock.now += courier.wait_s()
    raise AssertionError("the courier does not come to rest")


def files(backend):
    """What the backend shows: of each path what came last."""
    held = [one for one in backend.held["r1"].values() if isinstance(one, Artifact)]
    return {one.path: one.data.decode() for one in held}


def test_the_lines_of_many_batches_stand_in_one_file_in_order(opened):
    folder, writer = opened
    lines = [log(number) for number in range(20)]
    backend = MemoryBackend(capabilities=FILES_ALONE)
    courier = Courier(backend, "s1")
    courier.add(folder)
    for line in lines:
        writer.append(line)
        if line is lines[9]:
            drain(courier)
    drain(courier)

    [(path, text)] = files(backend).items()
    assert path == f"logs/{writer.id}.0001.txt"
    assert text == "".join(f"{log_line(one)}\n" for one in lines)
    assert report(folder)["memory"].lowered == 20


def test_another_sender_goes_on_with_the_file(opened):
    folder, writer = opened
    backend = MemoryBackend(capabilities=FILES_ALONE)
    for half in range(2):
        for number in range(half * 10, half * 10 + 10):
            writer.append(log(number))
        courier = Courier(backend, f"s{half}")
        courier.add(folder)
        drain(courier)

    assert [text.count("\n") for text in files(backend).values()] == [20]


def test_a_full_file_is_followed_by_the_next(opened, monkeypatch):
    monkeypatch.setattr(rolling, "MAX_FILE_BYTES", 200)
    folder, writer = opened
    for number in range(30):
        writer.append(log(number, "x" * (300 if number == 4 else 20)))
    writer.append(RunFinished(2000.0, "FINISHED"))
    backend = MemoryBackend(capabilities=FILES_ALONE)
    courier = Courier(backend, "s1")
    courier.add(folder)
    drain(courier)

    found = files(backend)
    assert list(found) == [f"logs/{writer.id}.{number:04}.txt" for number in range(1, len(found) + 1)]
    assert "".join(found.values()).count("\n") == 30
    assert sorted(len(text) > 200 for text in found.values()) == [False] * (len(found) - 1) + [True]


def test_a_lost_answer_and_an_outage_leave_no_line_twice_and_none_out(opened):
    folder, writer = opened
    script = [None, "lost answer", "unavailable", "lost answer", "server error"]
    memory, clock = MemoryBackend(capabilities=FILES_ALONE), Clock()
    courier = Courier(FlakyBackend(memory, script), "s1", clock=clock, jitter=lambda: 0.5)
    courier.add(folder)
    for number in range(30):
        writer.append(log(number))
        courier.step()
        clock.now += courier.wait_s()
    drain(courier, clock)

    assert list(files(memory).values()) == ["".join(f"{log_line(log(number))}\n" for number in range(30))]


def test_each_line_of_a_refused_file_is_rejected(opened):
    folder, writer = opened
    courier = Courier(FlakyBackend(MemoryBackend(capabilities=FILES_ALONE), [None, "reject"]), "s1")
    courier.add(folder)
    drain(courier)
    for number in range(5):
        writer.append(log(number))
    drain(courier)

    told = report(folder)["memory"]
    assert (told.rejected, told.lowered) == (5, 0)
    assert told.is_settled


def test_a_backend_without_files_and_texts_is_told_why():
    capabilities = Capabilities(kinds=frozenset({"metrics"}))

    assert lower(log(0), capabilities, Memory()).outcome == "skipped"


def test_a_file_stands_where_its_last_line_stood():
    capabilities = FILES_ALONE
    metric = Entry("w:5", RunFinished(1.0, "FINISHED"))
    lines = [Entry(f"w:{n}", lower(log(n), capabilities, Memory()).events[0]) for n in (1, 9)]

    done = rolling.rolled("w", [lines[0], metric, lines[1]], rolling.Roll())

    assert [entry.key for entry in done.entries] == ["w:5", "w:9/2"]
    assert done.keys == {"w:9/2": ("w:1", "w:9")}
