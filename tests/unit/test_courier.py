"""A courier delivers every event once and in order, whatever the backend answers."""

import contextlib
import shutil
from dataclasses import replace

import pytest

from mlobs.backend import Capabilities
from mlobs.delivery.courier import PARENT_WAIT_S, Courier
from mlobs.delivery.lane import DOUBT_S, DOUBTS, LONG_DOUBT_S
from mlobs.delivery.report import report
from mlobs.delivery.state import States
from mlobs.errors import Unavailable
from mlobs.events import Artifact, BackendSpec, Metrics, Process, RunFinished, RunStarted, Tags
from mlobs.journal.store import Store
from mlobs.journal.writer import Writer
from mlobs.testing import FlakyBackend, MemoryBackend


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    store.create()
    return store


def open_run(store, run_id="r1", parent=None):
    folder = store.new_run(run_id)
    writer = Writer(folder.path, run_id, is_opener=True)
    specs = (BackendSpec("memory", "mlobs.testing.backends:MemoryBackend"),)
    writer.append(RunStarted(1.0, run_id, "e", "n", Process("h", 1), parent_run_id=parent, backends=specs))
    return folder, writer


def drain(courier, clock, steps=500):
    for _ in range(steps):
        step = courier.step(is_final=True)
        if step == "idle":
            return
        clock.now += courier.wait_s()
    raise AssertionError("the courier does not come to rest")


def points(backend, run_id="r1"):
    return [event.step for event in backend.held[run_id].values() if isinstance(event, Metrics)]


def test_every_event_arrives_in_order_and_once(store):
    folder, writer = open_run(store)
    backend, clock = MemoryBackend(capabilities=Capabilities(max_events=7)), Clock()
    courier = Courier(backend, "s1", clock=clock, jitter=lambda: 0.5)
    courier.add(folder)
    for step in range(50):
        writer.append(Metrics(1.0, step, {"a": 1.0}))
        courier.step()
    writer.append(RunFinished(2.0, "FINISHED"))
    drain(courier, clock)

    assert points(backend) == list(range(50))
    assert sum(len(batch.entries) for batch in backend.batches) == 52
    assert isinstance(list(backend.held["r1"].values())[-1], RunFinished)
    assert report(folder)["memory"].delivered == 52
    assert report(folder)["memory"].pending == 0


def test_an_outage_only_delays(store):
    folder, writer = open_run(store)
    for step in range(20):
        writer.append(Metrics(1.0, step, {"a": 1.0}))
    inner, clock = MemoryBackend(capabilities=Capabilities(max_events=5)), Clock()
    backend = FlakyBackend(inner, [None, *[Unavailable("down")] * 8, "lost answer", None])
    courier = Courier(backend, "s1", clock=clock, jitter=lambda: 0.5)
    courier.add(folder)
    drain(courier, clock)

    assert points(inner) == list(range(20))
    assert report(folder)["memory"].state == "delivering"


def test_while_it_waits_the_state_says_why_and_until_when(store):
    folder, _ = open_run(store)
    clock = Clock()
    courier = Courier(
        FlakyBackend(MemoryBackend(), [Unavailable("down")]), "s1", clock=clock, jitter=lambda: 1.0
    )
    courier.add(folder)

    assert courier.step() == "waiting"
    assert (report(folder)["memory"].state, report(folder)["memory"].trouble) == ("backing off", "down")
    assert report(folder)["memory"].pending == 1


def test_each_back_off_says_until_when(store):
    folder, _ = open_run(store)
    clock = Clock()
    backend = FlakyBackend(MemoryBackend(), [Unavailable("down")] * 3)
    courier = Courier(backend, "s1", clock=clock, jitter=lambda: 1.0)
    courier.add(folder)
    untils = []
    for _ in range(3):
        courier.step()
        untils.append(States(folder.delivery).refresh().of("memory").lane.until)
        clock.now = untils[-1]

    assert untils == [1000.5, 1001.5, 1003.5]


