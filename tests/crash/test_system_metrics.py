"""The load of real programs, sampled by their sender: what arrives where, and when it stops."""

import json
import os
import signal
import time

import psutil
import pytest
from programs import (
    board_points,
    delivered,
    eventually,
    local_points,
    mlflow_points,
    mlflow_runs,
    only_run,
    run,
    running,
    sender_of,
)

import mlobs
from mlobs.journal.process import is_alive
from mlobs.journal.store import Store

# MLflow 3.17 on SQLAlchemy 2.1: its own query, deprecated there
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]

STARVED_S = 300.0  # the sender has the lowest priority, and this training leaves it no core

START = """
import json, multiprocessing, os, pathlib, subprocess, sys, threading, time
import mlobs

def tracker(**settings):
    settings = {"system_metrics": True, "system_metrics_s": 0.5} | settings
    return mlobs.Tracker("load", store="store", **settings)

def burn():
    memory = bytearray(b"x") * 80_000_000
    while not pathlib.Path("stop").exists():
        sum(range(10_000))

def wait():
    while not pathlib.Path("stop").exists():
        time.sleep(0.02)
"""
BURNING = (
    START
    + """
if __name__ == "__main__":
    backends = [
        mlobs.backends.MLflow("sqlite:///m.db", artifact_location="artifacts"),
        mlobs.backends.TensorBoard("board"),
    ]
    with tracker(backends=backends).start_run() as run:
        child = multiprocessing.get_context("spawn").Process(target=burn)
        child.start()
        burn()
        threads = [one.name for one in threading.enumerate()]
        child.join()
    pathlib.Path("threads").write_text(json.dumps(threads))
"""
)
WAITING = START + "run = tracker().start_run()\nrun.log_metric('loss', 1.0)\nwait()\n"


def samples(folder, run_id=None, name="cpu_percent"):
    """(step, value) of a system metric so far; none before the run is there."""
    if run_id is None:
        found = list(Store(folder / "store").runs())
        if not found or not found[-1].journals():
            return []
        run_id = found[-1].run_id
    return local_points(folder, run_id, f"system/{name}")


def stop(folder):
    (folder / "stop").touch()


def tree_of(pid, besides):
    """A process and its children, as psutil sees them."""
    found = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return [one for one in found if one.pid != besides]


def cpu_s(tree):
    """The CPU time of these processes so far."""
    return sum(one.cpu_times().user + one.cpu_times().system for one in tree)


def recorded_s(folder, first):
    """The CPU time that the samples from the `first` one on say, in seconds."""
    frame = mlobs.metrics(store=folder / "store", keys="system/cpu_percent")
    seconds = frame["at"].diff().dt.total_seconds()
    return (frame["value"] / 100 * seconds)[first:].sum()


def test_the_load_of_the_training_and_its_children_reaches_the_store_and_every_backend(tmp_path):
    with running(tmp_path, BURNING) as training:
        eventually(lambda: [mb for _, mb in samples(tmp_path, name="memory_rss_mb") if mb > 160], STARVED_S)
        run_id = only_run(tmp_path).run_id
        first = len(samples(tmp_path))
        tree = tree_of(training.pid, besides=sender_of(tmp_path, run_id).pid)
        seen_mb = sum(one.memory_info().rss for one in tree) / 1e6
        until_s = cpu_s(tree) + 3.0
        eventually(lambda: cpu_s(tree) > until_s, STARVED_S)
        last = len(samples(tmp_path))  # the next one may have been taken before, and be written only now
        eventually(lambda: len(samples(tmp_path)) > last + 1, STARVED_S)
        recorded_mb = samples(tmp_path, name="memory_rss_mb")[-1][1]
        stop(tmp_path)
        training.wait(120)
        eventually(lambda: delivered(tmp_path, run_id, "mlflow", "tensorboard"))

    assert recorded_mb == pytest.approx(seen_mb, rel=0.2)
    assert recorded_s(tmp_path, first) > 2.9
    assert json.loads((tmp_path / "threads").read_text()) == ["MainThread"]
    record = only_run(tmp_path)
    assert record.status == "FINISHED"
    cpu = samples(tmp_path)
    assert [step for step, _ in cpu] == list(range(len(cpu)))
    frame = record.metrics[record.metrics["key"].str.startswith("system/")]
    assert (frame["at"] <= record.ended).all()
    uri = f"sqlite:///{tmp_path}/m.db"
    ((vendors,),) = mlflow_runs(uri, "load").values()
    assert sorted(mlflow_points(uri, vendors.info.run_id, "system/cpu_percent")) == cpu
    board = board_points(tmp_path, run_id, "system/cpu_percent")
    assert board == [(step, pytest.approx(value, rel=1e-6)) for step, value in cpu]


