"""Whatever ends a program, its run's status is the true one, and the exit code is the program's own."""

import contextlib

import pytest
from programs import delivered, end_sender, eventually, mlflow_runs, only_run, run, run_ids, running
from servers import free_port

import mlobs

START = """
import os, signal, sys, threading, time
import mlobs
tracker = mlobs.Tracker("endings", store="store")
class Mute(Exception):
    def __str__(self): return self.message
class Dumb:
    def __repr__(self): return self.message
class Many:
    def __eq__(self, other): return self
    def __bool__(self): raise ValueError("several")
    def __repr__(self): return "Many()"
"""

ENDINGS = {
    "a normal end of the context": (
        "with tracker.start_run() as run: run.log_metric('a', 1)", 0, "FINISHED", ""),
    "finish()": ("tracker.start_run().finish()", 0, "FINISHED", ""),
    "the end of the program": ("tracker.start_run().log_metric('a', 1)", 0, "FINISHED", ""),
    "an exception in the context": (
        "with tracker.start_run(): raise ValueError('no data')", 1, "FAILED", "ValueError: no data"),
    "an uncaught exception": (
        "tracker.start_run()\nraise ValueError('no data')", 1, "FAILED", "ValueError: no data"),
    "sys.exit(0) in the context": ("with tracker.start_run(): sys.exit(0)", 0, "FINISHED", ""),
    "sys.exit() in the context": ("with tracker.start_run(): sys.exit()", 0, "FINISHED", ""),
    "sys.exit(3) in the context": ("with tracker.start_run(): sys.exit(3)", 3, "FAILED", "sys.exit(3)"),
    "sys.exit('text') in the context": (
        "with tracker.start_run(): sys.exit('no data')", 1, "FAILED", "sys.exit('no data')"),
    "sys.exit(0)": ("tracker.start_run()\nsys.exit(0)", 0, "FINISHED", ""),
    "sys.exit(3)": ("tracker.start_run()\nsys.exit(3)", 3, "FAILED", "sys.exit(3)"),
    "sys.exit('text')": ("tracker.start_run()\nsys.exit('no data')", 1, "FAILED", "sys.exit('no data')"),
    "an exception that fails to say what it is in the context": (
        "with tracker.start_run(): raise Mute(7)", 1, "FAILED", "Mute: Mute(7)"),
    "an exception that fails to say what it is": (
        "tracker.start_run()\nraise Mute(7)", 1, "FAILED", "Mute: Mute(7)"),
    "a thread's exception that fails to say what it is": (
        ("def work(): tracker.start_run(); raise Mute(7)\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()"),
        0, "FAILED", "Mute: Mute(7)"),
    "sys.exit(what fails to say what it is) in the context": (
        "with tracker.start_run(): sys.exit(Dumb())", 1, "FAILED",
        "sys.exit(<Dumb whose repr fails: AttributeError>)"),
    "sys.exit(what fails to say what it is)": (
        "tracker.start_run()\nsys.exit(Dumb())", 1, "FAILED",
        "sys.exit(<Dumb whose repr fails: AttributeError>)"),
    "sys.exit(what is compared to many values at once, like an array)": (
        "with tracker.start_run(): sys.exit(Many())", 1, "FAILED", "sys.exit(Many())"),
    "sys.exit(0.0), which Python prints": (
        "with tracker.start_run(): sys.exit(0.0)", 1, "FAILED", "sys.exit(0.0)"),
    "a sys.exit(3) that was caught": (
        "run = tracker.start_run()\ntry: sys.exit(3)\nexcept SystemExit: pass\nrun.log_metric('a', 1)",
        0, "FINISHED", ""),
    "a sys.exit(3) that was caught, then sys.exit(4)": (
        ("run = tracker.start_run()\ntry: sys.exit(3)\nexcept SystemExit: pass\n"
        "run.log_metric('a', 1)\nsys.exit(4)"),
        4, "FAILED", "sys.exit(4)"),
    "a record on the way out of sys.exit(3)": (
        "run = tracker.start_run()\ntry: sys.exit(3)\nfinally: run.log_metric('a', 1)",
        3, "FAILED", "sys.exit(3)"),
    "a record while something else is handled on the way out": (
        ("run = tracker.start_run()\ntry: sys.exit(3)\nfinally:\n"
        " try: 1 / 0\n except ZeroDivisionError: run.log_text('a', 'b')"),
        3, "FAILED", "sys.exit(3)"),
    "a sys.exit(3) that is let through after a record": (
        "run = tracker.start_run()\ntry: sys.exit(3)\nexcept SystemExit:\n run.set_tag('a', 1)\n raise",
        3, "FAILED", "sys.exit(3)"),
    "a record by another thread behind sys.exit(3)": (
        "run = tracker.start_run()\nthreading.Timer(0.2, run.log_metric, ('a', 1)).start()\nsys.exit(3)",
        3, "FAILED", "sys.exit(3)"),
    "a record by an exit hook behind sys.exit(3)": (
        "import atexit\nrun = tracker.start_run()\natexit.register(run.log_metric, 'a', 1)\nsys.exit(3)",
        3, "FAILED", "sys.exit(3)"),
    "a record by another task that sys.exit(3) cancels": (
        ("import asyncio\nrun = tracker.start_run()\n"
        "async def other():\n try: await asyncio.sleep(9)\n finally: run.log_metric('a', 1)\n"
        "async def main():\n task = asyncio.create_task(other())\n await asyncio.sleep(0)\n sys.exit(3)\n"
        "asyncio.run(main())"),
        3, "FAILED", "sys.exit(3)"),
    "Ctrl-C in the context": (
        "with tracker.start_run(): signal.raise_signal(signal.SIGINT)", -2, "KILLED", "SIGINT"),
    "Ctrl-C": ("tracker.start_run()\nsignal.raise_signal(signal.SIGINT)", -2, "KILLED", "SIGINT"),
    "SIGTERM in the context": (
        "with tracker.start_run(): os.kill(os.getpid(), 15); time.sleep(9)", -15, "KILLED", "SIGTERM"),
    "SIGTERM": (
        "tracker.start_run()\nos.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", -15, "KILLED", "SIGTERM"),
    "SIGHUP": (
        "tracker.start_run()\nos.kill(os.getpid(), signal.SIGHUP); time.sleep(9)", -1, "KILLED", "SIGHUP"),
    "os._exit": ("tracker.start_run()\nos._exit(0)", 0, "CRASHED", "process vanished"),
    "SIGKILL": ("tracker.start_run()\nos.kill(os.getpid(), 9)", -9, "CRASHED", "process vanished"),
    "a segmentation fault": (
        "tracker.start_run()\nimport ctypes; ctypes.string_at(0)", -11, "CRASHED", "process vanished"),
    "a worker thread at work when the main thread ends": (
        "tracker.start_run()\nthreading.Timer(0.2, mlobs.set_tag, ('a', 1)).start()",
        0, "FINISHED", ""),
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_status_is_true_and_the_exit_code_unchanged(tmp_path, ending):
    source, exit_code, status, reason = ENDINGS[ending]

    done = run(tmp_path, START + source)

    assert done.returncode == exit_code, done.stderr
    record = only_run(tmp_path)
    assert (record.status, record.reason) == (status, reason)


def test_a_failed_run_keeps_the_traceback_which_is_also_printed(tmp_path):
    for place in ("with tracker.start_run():\n    1 / 0", "tracker.start_run()\n1 / 0"):
        folder = tmp_path / str(len(place))
        folder.mkdir()
        done = run(folder, START + place)
        assert "ZeroDivisionError" in done.stderr
        kept = only_run(folder).end.traceback
        assert kept.startswith("Traceback")
        assert "1 / 0" in kept
        assert kept.strip().endswith("ZeroDivisionError: division by zero")


def test_a_program_that_ends_in_good_order_says_nothing(tmp_path):
    done = run(tmp_path, START + "with tracker.start_run() as run: run.log_metric('a', 1)")

    assert (done.stdout, done.stderr) == ("", "")


HANDLERS = {
    "leaves by sys.exit(4)": ("sys.exit(4)", "time.sleep(9)", 4, "KILLED", "SIGTERM"),
    "leaves by sys.exit(0)": ("sys.exit(0)", "time.sleep(9)", 0, "KILLED", "SIGTERM"),
    "raises KeyboardInterrupt": ("raise KeyboardInterrupt", "time.sleep(9)", -2, "KILLED", "SIGTERM"),
    "sets a flag and the program goes on to its end": ("pass", "run.log_metric('a', 1)", 0, "FINISHED", ""),
}


@pytest.mark.parametrize("in_context", [True, False])
@pytest.mark.parametrize("case", HANDLERS)
def test_the_users_own_handler_runs_and_decides(tmp_path, case, in_context):
    handler, afterwards, exit_code, status, reason = HANDLERS[case]
    body = f"""
def on_term(number, frame):
    print("handled", number, flush=True)
    {handler}
signal.signal(signal.SIGTERM, on_term)
{"with tracker.start_run() as run:" if in_context else "run = tracker.start_run()" + chr(10) + "if True:"}
    os.kill(os.getpid(), signal.SIGTERM)
    {afterwards}
"""
    done = run(tmp_path, START + body)

    assert "handled 15" in done.stdout
    assert done.returncode == exit_code, done.stderr
    record = only_run(tmp_path)
    assert (record.status, record.reason) == (status, reason)


def test_an_ignored_signal_stays_ignored(tmp_path):
    source = "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nrun = tracker.start_run()\n"
    source += "os.kill(os.getpid(), signal.SIGHUP)\nrun.log_metric('a', 1)"

    assert run(tmp_path, START + source).returncode == 0
    assert only_run(tmp_path).status == "FINISHED"


CHAINED = """
def chain(label):
    before = signal.getsignal(signal.SIGTERM)
    def handler(number, frame):
        print(label, flush=True)
        if callable(before): before(number, frame)
    signal.signal(signal.SIGTERM, handler)

FIRST
a = tracker.start_run("a")
chain("library")
b = tracker.start_run("b")
chain("other library")
c = tracker.start_run("c")
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(9)
"""


def test_handlers_that_call_the_one_before_each_have_their_turn(tmp_path):
    done = run(tmp_path, START + CHAINED.replace("FIRST", ""))

    assert (done.returncode, done.stdout.split("\n")) == (-15, ["other library", "library", ""]), done.stderr
    frame = mlobs.runs(store=tmp_path / "store")
    assert frame["status"].tolist() == ["KILLED"] * 3
    assert frame["reason"].tolist() == ["SIGTERM"] * 3


def test_the_first_of_the_handlers_that_call_the_one_before_decides(tmp_path):
    first = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))"

    done = run(tmp_path, START + CHAINED.replace("FIRST", first))

    assert (done.returncode, done.stdout.split()) == (4, ["other", "library", "library"]), done.stderr
    assert mlobs.runs(store=tmp_path / "store")["reason"].tolist() == ["SIGTERM"] * 3


