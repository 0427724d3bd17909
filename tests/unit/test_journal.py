"""The journal keeps what it was given: whatever the thread, the fork, the signal or the file's way."""

import contextlib
import os
import signal
import threading
from pathlib import Path

import pytest

from mlobs.errors import StoreError
from mlobs.events import Artifact, Metrics, RunFinished, Tags, Unknown
from mlobs.journal import files
from mlobs.journal.blobs import blob_path
from mlobs.journal.format import SEGMENT_BYTES, encode, frame
from mlobs.journal.reader import Reader
from mlobs.journal.writer import Writer

BOTH_WAYS = pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "written"])


def values_of(path):
    with Reader(path) as reader:
        values = [event.values["loss"] for _, _, event in reader.events()]
        assert reader.damage == []
    return values


def point(value):
    return Metrics(1.0, 0, {"loss": float(value)})


@BOTH_WAYS
def test_events_are_read_back_in_order_while_the_writer_is_open(tmp_path, mapped):
    writer = Writer(tmp_path, "r", mapped=mapped)
    for value in range(10_000):  # more than two segments
        writer.append(point(value))

    assert values_of(writer.path) == list(range(10_000))


@BOTH_WAYS
def test_close_leaves_nothing_but_the_records(tmp_path, mapped):
    writer = Writer(tmp_path, "r", mapped=mapped)
    writer.append(point(1))
    end = writer.end()
    writer.close()

    assert writer.path.stat().st_size == end
    assert values_of(writer.path) == [1.0]


@BOTH_WAYS
def test_append_after_close_is_refused(tmp_path, mapped):
    writer = Writer(tmp_path, "r", mapped=mapped)
    writer.close()

    with pytest.raises(StoreError, match="closed"):
        writer.append(point(1))


@BOTH_WAYS
def test_a_record_larger_than_a_segment_is_kept(tmp_path, mapped):
    writer = Writer(tmp_path, "r", mapped=mapped)
    large = Tags(1.0, {"text": "x" * (3 * SEGMENT_BYTES)})
    writer.append(point(1))
    writer.append(large)
    writer.append(point(2))

    with Reader(writer.path) as reader:
        events = [event for _, _, event in reader.events()]
    assert events == [point(1), large, point(2)]


@BOTH_WAYS
def test_threads_lose_and_tear_nothing(tmp_path, mapped):
    writer = Writer(tmp_path, "r", mapped=mapped)

    def work(thread):
        for value in range(5_000):
            writer.append(point(thread * 10_000 + value))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    values = values_of(writer.path)
    for number in range(8):
        mine = [value - number * 10_000 for value in values if value // 10_000 == number]
        assert mine == list(range(5_000))


@BOTH_WAYS
def test_a_signal_handler_may_append_in_the_middle_of_an_append(tmp_path, mapped):
    writer = Writer(tmp_path, "r", mapped=mapped)
    handled = []

    def handler(*_):
        handled.append(len(handled))
        writer.append(point(1_000_000 + handled[-1]))

    earlier = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    try:
        for value in range(60_000):
            writer.append(point(value))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)

    values = values_of(writer.path)
    assert len(handled) > 10
    assert [value for value in values if value < 1_000_000] == list(range(60_000))
    assert sorted(value - 1_000_000 for value in values if value >= 1_000_000) == handled  # they nest


@BOTH_WAYS
def test_re_entering_while_the_file_grows_loses_nothing(tmp_path, mapped, monkeypatch):
    """A `__del__` may append at the worst moment: while the next segment is being mapped."""
    writer = Writer(tmp_path, "r", mapped=mapped)
    inner = iter(range(1_000_000, 2_000_000))
    appended = []
    window = files._Window

    class ReenteringWindow(window):
        def __init__(self, fd, start, size):
            super().__init__(fd, start, size)
            monkeypatch.setattr(files, "_Window", window)
            for _ in range(6_000):  # more than the segment that is just being made
                appended.append(next(inner))
                writer.append(point(appended[-1]))

    monkeypatch.setattr(files, "_Window", ReenteringWindow)
    for value in range(10_000):
        writer.append(point(value))

    values = values_of(writer.path)
    assert [value for value in values if value < 1_000_000] == list(range(10_000))
    assert [value for value in values if value >= 1_000_000] == appended