def test_the_event_that_is_refused_is_parked_alone_with_its_reason(store):
    class Picky(MemoryBackend):
        def deliver(self, batch):
            if any(getattr(entry.event, "step", None) == 13 for entry in batch.entries):
                raise ValueError("thirteen is unlucky")
            return super().deliver(batch)

    folder, writer = open_run(store)
    for step in range(40):
        writer.append(Metrics(1.0, step, {"a": 1.0}))
    backend, clock = Picky(), Clock()
    courier = Courier(backend, "s1", clock=clock, jitter=lambda: 0.5)
    courier.add(folder)
    drain(courier, clock)

    assert points(backend) == [step for step in range(40) if step != 13]
    summary = report(folder)["memory"]
    assert (summary.rejected, summary.delivered, summary.pending) == (1, 40, 0)
    assert summary.reasons == ("rejected: thirteen is unlucky",)


def test_a_backend_that_answers_nothing_for_a_while_loses_nothing(store):
    folder, writer = open_run(store)
    for step in range(20):
        writer.append(Metrics(1.0, step, {"a": 1.0}))
    inner, clock = MemoryBackend(capabilities=Capabilities(max_events=5)), Clock()
    script = [*[ConnectionError("reset")] * 12, *[RuntimeError("who knows")] * 3]
    courier = Courier(FlakyBackend(inner, script), "s1", clock=clock, jitter=lambda: 0.5)
    courier.add(folder)
    drain(courier, clock)

    assert points(inner) == list(range(20))
    assert (report(folder)["memory"].delivered, report(folder)["memory"].rejected) == (21, 0)


def test_events_that_are_all_refused_hold_up_nothing_for_ever(store):
    class Picky(MemoryBackend):
        def deliver(self, batch):
            if any(getattr(entry.event, "step", 99) < 12 for entry in batch.entries):
                raise ValueError("too early")
            return super().deliver(batch)

    folder, writer = open_run(store)
    for step in range(20):
        writer.append(Metrics(1.0, step, {"a": 1.0}))
    backend, clock = Picky(), Clock()
    courier = Courier(backend, "s1", clock=clock, jitter=lambda: 0.5)
    courier.add(folder)
    drain(courier, clock)

    assert points(backend) == list(range(12, 20))
    assert report(folder)["memory"].rejected == 12


def test_the_first_answered_batch_has_no_reference_though_the_start_was_refused(store):
    class Picky(MemoryBackend):
        def deliver(self, batch):
            if any(isinstance(entry.event, RunStarted) for entry in batch.entries):
                raise ValueError("no starts here")
            return super().deliver(batch)

    folder, writer = open_run(store)
    writer.append(Metrics(1.0, 0, {"a": 1.0}))
    backend, clock = Picky(), Clock()
    courier = Courier(backend, "s1", clock=clock)
    courier.add(folder)
    drain(courier, clock)

    assert [batch.ref for batch in backend.batches] == [None]
    assert points(backend) == [0]


def test_what_a_backend_lowers_stands_beside_what_was_lowered_for_it(store):
    class Rounding(MemoryBackend):
        def deliver(self, batch):
            receipt = super().deliver(batch)
            of_points = [entry.key for entry in batch.entries if isinstance(entry.event, Metrics)]
            return replace(receipt, lowered=dict.fromkeys(of_points, "rounded"))

    folder, writer = open_run(store)
    writer.append(Metrics(1.0, 0, {"a": float("nan"), "b": 1.0}))
    backend, clock = Rounding(capabilities=Capabilities(nan=False)), Clock()
    courier = Courier(backend, "s1", clock=clock)
    courier.add(folder)
    drain(courier, clock)

    (reason,) = report(folder)["memory"].reasons
    assert reason == "lowered: 'a' was nan, which the backend cannot store; rounded"