def test_every_open_run_gets_the_end(tmp_path):
    source = "a = tracker.start_run('a'); b = a.child('b'); c = tracker.start_run('c')\n"
    source += "os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)"
    run(tmp_path, START + source)

    frame = mlobs.runs(store=tmp_path / "store")
    assert frame["status"].tolist() == ["KILLED"] * 3


def test_the_end_of_the_program_closes_children_before_their_parents(tmp_path):
    run(tmp_path, START + "a = tracker.start_run('a'); b = a.child('b'); c = b.child('c')")

    frame = mlobs.runs(store=tmp_path / "store")
    assert frame["name"].tolist() == ["a", "b", "c"]
    assert frame["status"].tolist() == ["FINISHED"] * 3
    assert frame["ended"].is_monotonic_decreasing


LATE_CHILD = """
import mlobs
backends = [mlobs.backends.MLflow("http://127.0.0.1:PORT")]
tracker = mlobs.Tracker("endings", store="store", backends=backends, finish_timeout_s=0.5)
with tracker.start_run("parent") as run:
    child = run.child("fold")
child.log_metric("a", 1)
"""


@pytest.mark.parametrize("end", ["child.finish()", ""], ids=["finish", "the end of the program"])
def test_a_child_that_ends_after_its_parent_says_what_is_pending(tmp_path, end):
    done = run(tmp_path, LATE_CHILD.replace("PORT", str(free_port())) + end, MLOBS_LINGER_S="0")

    of_parent, of_child = (line for line in done.stderr.splitlines() if " FINISHED" in line)
    assert "run parent" in of_parent
    assert "run fold" in of_child
    assert "mlflow: 0 delivered, 3 pending" in of_child


