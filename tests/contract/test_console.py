"""The console: what people read at their terminal, and what is said where there is none."""

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import mlobs
from mlobs.backend import Batch, Entry
from mlobs.backends.console_page import Page
from mlobs.delivery.report import report
from mlobs.errors import Unavailable, UsageError
from mlobs.events import (
    Artifact,
    Dataset,
    Histogram,
    Log,
    Metrics,
    ModelFingerprint,
    Params,
    Process,
    Rewind,
    RunFinished,
    RunStarted,
    Snapshot,
    Tags,
    Unknown,
)
from mlobs.journal.process import this_process
from mlobs.journal.store import Store
from mlobs.testing import BackendContract

AT = 1_700_000_000.0
ELSEWHERE = Process("another-host", 1, "another/1", 1)
PATIENCE_S = 60.0
SCRIPT = """
import sys, time
import mlobs
tracker = mlobs.Tracker("digits", backends=["console"], store="store", delivery=sys.argv[1])
with tracker.start_run("baseline", params={"lr": 0.1, "opt": {"name": "adam"}}) as run:
    for step in range(50):
        run.log_metrics({"loss": 1 / (step + 1), "system/mine": 1.0}, step=step)
    run.log_text("notes", "hello")
print("the program's own")
"""


class TestConsole(BackendContract):
    @pytest.fixture
    def backend(self):
        return mlobs.backends.Console()


class Plain:
    """A screen without colours that keeps what is shown."""

    is_terminal, width = False, 100


def page(every_s=5.0, line_at=None, pending=None):
    return Page("baseline", AT, every_s, line_at, pending or {})


def printed(*events, every_s=5.0):
    """The lines of these events, without the time in front of each."""
    one = page(every_s)
    for event in events:
        one.take(event)
    return [re.sub(r"^\d\d:\d\d:\d\d baseline  ", "", line) for line in one.text(Plain()).splitlines()]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (RunStarted(AT, "r1", "churn", "baseline", ELSEWHERE), "started  experiment churn  run r1"),
        (
            RunStarted(AT, "r1", "churn", "baseline", ELSEWHERE, attempt=2),
            "attempt 2  experiment churn  run r1",
        ),
        (Tags(AT, {"team": "x", "mlobs.run_id": "r1"}), "tags  team=x"),
        (Metrics(AT, 3, {"loss": 0.25, "acc": float("nan")}), "step 3  loss 0.25  acc nan"),
        (Log(AT, "careful\n[red]", "WARNING", "train"), "WARNING train: careful\\n[red]"),
        (Artifact(AT, "model.bin", 12_300_000, "model"), "model  model.bin  12.3 MB"),
        (Artifact(AT, "cm.json", 40, "confusion_matrix", step=7), "confusion matrix  cm.json  step 7  40 B"),
        (
            Histogram(AT, 2, "weights", [1000.0, 24.0], [0.0, 1.0, 2.0]),
            "histogram  weights  step 2  1,024 values",
        ),
        (
            Dataset(AT, "train", "v3", "b3:ab", "rows", rows=1000),
            "dataset  train  train  1,000 rows  v3",
        ),
        (Snapshot(AT, "code", {}, missing="no git"), "snapshot  code  missing: no git"),
        (ModelFingerprint(AT, "net", "b3:cd", "v1"), "model  net  b3:cd"),
        (Rewind(AT, 10), "goes back to step 10"),
        (RunFinished(AT + 192, "FINISHED"), "FINISHED after 3m 12s"),
        (
            RunFinished(AT + 1, "FAILED", "ValueError: no", unrecorded=1),
            "FAILED after 1.0s: ValueError: no - 1 call was not recorded",
        ),
        (Unknown("telepathy", (AT, {"mood": "calm"})), "telepathy"),
    ],
    ids=lambda one: "" if isinstance(one, str) else type(one).__name__,
)
def test_each_kind_is_a_line_that_people_can_read(event, line):
    assert printed(event) == [line]


def test_params_are_a_table_and_long_ones_are_cut():
    lines = printed(Params(AT, {"lr": 0.1, "optimizer.name": "adam", "layers": [64, "relu"], "x": "y" * 999}))

    assert lines[:4] == [
        "params",
        "         lr              0.1",
        "         optimizer.name  adam",
        '         layers          [64,"relu"]',
    ]
    assert "999 characters, full value in the store" in " ".join(lines[4:])


def test_what_a_value_holds_cannot_steer_the_terminal():
    text = "\x1b[2J\x1b]0;title\x07"
    end = RunFinished(AT, "FAILED", text, traceback=f"{text}\n{text}")
    lines = printed(Log(AT, text), Params(AT, {text: text}), end)

    assert "\x1b" not in "".join(lines)
    assert "\x07" not in "".join(lines)