def test_an_event_whose_derived_part_is_refused_still_arrived(store):
    class NoTags(MemoryBackend):
        def deliver(self, batch):
            receipt = super().deliver(batch)
            tags = [entry.key for entry in batch.entries if isinstance(entry.event, Tags)]
            return replace(receipt, rejected=dict.fromkeys(tags, "no tags today"))

    folder, writer = open_run(store)
    writer.append(Metrics(1.0, 0, {"a": float("nan"), "b": 1.0}))
    backend, clock = NoTags(capabilities=Capabilities(nan=False)), Clock()
    courier = Courier(backend, "s1", clock=clock)
    courier.add(folder)
    drain(courier, clock)

    summary = report(folder)["memory"]
    assert (summary.delivered, summary.lowered, summary.rejected) == (1, 1, 0)
    assert summary.reasons[0].endswith("; no tags today")


def test_an_event_that_a_backend_leaves_out_is_skipped_and_its_derived_part_is_lowered(store):
    class NoPlace(MemoryBackend):
        def deliver(self, batch):
            receipt = super().deliver(batch)
            left_out = [one.key for one in batch.entries if isinstance(one.event, Tags | RunFinished)]
            return replace(receipt, skipped=dict.fromkeys(left_out, "there is no place for it"))

    folder, writer = open_run(store)
    writer.append(Metrics(1.0, 0, {"a": float("nan"), "b": 1.0}))
    writer.append(RunFinished(2.0, "FINISHED"))
    backend, clock = NoPlace(capabilities=Capabilities(nan=False)), Clock()
    courier = Courier(backend, "s1", clock=clock)
    courier.add(folder)
    drain(courier, clock)

    summary = report(folder)["memory"]
    assert (summary.delivered, summary.lowered, summary.skipped, summary.rejected) == (1, 1, 1, 0)
    assert summary.is_settled
    assert summary.reasons[0].endswith("; there is no place for it")
    assert summary.reasons[1] == "skipped: there is no place for it"


def test_the_next_sender_goes_on_where_the_last_one_was(store):
    folder, writer = open_run(store)
    for step in range(30):
        writer.append(Metrics(1.0, step, {"a": 1.0}))
    first, clock = MemoryBackend(capabilities=Capabilities(max_events=10)), Clock()
    courier = Courier(first, "s1", clock=clock)
    courier.add(folder)
    courier.step()
    second = MemoryBackend(capabilities=Capabilities(max_events=10))
    heir = Courier(second, "s2", clock=clock)
    heir.add(folder)
    drain(heir, clock)

    assert points(first) == list(range(9))
    assert points(second) == list(range(9, 30))
    assert second.batches[0].ref == "memory-r1"


def test_a_runs_end_comes_after_all_its_writers(store):
    folder, writer = open_run(store)
    other = Writer(folder.path, "r1")
    writer.append(RunFinished(2.0, "FINISHED"))
    for step in range(25):
        other.append(Metrics(1.0, step, {"a": 1.0}))
    backend, clock = MemoryBackend(capabilities=Capabilities(max_events=10)), Clock()
    courier = Courier(backend, "s1", clock=clock)
    courier.add(folder)
    drain(courier, clock)

    kinds = [type(event).__name__ for event in backend.held["r1"].values()]
    assert kinds == ["RunStarted", *["Metrics"] * 25, "RunFinished"]


def test_a_busy_run_does_not_starve_the_others(store):
    busy_folder, busy = open_run(store, "r1")
    quiet_folder, _ = open_run(store, "r2")
    backend, clock = MemoryBackend(capabilities=Capabilities(max_events=3)), Clock()
    courier = Courier(backend, "s1", clock=clock)
    courier.add(busy_folder)
    courier.add(quiet_folder)
    for step in range(10):
        busy.append(Metrics(1.0, step, {"a": 1.0}))
        busy.append(Metrics(1.0, step, {"a": 1.0}))
        busy.append(Metrics(1.0, step, {"a": 1.0}))
        courier.step()

    assert "r2" in backend.held