def test_a_file_that_is_closed_while_it_grows_stays_whole(tmp_path, monkeypatch):
    """One thread maps the next segment while another closes the file: no SIGBUS, and a clear error."""
    writer = Writer(tmp_path, "r", mapped=True)
    window = files._Window

    class ClosingWindow(window):
        def __init__(self, fd, start, size):
            super().__init__(fd, start, size)
            writer.close()

    monkeypatch.setattr(files, "_Window", ClosingWindow)
    kept = []

    def fill():
        for value in range(10_000):
            writer.append(point(value))
            kept.append(value)

    with pytest.raises(StoreError, match="closed"):
        fill()

    assert len(kept) > 1_000
    assert values_of(writer.path) == kept


def test_the_end_is_known_while_the_file_grows(tmp_path, monkeypatch):
    """A signal handler may ask at the worst moment: when the full segment is sealed already."""
    writer = Writer(tmp_path, "r", mapped=True)
    seal, ends = files._Window.seal, []

    def asking_seal(self):
        used = seal(self)
        ends.append(writer.end())
        return used

    monkeypatch.setattr(files._Window, "seal", asking_seal)
    for value in range(6_000):
        writer.append(point(value))

    assert ends == [SEGMENT_BYTES]
    assert writer.end() > SEGMENT_BYTES


def descriptors_of(path):
    """The descriptors of this process that are open on a file."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the folder itself
            if os.path.samestat(os.fstat(int(entry.name)), path.stat()):
                found.append(int(entry.name))
    return found


@pytest.fixture
def taken_over(tmp_path):
    """A function that closes a file's descriptors as a stranger does; another file takes each number."""
    opened = []

    def take_over(path):
        for number in descriptors_of(path):
            other = tmp_path / f"other-{number}"
            other.write_bytes(b"somebody else's")
            with other.open("ab") as file:
                os.dup2(file.fileno(), number)
            opened.append((number, other))
        assert opened
        return opened

    yield take_over
    for number, _ in opened:
        os.close(number)


NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")


@NEEDS_PROC
@BOTH_WAYS
@pytest.mark.parametrize("more", [0, 10, 10_000])
def test_a_file_that_took_the_number_of_ours_is_never_touched(tmp_path, taken_over, mapped, more):
    writer = Writer(tmp_path, "r", mapped=mapped)
    writer.append(point(0))
    others = taken_over(writer.path)
    for value in range(1, 1 + more):
        writer.append(point(value))
    end = writer.end()
    writer.close()

    assert values_of(writer.path) == list(range(1 + more))
    assert writer.path.stat().st_size == end
    for number, path in others:
        assert path.read_bytes() == b"somebody else's"
        assert os.path.samestat(os.fstat(number), path.stat())


@NEEDS_PROC
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@BOTH_WAYS
def test_a_forked_child_closes_no_file_that_took_the_number_of_ours(tmp_path, taken_over, mapped):
    writer = Writer(tmp_path, "r", mapped=mapped)
    ((number, path),) = taken_over(writer.path)
    pid = os.fork()
    if pid == 0:
        os._exit(not os.path.samestat(os.fstat(number), path.stat()))

    assert os.waitpid(pid, 0)[1] == 0
    writer.close()


@BOTH_WAYS
def test_a_journal_whose_folder_is_moved_is_whole_there(tmp_path, mapped):
    folder = tmp_path / "run"
    folder.mkdir()
    writer = Writer(folder, "r", mapped=mapped)
    writer.append(point(0))
    folder.rename(tmp_path / "moved")
    for value in range(1, 10_000):
        writer.append(point(value))
    end = writer.end()
    writer.close()

    moved = tmp_path / "moved" / writer.path.name
    assert values_of(moved) == list(range(10_000))
    assert moved.stat().st_size == end


@NEEDS_PROC
@BOTH_WAYS
def test_a_file_holds_one_descriptor_while_it_is_open_and_none_afterwards(tmp_path, mapped):
    writer = Writer(tmp_path, "r", mapped=mapped)
    assert len(descriptors_of(writer.path)) == 1
    for value in range(10_000):
        writer.append(point(value))
    assert len(descriptors_of(writer.path)) == 1
    writer.close()

    assert descriptors_of(writer.path) == []


