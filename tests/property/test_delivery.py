"""Whatever happens on the way, every recorded event has one outcome for its backend, in order.

A machine records with several writers, and drives the real feed, courier and delivery state on a
real disk against a backend in trouble: down, failing, refusing, losing answers, breaking at some
events. Its sender dies between any two steps, within a batch and while a record is being written;
another one goes on from what is on the disk. At last the trouble ends, and everything must be told
and stored as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mlobs.backend import ALL_KINDS, Capabilities
from mlobs.delivery.claim import Claim
from mlobs.delivery.courier import Courier
from mlobs.delivery.keys import root_key
from mlobs.delivery.report import report
from mlobs.delivery.state import States
from mlobs.errors import ServerError
from mlobs.events import (
    Artifact,
    BackendSpec,
    Histogram,
    Log,
    Metrics,
    Params,
    Process,
    RunFinished,
    RunStarted,
    Tags,
)
from mlobs.journal.store import Store
from mlobs.journal.writer import Writer
from mlobs.testing import FlakyBackend, MemoryBackend
from mlobs.text import log_line

RUNS = 2
WORDS = ["unavailable", "server error", "unauthorized", "lost answer", "reject", None]
KINDS = ["metrics", "params", "tags", "artifact", "log", "histogram"]
STUCK = 60  # so many waits without progress are more than any doubt lasts


class SenderDied(BaseException):
    """The process is gone at this very place: nothing of ours may catch it."""


class Vendor:
    """The backend as the courier sees it; it notes what was answered, and lets the sender die behind it."""

    def __init__(self, inner: FlakyBackend, settled) -> None:
        self.inner, self.settled = inner, settled
        self.name, self.capabilities = inner.name, inner.capabilities
        self.rejected: set[tuple[str, str]] = set()
        self.dies = False

    def deliver(self, batch):
        if not self.capabilities.stores_once:
            again = [entry.key for entry in batch.entries if self.settled(batch.run.run_id, entry.key)]
            assert not again, f"{again} were answered for, and are delivered again"
        assert batch.ref in (None, f"memory-{batch.run.run_id}")
        receipt = self.inner.deliver(batch)
        if self.dies:
            self.dies = False
            raise SenderDied
        self.rejected |= {(batch.run.run_id, key) for key in receipt.rejected}
        return receipt

    def close(self):
        self.inner.close()


class Recorded:
    """A run as it was recorded: its writers, and its events by key."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.folder = store.new_run(run_id)
        self.run_id = run_id
        self.opener = Writer(self.folder.path, run_id, is_opener=True, mapped=False)
        self.writers = [self.opener]
        self.events: dict[str, object] = {}
        self.has_end = False

    def append(self, writer: Writer, event) -> str:
        offset = max(writer.path.stat().st_size, 0)
        writer.append(event)
        key = f"{writer.id}:{offset}"
        self.events[key] = event
        return key