def test_columns_of_the_load_are_there_when_they_are_asked_for(tmp_path):
    with running(tmp_path, WAITING) as training:
        eventually(lambda: samples(tmp_path))
        stop(tmp_path)
        training.wait(60)

    plain = mlobs.runs(store=tmp_path / "store")
    full = mlobs.runs(store=tmp_path / "store", system=True)
    assert [name for name in plain if name.startswith("metrics.")] == ["metrics.loss"]
    assert "metrics.system/memory_rss_mb" in full


def test_a_child_that_came_and_went_between_two_samples_counts(tmp_path):
    source = """
run = tracker().start_run()
code = "import time\\nwhile time.process_time() < 0.1: pass"
while not pathlib.Path("stop").exists():
    subprocess.run([sys.executable, "-c", code])
"""
    with running(tmp_path, START + source) as training:
        eventually(lambda: samples(tmp_path))
        first, of_children = len(samples(tmp_path)), psutil.Process(training.pid).cpu_times
        until_s = of_children().children_user + 0.5  # the trainer itself only waits
        eventually(lambda: of_children().children_user > until_s)
        last = len(samples(tmp_path))
        eventually(lambda: len(samples(tmp_path)) > last)
        stop(tmp_path)
        training.wait(60)

    assert recorded_s(tmp_path, first) > 0.4


def test_nothing_is_sampled_after_the_end_while_the_program_goes_on(tmp_path):
    source = """
with tracker().start_run() as run:
    wait()
pathlib.Path("ended").touch()
time.sleep(3.0)
"""
    with running(tmp_path, START + source) as training:
        eventually(lambda: samples(tmp_path))
        stop(tmp_path)
        eventually((tmp_path / "ended").exists)
        training.wait(60)

    record = only_run(tmp_path)
    assert max(at for at in record.metrics["at"]) <= record.ended
    assert not [event for event in record.events() if getattr(event, "at", 0) > record.end.at]


def test_nothing_is_sampled_after_a_kill_and_the_run_reads_crashed(tmp_path):
    with running(tmp_path, WAITING.replace("start_run()", "start_run(); os.fork() or wait()")) as training:
        eventually(lambda: samples(tmp_path))
        sender = sender_of(tmp_path, only_run(tmp_path).run_id)
        killed_at = time.time()
        training.kill()
        training.wait()
        eventually(lambda: only_run(tmp_path).end is not None)
        eventually(lambda: is_alive(sender) is False)
        stop(tmp_path)

    record = only_run(tmp_path)
    assert record.status == "CRASHED"
    assert record.metrics["at"].map(lambda at: at.timestamp()).max() <= killed_at + 0.1


def test_a_run_that_reads_crashed_is_not_kept_alive_by_its_sender(tmp_path):
    """The sender's journal is a writer that lives; the run is over all the same."""
    source = WAITING.replace("tracker()", "tracker(backends=[mlobs.backends.MLflow('http://127.0.0.1:9')])")
    with running(tmp_path, source) as training:
        eventually(lambda: samples(tmp_path))
        run_id = only_run(tmp_path).run_id
        sender = sender_of(tmp_path, run_id)
        os.kill(sender.pid, signal.SIGSTOP)
        try:
            training.kill()
            training.wait()
            record = only_run(tmp_path)
            assert (record.status, record.end) == ("CRASHED", None)
        finally:
            os.kill(sender.pid, signal.SIGKILL)


def test_samples_count_on_when_a_run_goes_on_and_a_rewind_takes_none_back(tmp_path):
    source = """
run = tracker().start_run(run_id="job", resume="allow", from_step=STEP)
run.log_metric("loss", 1.0)
wait()
"""
    source = START + source
    for attempt in (1, 2):
        (tmp_path / "stop").unlink(missing_ok=True)
        with running(tmp_path, source.replace("STEP", "None" if attempt == 1 else "0")) as training:
            before = len(samples(tmp_path))
            eventually(lambda before=before: len(samples(tmp_path)) > before + 1)
            stop(tmp_path)
            training.wait(60)

    steps = [step for step, _ in samples(tmp_path)]
    assert steps == list(range(len(steps)))
    assert len(steps) >= 4
    assert only_run(tmp_path).latest.attempt == 2
    assert local_points(tmp_path, "job", "loss") == [(0, 1.0)]  # the second one: the first was taken back