def test_a_line_of_metrics_stands_for_some_seconds_and_the_end_shows_the_last_values():
    one = page(every_s=5.0)
    outcomes = [one.take(Metrics(AT + n, n, {"loss": n / 10})) for n in range(12)]
    outcomes.append(one.take(Metrics(AT + 11.5, 0, {"val": 0.5})))
    one.take(RunFinished(AT + 12, "FINISHED"))

    lines = [line.split("baseline  ")[1] for line in one.text(Plain()).splitlines()]
    assert lines == [
        "step 0  loss 0",
        "step 5  loss 0.5",
        "step 10  loss 1",
        "step 0  val 0.5",
        "step 11  loss 1.1",
        "FINISHED after 12.0s",
    ]
    assert [n for n, (word, _) in enumerate(outcomes) if word == "printed"] == [0, 5, 10]
    assert {word for word, _ in outcomes} == {"printed", "lowered"}


def test_without_throttle_each_event_is_a_line():
    lines = printed(*(Metrics(AT + n / 100, n, {"loss": 1.0}) for n in range(3)), every_s=0)

    assert lines == ["step 0  loss 1", "step 1  loss 1", "step 2  loss 1"]


def test_what_is_not_printed_says_why():
    one = page()
    assert one.take(Metrics(AT, 0, {"system/cpu_percent": 90.0}))[0] == "skipped"
    assert one.take(Log(AT, "a line", stream="stdout"))[0] == "skipped"
    assert one.take(Tags(AT, {"mlobs.rewound": "3"}))[0] == "skipped"
    assert one.text(Plain()) == ""


@pytest.mark.parametrize("every_s", [-1, float("nan"), float("inf"), "5", True])
def test_a_wrong_interval_is_refused_when_it_is_given(every_s):
    with pytest.raises(UsageError, match="every_s"):
        mlobs.backends.Console(every_s=every_s)


def batch(*events, ref=None, first=0):
    run = RunStarted(AT, "r1", "churn", "baseline", this_process())
    entries = tuple(Entry(f"w:{first + n}", event) for n, event in enumerate(events))
    return Batch(run, entries, lambda _: None, ref)


def test_a_repeated_batch_is_not_printed_again(capsys):
    backend = mlobs.backends.Console(every_s=0)
    events = [Metrics(AT + n, n, {"loss": float(n)}) for n in range(6)]

    one = backend.deliver(batch(*events[:2]))
    assert backend.deliver(batch(*events[:2])) == one  # the answer was lost
    two = backend.deliver(batch(*events[:4]))  # and there is more now
    backend.deliver(batch(*events[4:], ref=two.ref, first=4))

    lines = capsys.readouterr().err.splitlines()
    assert [line.split("baseline  ")[1] for line in lines] == [f"step {n}  loss {n}" for n in range(6)]


def test_another_process_goes_on_from_the_reference(capsys):
    first = mlobs.backends.Console().deliver(batch(Metrics(AT, 0, {"loss": 0.0})))
    later = [Metrics(AT + n, n, {"loss": float(n)}) for n in (1, 6)]

    receipt = mlobs.backends.Console().deliver(batch(*later, ref=first.ref, first=1))

    assert list(receipt.lowered) == ["w:1"]
    assert [line[-6:] for line in capsys.readouterr().err.splitlines()] == ["loss 0", "loss 6"]


def test_an_attempt_is_printed_where_its_own_process_is(capsys):
    """The first attempt's process is gone; the one that goes on with the run is this one."""
    gone = RunStarted(AT, "r1", "churn", "baseline", ELSEWHERE)
    again = RunStarted(AT + 9, "r1", "churn", "baseline", this_process(), attempt=2)
    backend = mlobs.backends.Console()

    first = backend.deliver(Batch(gone, (Entry("a:0", gone),), lambda _: None))
    assert list(first.skipped) == ["a:0"]
    receipt = backend.deliver(Batch(gone, (Entry("b:0", again),), lambda _: None, first.ref))
    backend.deliver(
        Batch(gone, (Entry("b:9", RunFinished(AT + 12, "FINISHED")),), lambda _: None, receipt.ref)
    )

    lines = capsys.readouterr().err.splitlines()
    assert [line.split("baseline  ")[1] for line in lines] == [
        "attempt 2  experiment churn  run r1",
        "FINISHED after 3.0s",
    ]