def test_a_child_is_given_its_parents_reference(store):
    parent, _ = open_run(store, "r1")
    child, _ = open_run(store, "r2", parent="r1")
    backend, clock = MemoryBackend(), Clock()
    courier = Courier(backend, "s1", clock=clock)
    courier.add(child)
    courier.add(parent)
    drain(courier, clock)

    assert [(batch.run.run_id, batch.parent_ref) for batch in backend.batches] == [
        ("r1", None),
        ("r2", "memory-r1"),
    ]


def test_a_child_waits_for_its_parents_reference_but_not_for_ever(store):
    parent, _ = open_run(store, "r1")
    child, _ = open_run(store, "r2", parent="r1")
    backend, clock = MemoryBackend(), Clock()
    courier = Courier(backend, "s1", clock=clock)
    courier.add(child)

    assert courier.step() == "waiting"
    assert 0 < courier.wait_s() < 1
    clock.now += PARENT_WAIT_S
    assert courier.step() == "sent"
    assert [(batch.run.run_id, batch.parent_ref) for batch in backend.batches] == [("r2", None)]
    assert parent.path.exists()


def test_at_the_end_a_child_waits_only_for_a_parent_that_is_delivered_with_it(store):
    open_run(store, "r1")
    child, _ = open_run(store, "r2", parent="r1")
    backend = MemoryBackend()
    courier = Courier(backend, "s1", clock=Clock())
    courier.add(child)

    assert courier.step(is_final=True) == "sent"
    assert "r2" in backend.held


def test_a_run_that_an_earlier_sender_finished_is_complete(store):
    folder, writer = open_run(store)
    writer.append(RunFinished(2.0, "FINISHED"))
    for sender in ("s1", "s2"):
        courier = Courier(MemoryBackend(), sender, clock=Clock())
        courier.add(folder)
        assert [courier.step() for _ in range(3)][-1] == "idle"
        assert courier.is_complete("r1")


def test_a_batch_holds_no_more_values_than_the_backend_takes(store):
    folder, writer = open_run(store)
    for step in range(30):
        writer.append(Metrics(1.0, step, {str(name): 1.0 for name in range(10)}))
    backend, clock = MemoryBackend(capabilities=Capabilities(max_values=100)), Clock()
    courier = Courier(backend, "s1", clock=clock)
    courier.add(folder)
    drain(courier, clock)

    sizes = [
        sum(len(getattr(entry.event, "values", ())) for entry in batch.entries) for batch in backend.batches
    ]
    assert max(sizes) == 100
    assert sum(sizes) == 300


def test_what_a_backend_cannot_take_is_counted_with_a_reason(store):
    folder, writer = open_run(store)
    writer.append(Tags(1.0, {"a": "b"}))
    writer.append(Artifact(1.0, "x.txt", 1, data=b"x"))
    capabilities = Capabilities(kinds=frozenset({"run_started", "metrics", "tags"}))
    backend, clock = MemoryBackend(capabilities=capabilities), Clock()
    courier = Courier(backend, "s1", clock=clock)
    courier.add(folder)
    drain(courier, clock)

    summary = report(folder)["memory"]
    assert (summary.delivered, summary.skipped) == (2, 1)
    assert summary.reasons[0].startswith("skipped: ")


def test_blobs_open_whether_inline_or_beside(store):
    folder, writer = open_run(store)
    ordinal = writer.keep_bytes(b"large")
    writer.append(Artifact(1.0, "large.bin", 5, blob=ordinal))
    writer.append(Artifact(1.0, "small.bin", 5, data=b"small"))
    backend, clock = MemoryBackend(), Clock()
    courier = Courier(backend, "s1", clock=clock)
    courier.add(folder)
    drain(courier, clock)

    assert list(backend.content.values()) == [b"large", b"small"]


def is_step(step):
    return lambda event: isinstance(event, Metrics) and event.step == step