def test_another_sender_goes_on_with_the_samples(tmp_path):
    source = """
run = tracker().start_run()
while not pathlib.Path("stop").exists():
    time.sleep(0.1)
    run._opened.plan.sending(run._opened.plan.watch).revive()
"""
    with running(tmp_path, START + source) as training:
        eventually(lambda: samples(tmp_path))
        first = sender_of(tmp_path, only_run(tmp_path).run_id)
        os.kill(first.pid, signal.SIGKILL)
        before = len(samples(tmp_path))
        eventually(lambda: len(samples(tmp_path)) > before)
        stop(tmp_path)
        training.wait(60)

    steps = [step for step, _ in samples(tmp_path)]
    assert steps == list(range(len(steps)))


def test_runs_below_another_are_not_sampled(tmp_path):
    source = "run = tracker().start_run()\nchild = run.child('fold')\nchild.log_metric('loss', 1)\nwait()\n"
    with running(tmp_path, START + source) as training:
        store = Store(tmp_path / "store")
        eventually(lambda: len(list(store.runs())) == 2)
        outer, below = (one.run_id for one in store.runs())
        eventually(lambda: samples(tmp_path, outer))
        stop(tmp_path)
        training.wait(60)

    assert samples(tmp_path, below) == []


def test_a_thread_of_the_program_samples_where_no_process_may_be_started(tmp_path):
    source = START + "run = tracker(delivery='thread').start_run()\nwait()\n"
    with running(tmp_path, source) as training:
        eventually(lambda: samples(tmp_path))
        assert psutil.Process(training.pid).children() == []
        stop(tmp_path)
        training.wait(60)

    assert only_run(tmp_path).status == "FINISHED"
    assert {value for _, value in samples(tmp_path, name="processes")} == {1.0}


def test_without_psutil_it_is_said_once_and_training_goes_on(tmp_path):
    source = """
sys.modules["psutil"] = None  # as if it were not installed
one = tracker()
for _ in range(2):
    with one.start_run() as run:
        run.log_metric("loss", 1.0)
"""
    done = run(tmp_path, START + source)

    assert done.returncode == 0
    assert done.stderr.count("pip install 'mlobs[system]'") == 1
    assert len(mlobs.runs(store=tmp_path / "store")) == 2
    assert not (tmp_path / "store" / "senders").exists()


def test_offline_it_is_said_once_that_nobody_samples(tmp_path):
    done = run(tmp_path, START + "with tracker(mode='offline').start_run(): pass\n")

    assert done.returncode == 0
    assert done.stderr.count("offline there is no sender") == 1
    assert not (tmp_path / "store" / "senders").exists()


def test_what_cannot_be_read_is_said_once_and_counted_and_the_rest_is_there(tmp_path):
    source = """
import psutil
def refuse(*_, **__): raise PermissionError("the kernel says no")
psutil.net_io_counters = refuse
run = tracker(delivery="thread").start_run()
wait()
"""
    with running(tmp_path, START + source) as training:
        eventually(lambda: len(samples(tmp_path)) > 2)
        stop(tmp_path)
        training.wait(60)

    record = only_run(tmp_path)
    (said,) = [one.message for one in record.logs()]
    assert said == "system metrics: network could not be read: PermissionError: the kernel says no"
    failed = samples(tmp_path, name="failed_readings")
    assert [value for _, value in failed] == [float(step + 1) for step, _ in failed]
    assert len(failed) == len(samples(tmp_path))


def test_a_driver_that_does_not_answer_holds_neither_delivery_nor_the_end_up(tmp_path):
    source = """
import psutil
psutil.virtual_memory = lambda: time.sleep(600)
backend = mlobs.backends.TensorBoard("board")
with tracker(delivery="thread", backends=[backend]).start_run() as run:
    run.log_metric("loss", 1.0)
    time.sleep(1.0)
assert run.delivery()["tensorboard"].is_settled
print(time.monotonic())
"""
    done = run(tmp_path, START + source)

    assert done.returncode == 0, done.stderr
    assert time.monotonic() - float(done.stdout) < 10
    assert samples(tmp_path) == []