@NEEDS_PROC
@BOTH_WAYS
def test_a_program_without_free_descriptors_closes_its_files(tmp_path, mapped):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    writer = Writer(tmp_path, "r", mapped=mapped)
    writer.append(point(0))
    end = writer.end()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            (tmp_path / "more").open("w")
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert writer.path.stat().st_size == end
    assert descriptors_of(writer.path) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@BOTH_WAYS
def test_a_forked_childs_payloads_are_its_own(tmp_path, mapped):
    writer = Writer(tmp_path, "r", mapped=mapped)
    pid = os.fork()
    if pid == 0:
        ordinal = writer.keep_bytes(b"the child's")
        writer.append(Artifact(1.0, "a", 11, blob=ordinal))
        os._exit(0)
    os.waitpid(pid, 0)
    assert writer.keep_bytes(b"the parent's") == 0

    (child,) = set(tmp_path.glob("*.journal")) - {writer.path}
    with Reader(child) as reader:
        ((_, _, event),) = reader.events()
    assert blob_path(tmp_path, child.stem, event.blob).read_bytes() == b"the child's"
    assert blob_path(tmp_path, writer.id, 0).read_bytes() == b"the parent's"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_threads_of_a_forked_child_share_its_file(tmp_path):
    writer = Writer(tmp_path, "r")
    together = threading.Barrier(4)

    def work():
        together.wait()
        writer.append(point(1))

    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            os._exit(0)
        os.waitpid(pid, 0)

    children = set(tmp_path.glob("*.journal")) - {writer.path}
    assert [values_of(child) for child in children] == [[1.0] * 4] * 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@BOTH_WAYS
def test_a_forked_child_writes_a_file_of_its_own(tmp_path, mapped):
    writer = Writer(tmp_path, "r", mapped=mapped, is_opener=True)
    writer.append(point(1))
    pid = os.fork()
    if pid == 0:
        writer.append(point(2))
        os._exit(0)
    os.waitpid(pid, 0)
    writer.append(point(3))

    assert values_of(writer.path) == [1.0, 3.0]
    (child,) = set(tmp_path.glob("*.journal")) - {writer.path}
    assert values_of(child) == [2.0]
    with Reader(writer.path) as parents, Reader(child) as childs:
        assert parents.header().is_opener
        assert not childs.header().is_opener


def test_a_reader_goes_on_where_it_ended(tmp_path):
    writer = Writer(tmp_path, "r")
    with Reader(writer.path) as reader:
        writer.append(point(1))
        ((_, end, _),) = reader.events()
        writer.append(point(2))
        ((_, _, event),) = reader.events(end)

    assert event == point(2)


def test_a_kind_of_a_newer_version_is_kept_and_shown(tmp_path):
    writer = Writer(tmp_path, "r", mapped=False)
    with writer.path.open("ab") as file:
        file.write(frame(encode(["hologram", 1.5, {"depth": 3}])))
    writer.append(point(1))

    with Reader(writer.path) as reader:
        events = [event for _, _, event in reader.events()]
    assert events == [Unknown("hologram", (1.5, {"depth": 3})), point(1)]


def test_a_torn_tail_is_no_damage_and_the_next_record_is_read(tmp_path):
    path = tmp_path / "w.journal"
    whole, next_one = frame(encode(point(1))), frame(encode(point(2)))
    path.write_bytes(whole + next_one[:-3])
    with Reader(path) as reader:
        ((_, end, event),) = reader.events()
        assert (event, reader.damage) == (point(1), [])
        assert 0 < reader.tail_bytes < len(next_one)
        path.write_bytes(whole + next_one)
        ((_, _, event),) = reader.events(end)

    assert event == point(2)


def test_an_end_recorded_with_a_nan_and_infinities_survives(tmp_path):
    writer = Writer(tmp_path, "r")
    writer.append(Metrics(1.0, -3, {"a": float("inf"), "b": float("-inf"), "c": float("nan")}))
    writer.append(RunFinished(2.0, "FAILED", "boom", "Traceback…", exit_code=3))

    with Reader(writer.path) as reader:
        metrics, end = (event for _, _, event in reader.events())
    assert metrics.values["a"] == float("inf")
    assert metrics.values["b"] == float("-inf")
    assert metrics.values["c"] != metrics.values["c"]
    assert end == RunFinished(2.0, "FAILED", "boom", "Traceback…", exit_code=3)