IN_MLFLOW = """
import os, sys, time
import mlobs
backends = [mlobs.backends.MLflow("sqlite:///mlflow.db")]
tracker = mlobs.Tracker("endings", store="store", backends=backends, finish_timeout_s=0)
with tracker.start_run("FINISHED") as run:
    run.log_metric("a", 1)
try:
    with tracker.start_run("FAILED"):
        raise ValueError("no data")
except ValueError:
    pass
killed = tracker.start_run("KILLED")
os.kill(os.getpid(), 15)
time.sleep(9)
"""


@pytest.mark.slow
def test_mlflow_is_told_the_same_status_and_the_reason(tmp_path):
    with running(tmp_path, IN_MLFLOW, PYTHONWARNINGS="error") as program, contextlib.ExitStack() as ends:
        assert program.wait(timeout=60) == -15
        ids = run_ids(tmp_path)
        ends.callback(end_sender, tmp_path, ids[-1])
        eventually(lambda: all(delivered(tmp_path, run_id, "mlflow") for run_id in ids))

    (finished,), (failed,), (killed,) = (
        mlflow_runs(f"sqlite:///{tmp_path}/mlflow.db", "endings")[one] for one in ids
    )
    for there in (finished, failed, killed):
        assert there.info.run_name == there.info.status
        assert there.info.end_time is not None
    assert failed.data.tags["mlobs.reason"] == "ValueError: no data"
    assert killed.data.tags["mlobs.reason"] == "SIGTERM"