class Delivery(RuleBasedStateMachine):
    """See the module; `stores_once` tells which promise the backend makes."""

    stores_once = True

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="mlobs-property-"))
        self.store = Store(self.root / "store")
        self.store.create()
        self.now = 1_000_000.0
        self.numbers = itertools.count()
        self.senders = itertools.count()
        self.poisoned: dict[int, Exception] = {}  # by number, what breaks the backend now
        self.ever_poisoned: set[int] = set()
        kinds = frozenset(ALL_KINDS - {"log", "histogram"})
        self.memory = MemoryBackend(
            capabilities=Capabilities(kinds=kinds, max_events=4, stores_once=self.stores_once)
        )
        self.flaky = FlakyBackend(self.memory, poison=self.breaks)
        self.vendor = Vendor(self.flaky, self.is_settled)
        self.runs: dict[str, Recorded] = {}

    @initialize()
    def begin(self):
        for n in range(RUNS):
            run = Recorded(self.store, f"run-{n}")
            specs = (BackendSpec("memory", "mlobs.testing.backends:MemoryBackend"),)
            start = RunStarted(self.now, run.run_id, "e", "n", Process("h", 1), backends=specs)
            run.append(run.opener, start)
            self.runs[run.run_id] = run
        self.restart()

    def teardown(self):
        if self.runs:
            self.recover()
            self.check_everything_arrived()
            self.claims_are_released()
        for run in self.runs.values():
            for writer in run.writers:
                writer.close()
        shutil.rmtree(self.root)

    # What a program does

    @rule(run=st.integers(0, RUNS - 1), writer=st.integers(0, 2), kind=st.sampled_from(KINDS))
    def record(self, run, writer, kind):
        one = self.runs[f"run-{run}"]
        by = one.writers[writer % len(one.writers)]
        if by is one.opener and one.has_end:
            return  # its writer is closed
        self.now += 0.001
        one.append(by, _event(kind, next(self.numbers), self.now))

    @rule(run=st.integers(0, RUNS - 1))
    def join(self, run):
        one = self.runs[f"run-{run}"]
        if len(one.writers) < 3:
            one.writers.append(Writer(one.folder.path, one.run_id, mapped=False))

    @rule(run=st.integers(0, RUNS - 1))
    def finish(self, run):
        one = self.runs[f"run-{run}"]
        if not one.has_end:
            one.has_end = True
            one.append(one.opener, RunFinished(self.now, "FINISHED"))

    # What becomes of the backend

    @rule(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=6))
    def trouble(self, words):
        self.flaky.script += words

    @rule(word=st.sampled_from(["unavailable", "server error"]), times=st.integers(1, 60))
    def outage(self, word, times):
        """Whoever gives up an event in it gives up what is well."""
        self.flaky.script += [word] * times
        self.work(times)

    @rule(
        run=st.integers(0, RUNS - 1),
        kind=st.sampled_from(["metrics", "params", "tags"]),
        error=st.sampled_from([ServerError("it breaks the server"), ValueError("it is refused")]),
    )
    def record_poison(self, run, kind, error):
        one = self.runs[f"run-{run}"]
        if one.has_end and one.writers[-1] is one.opener:
            return
        number = next(self.numbers)
        self.poisoned[number] = error
        self.ever_poisoned.add(number)
        one.append(one.writers[-1], _event(kind, number, self.now))

    # What the sender does, and what is done to it

    @rule(is_final=st.booleans())
    def step(self, is_final):
        self.take_step(is_final=is_final)

    @rule(times=st.integers(2, 25))
    def work(self, times):
        for _ in range(times):
            self.now += max(self.courier.wait_s(), 0.01)
            self.take_step(is_final=False)

    @rule()
    def die_within_a_batch(self):
        self.vendor.dies = True
        try:
            self.courier.step()
        except SenderDied:
            self.restart()
        self.vendor.dies = False

    @rule(cut=st.integers(1, 10_000))
    def die_while_a_record_is_written(self, cut):
        before = self.sizes()
        self.courier.step()
        for path, size in self.sizes().items():
            grown = size - before.get(path, 0)
            if grown:
                os.truncate(path, size - 1 - cut % grown)
        self.restart()

    @rule(room=st.integers(0, 300))
    def the_disk_is_full_for_a_step(self, room):
        """A record of the delivery state is torn or missing, and the same sender goes on."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        largest = max(self.sizes().values(), default=0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + room, limits[1]))
        try:
            with contextlib.suppress(OSError):
                self.courier.step()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    @rule()
    def die_between_two_steps(self):
        self.restart()

    @rule(run=st.integers(0, RUNS - 1))
    def let_go_of_a_run_and_take_it_again(self, run):
        self.courier.drop(f"run-{run}")
        self.courier.add(self.runs[f"run-{run}"].folder)

    @rule(hours=st.floats(-48, 48))
    def set_the_clock(self, hours):
        self.now += hours * 3600

    @precondition(lambda self: self.runs)
    @invariant()
    def nobody_else_delivers(self):
        for run in self.runs.values():
            assert not Claim(run.folder.delivery).acquire()

    @precondition(lambda self: self.runs)
    @invariant()
    def every_event_is_counted_once(self):
        for run in self.runs.values():
            one = report(run.folder)["memory"]
            counted = one.delivered + one.lowered + one.skipped + one.rejected + one.pending
            assert counted == len(run.events)

    @precondition(lambda self: self.runs)
    @invariant()
    def only_what_the_script_refuses_is_rejected(self):
        for run in self.runs.values():
            self.check_rejected(run)

    @precondition(lambda self: self.runs)
    @invariant()
    def the_order_is_kept(self):
        for run in self.runs.values():
            arrived = list(self.memory.held.get(run.run_id, {}))
            roots = [root_key(key) for key in arrived]
            logs = {key for key in roots if isinstance(run.events[key], Log)}  # see check_lines
            # refused by an answer that a crash has swallowed, and taken when it came again: that is late
            refused = {key for run_id, key in self.vendor.rejected if run_id == run.run_id}
            assert set(roots) <= set(run.events)
            for writer in run.writers:
                mine = [key for key in roots if key.startswith(f"{writer.id}:")]
                offsets = [int(key.rpartition(":")[2]) for key in mine if key not in refused | logs]
                assert offsets == sorted(offsets)
            states = [type(run.events[key]).__name__ for key in roots]
            if "RunStarted" in states:
                assert states[0] == "RunStarted"

    # How

    def breaks(self, event) -> bool:
        error = self.poisoned.get(_number(event))
        if error is not None:
            self.flaky.poisoned = error
        return error is not None

    def restart(self):
        """Another sender goes on from what is on the disk; the one before is gone with its claims."""
        self.claims_are_released()
        self.claims = [Claim(run.folder.delivery) for run in self.runs.values()]
        assert all(claim.acquire() for claim in self.claims)
        self.courier = Courier(
            self.vendor, f"s{next(self.senders)}", clock=lambda: self.now, jitter=lambda: 0.5
        )
        for run in self.runs.values():
            self.courier.add(run.folder)

    def claims_are_released(self):
        for claim in getattr(self, "claims", ()):
            claim.release()

    def take_step(self, *, is_final):
        before = {run.run_id: list(self.memory.held.get(run.run_id, {})) for run in self.runs.values()}
        answer = self.courier.step(is_final=is_final)
        for run in self.runs.values():
            self.check_end(run, before[run.run_id])
        return answer

    def check_end(self, run, before):
        """A run's end arrives when everything that was recorded by then has been answered for."""
        new = [key for key in self.memory.held.get(run.run_id, {}) if key not in before]
        if any(isinstance(run.events[key.partition("/")[0]], RunFinished) for key in new):
            assert isinstance(self.memory.held[run.run_id][new[-1]], RunFinished)
            held = self.memory.held[run.run_id]
            open_ = [key for key in run.events if key not in held and not self.is_settled(run.run_id, key)]
            kinds = {type(run.events[key]).__name__ for key in open_}
            assert kinds <= {"RunFinished"}, f"the end came before {open_}"

    def check_rejected(self, run):
        rejected = States(run.folder.delivery).refresh().of("memory").rejected
        for key in rejected:
            is_scripted = (run.run_id, key) in self.vendor.rejected or self.is_refused_line(run, key)
            assert is_scripted or _number(run.events[key]) in self.ever_poisoned, f"{key} was given up"

    def is_refused_line(self, run, key) -> bool:
        """The file that the line stood in was refused: its key is that of a later line."""
        later = list(run.events)[list(run.events).index(key) :]
        return isinstance(run.events[key], Log) and any(
            run_id == run.run_id
            and root_key(refused) in later
            and isinstance(run.events[root_key(refused)], Log)
            for run_id, refused in self.vendor.rejected
        )

    def is_settled(self, run_id, key) -> bool:
        writer, _, offset = key.partition("/")[0].rpartition(":")
        cursors = States(self.runs[run_id].folder.delivery).refresh().of("memory").cursors
        return int(offset) < cursors.get(writer, 0)

    def sizes(self):
        return {
            path: path.stat().st_size
            for run in self.runs.values()
            for path in run.folder.delivery.glob("*.state")
        }

    def recover(self):
        """The trouble ends, and the sender works until nothing is left; what breaks it still does."""
        self.flaky.script.clear()
        stuck = 0
        for _ in range(2000):
            settled = sum(report(run.folder)["memory"].pending for run in self.runs.values())
            answer = self.take_step(is_final=True)
            if answer == "idle":
                return
            self.now += max(self.courier.wait_s(), 0.01)
            left = sum(report(run.folder)["memory"].pending for run in self.runs.values())
            stuck = stuck + 1 if left == settled else 0
            if stuck > STUCK and any(self.is_unproven(run) for run in self.runs.values()):
                self.poisoned.clear()
        raise AssertionError("the courier does not come to rest")

    def is_unproven(self, run) -> bool:
        """An event breaks the server, and nothing that is like it could be delivered again.

        What is held although it counts as rejected - its first answer was lost, the second refused it -
        is never sent again.
        """
        rejected = States(run.folder.delivery).refresh().of("memory").rejected
        held = self.memory.held.get(run.run_id, {}).items()
        return not self.stores_once or not any(
            isinstance(event, (Metrics, Params)) and key not in rejected for key, event in held
        )

    def check_everything_arrived(self):
        for run in self.runs.values():
            one = report(run.folder)["memory"]
            kinds = {key: type(event) for key, event in run.events.items()}
            rejected = States(run.folder.delivery).refresh().of("memory").rejected
            logs = {key for key, kind in kinds.items() if kind is Log}
            lowered = {key for key, kind in kinds.items() if kind in (Histogram, Log)} - rejected
            assert (one.pending, one.skipped) == (0, 0)
            assert (one.rejected, one.lowered) == (len(rejected), len(lowered))
            assert one.delivered == len(run.events) - len(lowered) - len(rejected)
            held = {key: event for key, event in self.memory.held[run.run_id].items() if "/" not in key}
            assert set(run.events) - logs - rejected <= set(held)
            for key, event in held.items():
                assert kinds[key] in (Histogram, Log) or event == run.events[key]
            self.check_lines(run, logs, rejected)
            self.check_rejected(run)

    def check_lines(self, run, logs, rejected):
        """The files of log lines hold each line that was not refused, once and in order."""
        held = self.memory.held[run.run_id].items()
        files = {event.path: event.data.decode().splitlines() for key, event in held if root_key(key) in logs}
        for writer in run.writers:
            mine = [key for key in run.events if key in logs and key.startswith(f"{writer.id}:")]
            lines = [line for path in sorted(files) if writer.id in path for line in files[path]]
            wanted = {log_line(run.events[key]): key for key in mine}
            assert lines == [line for line in wanted if line in lines]
            assert {key for line, key in wanted.items() if line not in lines} <= rejected


class DeliveryThatMayNotRepeat(Delivery):
    """The same for a backend that stores an event twice if it is delivered again after its answer."""

    stores_once = False


def _event(kind, number, at):
    match kind:
        case "metrics":
            return Metrics(at, number, {"a": float(number)})
        case "params":
            return Params(at, {"number": number})
        case "tags":
            return Tags(at, {"number": str(number)})
        case "artifact":
            return Artifact(at, f"{number}.bin", 1, data=b"x")
        case "log":
            return Log(at, f"said {number}")
        case _:
            return Histogram(at, number, "h", [1.0], [0.0, 1.0])


def _number(event) -> int | None:
    match event:
        case Metrics():
            return event.step
        case Params() | Tags():
            return int(event.values["number"])
    return None


SETTINGS = settings(
    max_examples=int(os.environ.get("MLOBS_TEST_EXAMPLES", "40")),
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_every_event_has_one_outcome_in_order():
    run_state_machine_as_test(Delivery, settings=SETTINGS)


def test_a_backend_that_stores_twice_what_comes_twice_is_sent_nothing_twice():
    run_state_machine_as_test(DeliveryThatMayNotRepeat, settings=SETTINGS)