def test_a_closed_stderr_is_said_and_holds_nothing_up(monkeypatch, tmp_path):
    with (tmp_path / "closed").open("w") as stream:
        pass
    monkeypatch.setattr(sys, "stderr", stream)

    receipt = mlobs.backends.Console().deliver(batch(Metrics(AT, 0, {"loss": 1.0})))

    assert "closed" in receipt.skipped["w:0"]


@contextmanager
def terminal():
    """A terminal that nobody reads unless the test does."""
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


_PROGRESS = r"mlobs: delivering [━╸╺ ]*\d+% (?:-:--:--|\d:\d\d:\d\d)"


def shown(ours, until):
    """What appears on a terminal, up to these words."""
    found, deadline = "", time.monotonic() + PATIENCE_S
    while until not in found:
        assert time.monotonic() < deadline, found
        if select.select([ours], [], [], 0.1)[0]:
            found += os.read(ours, 1 << 16).decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", found).replace("\r", "")
    return re.sub(_PROGRESS, "", plain)  # a busy machine may be waiting already


def outcomes(folder: Path):
    (run,) = Store(folder / "store").runs()
    return report(run)["console"]


@pytest.mark.parametrize("delivery", ["process", "thread"])
def test_a_run_appears_on_the_terminal_of_its_program(tmp_path, delivery):
    with terminal() as (ours, theirs):
        command = [sys.executable, "-c", SCRIPT, delivery]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=theirs) as program:
            text = shown(ours, "delivered")  # the closing word of the program
            assert program.wait(PATIENCE_S) == 0

    lines = [re.sub(r"^\d\d:\d\d:\d\d baseline  ", "", line) for line in text.splitlines() if line.strip()]
    assert lines[0].startswith("started  experiment digits  run ")
    assert lines[1:4] == ["params", "         lr        0.1", "         opt.name  adam"]
    assert lines[4] == "step 0  loss 1"
    assert [line for line in lines if line.startswith("text")] == ["text  notes.txt  5 B"]
    assert [line for line in lines if line.startswith("FINISHED after")]
    assert lines.count("step 49  loss 0.02") == 1
    found = outcomes(tmp_path)
    assert found.is_settled
    assert (found.lowered, found.skipped, found.rejected) == (49, 0, 0)


def test_without_a_terminal_the_events_are_skipped_and_the_output_is_the_programs_alone(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "process"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )

    assert (done.stdout, done.stderr) == ("the program's own\n", "")
    found = outcomes(tmp_path)
    assert found.is_settled
    assert (found.delivered, found.lowered, found.rejected) == (0, 0, 0)
    assert "no terminal" in " ".join(found.reasons)


def test_in_a_pipe_a_thread_prints_plain_lines(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "thread"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )

    assert "baseline  step 49  loss 0.02\n" in done.stderr
    assert "\x1b" not in done.stderr


SLEEPING = "import time; print('up', flush=True); time.sleep(600)"


@contextmanager
def a_program_at(theirs):
    """A process whose standard error is this terminal, as events name it."""
    with subprocess.Popen([sys.executable, "-c", SLEEPING], stdout=subprocess.PIPE, stderr=theirs) as program:
        assert program.stdout is not None
        program.stdout.readline()
        fields = Path(f"/proc/{program.pid}/stat").read_bytes().rpartition(b")")[2].split()
        try:
            here = this_process()
            yield Process(here.host, program.pid, here.boot_id, int(fields[19]))
        finally:
            program.kill()


def of(process, *events):
    run = RunStarted(AT, "r1", "churn", "baseline", process)
    return Batch(run, tuple(Entry(f"w:{n}", event) for n, event in enumerate(events)), lambda _: None)


def test_a_terminal_that_takes_nothing_makes_the_events_wait():
    with terminal() as (ours, theirs), a_program_at(theirs) as process:
        termios.tcflow(theirs, termios.TCOOFF)  # what Ctrl-S does
        lines = of(process, *(Log(AT, "x" * 90) for _ in range(3)))
        backend = mlobs.backends.Console()
        with pytest.raises(Unavailable, match="Ctrl-S"):
            backend.deliver(lines)
        termios.tcflow(theirs, termios.TCOON)
        receipt = backend.deliver(lines)

        assert not receipt.skipped
        assert shown(ours, "x" * 90).count("x" * 90) >= 1


def test_another_process_that_has_the_pid_now_gets_no_lines():
    with terminal() as (ours, theirs), a_program_at(theirs) as process:
        earlier = Process(process.host, process.pid, process.boot_id, process.started - 1)
        receipt = mlobs.backends.Console().deliver(of(earlier, Log(AT, "a line")))

        assert list(receipt.skipped) == ["w:0"]
        assert not select.select([ours], [], [], 0.2)[0]