def test_an_event_that_breaks_the_server_is_parked_at_last_and_nothing_else_is(store):
    folder, writer = open_run(store)
    for step in range(40):
        writer.append(Metrics(1.0, step, {"a": 1.0}))
    writer.append(RunFinished(2.0, "FINISHED"))
    inner, clock = MemoryBackend(), Clock()
    courier = Courier(FlakyBackend(inner, poison=is_step(13)), "s1", clock=clock, jitter=lambda: 0.5)
    courier.add(folder)
    drain(courier, clock)

    assert points(inner) == [step for step in range(40) if step != 13]
    summary = report(folder)["memory"]
    assert (summary.rejected, summary.delivered, summary.pending) == (1, 41, 0)
    assert summary.reasons == ("rejected: the batch breaks the backend",)
    assert summary.state == "delivering"
    assert DOUBT_S <= clock.now - 1000.0 < 2 * DOUBT_S


def test_a_server_that_answers_500_to_everything_for_a_week_loses_nothing(store):
    folder, writer = open_run(store)
    inner, clock = MemoryBackend(), Clock()
    backend = FlakyBackend(inner)
    courier = Courier(backend, "s1", clock=clock, jitter=lambda: 0.5)
    courier.add(folder)
    drain(courier, clock)
    for step in range(40):
        writer.append(Metrics(1.0, step, {"a": 1.0}))
    backend.poison = lambda _event: True
    while clock.now < 1000.0 + 7 * 86400:
        assert courier.step() == "waiting"
        clock.now += courier.wait_s()
    backend.poison = lambda _event: False
    drain(courier, clock)

    assert points(inner) == list(range(40))
    assert (report(folder)["memory"].delivered, report(folder)["memory"].rejected) == (41, 0)


def test_without_an_event_that_the_backend_has_a_server_error_parks_nothing(store):
    folder, writer = open_run(store)
    writer.append(Metrics(1.0, 0, {"a": 1.0}))
    inner, clock = MemoryBackend(), Clock()
    courier = Courier(FlakyBackend(inner, poison=is_step(0)), "s1", clock=clock, jitter=lambda: 0.5)
    courier.add(folder)
    while clock.now < 1000.0 + 10 * DOUBT_S:
        courier.step()
        clock.now += max(courier.wait_s(), 0.1)

    assert (report(folder)["memory"].rejected, report(folder)["memory"].pending) == (0, 1)


def test_a_backend_that_cannot_store_an_event_again_is_not_asked_to(store):
    folder, writer = open_run(store)
    for step in range(5):
        writer.append(Metrics(1.0, step, {"a": 1.0}))
    inner, clock = MemoryBackend(capabilities=Capabilities()), Clock()
    courier = Courier(FlakyBackend(inner, poison=is_step(3)), "s1", clock=clock, jitter=lambda: 0.5)
    courier.add(folder)
    while clock.now < 1000.0 + 7 * 86400:
        courier.step()
        clock.now += max(courier.wait_s(), 0.1)

    delivered = [entry.key for batch in inner.batches for entry in batch.entries]
    assert len(delivered) == len(set(delivered)) == 4
    assert (report(folder)["memory"].rejected, report(folder)["memory"].pending) == (0, 2)


def test_files_that_fail_while_values_are_taken_wait_a_day(store):
    folder, writer = open_run(store)
    writer.append(Metrics(1.0, 0, {"a": 1.0}))
    writer.append(Artifact(1.0, "x.txt", 1, data=b"x"))
    writer.append(Metrics(1.0, 1, {"a": 1.0}))
    inner, clock = MemoryBackend(), Clock()
    backend = FlakyBackend(inner, poison=lambda event: isinstance(event, Artifact))
    courier = Courier(backend, "s1", clock=clock, jitter=lambda: 0.5)
    courier.add(folder)
    while clock.now < 1000.0 + LONG_DOUBT_S - 100:
        assert courier.step() != "idle"
        clock.now += max(courier.wait_s(), 0.1)
    assert report(folder)["memory"].rejected == 0
    drain(courier, clock)

    assert points(inner) == [0, 1]
    assert report(folder)["memory"].rejected == 1


def test_the_end_of_a_run_is_never_parked_by_a_server_error(store):
    folder, writer = open_run(store)
    writer.append(Metrics(1.0, 0, {"a": 1.0}))
    writer.append(RunFinished(2.0, "FINISHED"))
    inner, clock = MemoryBackend(), Clock()
    backend = FlakyBackend(inner, poison=lambda event: isinstance(event, RunFinished))
    courier = Courier(backend, "s1", clock=clock, jitter=lambda: 0.5)
    courier.add(folder)
    while clock.now < 1000.0 + 10 * DOUBT_S:
        courier.step()
        clock.now += max(courier.wait_s(), 0.1)
    assert (report(folder)["memory"].rejected, report(folder)["memory"].pending) == (0, 1)
    backend.poison = lambda _event: False
    drain(courier, clock)

    assert report(folder)["memory"].pending == 0


def test_doubts_about_an_event_outlive_the_sender(store):
    folder, writer = open_run(store)
    for step in range(3):
        writer.append(Metrics(1.0, step, {"a": 1.0}))
    inner, clock = MemoryBackend(), Clock()
    for sender in range(DOUBTS + 3):
        backend = FlakyBackend(inner, poison=is_step(1))
        courier = Courier(backend, f"s{sender}", clock=clock, jitter=lambda: 0.5)
        courier.add(folder)
        for _ in range(8):
            courier.step()
            clock.now += courier.wait_s()
        clock.now += 60.0

    assert points(inner) == [0, 2]
    assert report(folder)["memory"].rejected == 1


def test_the_event_at_fault_is_found_though_other_runs_are_answered_all_the_while(store):
    class Picky(MemoryBackend):
        def deliver(self, batch):
            if any(getattr(entry.event, "step", None) == 13 for entry in batch.entries):
                raise ValueError("thirteen is unlucky")
            return super().deliver(batch)

    folder, writer = open_run(store)
    for step in range(100):
        writer.append(Metrics(1.0, step, {"a": 1.0}))
    backend, clock = Picky(), Clock()
    courier = Courier(backend, "s1", clock=clock, jitter=lambda: 0.5)
    courier.add(folder)
    busy = [open_run(store, f"busy-{n}") for n in range(3)]
    for other, _ in busy:
        courier.add(other)
    for step in range(200):
        for _, one in busy:
            one.append(Metrics(1.0, 100 + step, {"a": 1.0}))
        courier.step()
        clock.now += courier.wait_s()

    assert report(folder)["memory"].pending == 0
    assert report(folder)["memory"].rejected == 1


def test_while_one_runs_event_is_in_doubt_the_other_runs_go_on(store):
    doubtful, writer = open_run(store, "r1")
    for step in range(3):
        writer.append(Metrics(1.0, step, {"a": 1.0}))
    folder, other = open_run(store, "r2")
    inner, clock = MemoryBackend(), Clock()
    backend = FlakyBackend(inner, poison=is_step(1))
    courier = Courier(backend, "s1", clock=clock, jitter=lambda: 0.5)
    courier.add(doubtful)
    courier.add(folder)
    while not States(doubtful.delivery).refresh().of("memory").doubt:
        courier.step()
        clock.now += courier.wait_s()
    now = clock.now
    for step in range(200, 220):
        other.append(Metrics(1.0, step, {"a": 1.0}))
        courier.step()

    assert points(inner, "r2") == list(range(200, 220))
    assert clock.now == now
    assert report(doubtful)["memory"].state == "backing off"
    assert "takes other events" in report(doubtful)["memory"].trouble
    assert report(folder)["memory"].state == "delivering"


def test_a_run_that_is_deleted_meanwhile_stops_no_other(store):
    gone, _ = open_run(store, "r1")
    folder, writer = open_run(store, "r2")
    backend, clock = MemoryBackend(), Clock()
    courier = Courier(backend, "s1", clock=clock)
    courier.add(gone)
    courier.add(folder)
    shutil.rmtree(gone.path)
    writer.append(Metrics(1.0, 7, {"a": 1.0}))
    for _ in range(20):
        with contextlib.suppress(OSError):
            courier.step()

    assert points(backend, "r2") == [7]
