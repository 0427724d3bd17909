"""A real MLflow server in trouble: training and TensorBoard do not notice, and nothing is lost or doubled."""

import datetime as dt
import email.utils
import json
import re
import subprocess
import sys

import pytest
from programs import (
    board_points,
    delivered,
    environment,
    eventually,
    local_points,
    mlflow_points,
    mlflow_runs,
    only_run,
    running,
)
from proxy import Fault, Proxy, proxied, status
from servers import free_port, mlflow_server

from mlobs.delivery.report import report
from mlobs.journal.store import Store

# MLflow 3.17 on SQLAlchemy 2.1: its own query, deprecated there
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]

BEFORE, DURING, AFTER = 20, 300, 20
EXPECTED = [(step, step / 7) for step in range(BEFORE + DURING + AFTER)]
LOG_BATCH = "/runs/log-batch"

PROGRAM = f"""
import json, pathlib, sys, time
import mlobs
backends = [mlobs.backends.MLflow(sys.argv[1]), mlobs.backends.TensorBoard("board")]
tracker = mlobs.Tracker(sys.argv[2], backends=backends, store="store", finish_timeout_s=float(sys.argv[3]))
clock, figures = time.perf_counter, {{}}
def wait(name):
    while not pathlib.Path(name).exists():
        time.sleep(0.02)
def log(steps):
    calls = []
    for step in steps:
        time.sleep(0.001)
        started = clock()
        run.log_metric("loss", step / 7, step=step)
        calls.append(clock() - started)
    return calls
run = tracker.start_run(params={{"lr": 0.1}})
log(range({BEFORE}))
while not all(one.delivered for one in run.delivery().values()):
    time.sleep(0.02)
pathlib.Path("ready").touch()
wait("trouble")
calls = log(range({BEFORE}, {BEFORE + DURING}))
run.log_text("notes.txt", "all is well")
recorded = clock()
while run.delivery()["tensorboard"].pending:
    time.sleep(0.02)
figures |= {{"longest_s": max(calls), "median_s": sorted(calls)[len(calls) // 2]}}
figures["board_s"] = clock() - recorded
pathlib.Path("recorded").touch()
wait("mended")
log(range({BEFORE + DURING}, {BEFORE + DURING + AFTER}))
ended = clock()
run.finish()
figures["finish_s"] = clock() - ended
print(json.dumps(figures))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    with mlflow_server(folder, port) as uri:
        yield port, uri


@pytest.fixture
def proxy(server):
    with proxied(server[0], free_port()) as proxy:
        yield proxy


def in_seconds(s):
    return email.utils.format_datetime(
        dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=s), usegmt=True
    )


class Trouble:
    """A program that is in trouble until `mend`; what it says, and what it leaves behind."""

    def __init__(self, folder, proxy: Proxy, server_uri, name, program) -> None:
        self.folder, self.proxy, self.server_uri, self.name = folder, proxy, server_uri, name
        self.program = program

    @property
    def run_id(self):
        return only_run(self.folder).run_id

    @property
    def there(self):
        return report(Store(self.folder / "store").run(self.run_id))["mlflow"]

    def begin(self, fault: Fault | None):
        """Let the trouble begin, and wait until the program has recorded its share of it."""
        eventually((self.folder / "ready").exists)
        if fault is None:
            self.proxy.refuse()
        else:
            self.proxy.fault = fault
        (self.folder / "trouble").touch()
        eventually((self.folder / "recorded").exists)

    def mend(self):
        """End the trouble, and let the program end; return its figures."""
        self.proxy.listen()
        self.proxy.fault = None
        (self.folder / "mended").touch()
        assert self.program.wait(timeout=120) == 0, self.output
        return json.loads(self.output.splitlines()[-1])

    @property
    def output(self):
        return (self.folder / "output").read_text(encoding="utf-8")

    def check_arrived(self):
        """Everything is at both backends, once, and the run has ended well there."""
        eventually(lambda: delivered(self.folder, self.run_id, "mlflow", "tensorboard"))
        assert (self.there.rejected, self.there.skipped, self.there.pending) == (0, 0, 0)
        (there,) = mlflow_runs(self.server_uri, self.name)[self.run_id]
        assert (there.info.status, there.data.params) == ("FINISHED", {"lr": "0.1"})
        assert mlflow_points(self.server_uri, there.info.run_id, "loss") == EXPECTED
        assert local_points(self.folder, self.run_id, "loss") == EXPECTED
        assert [step for step, _ in board_points(self.folder, self.run_id, "loss")] == [
            step for step, _ in EXPECTED
        ]


@pytest.fixture
def trouble(tmp_path, proxy, server, request):
    name = re.sub(r"\W+", "-", request.node.name)
    more = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2", "MLOBS_LINGER_S": "60"}
    with running(tmp_path, PROGRAM, proxy.uri, name, 60, **more) as program:
        yield Trouble(tmp_path, proxy, server[1], name, program)


FAULTS = {
    "refuses": (None, "backing off", "refuses connections$"),
    "stalls": (Fault("stall"), "backing off", "did not answer before the timeout"),
    "stalls-late": (Fault("stall after forwarding"), "backing off", "did not answer before the timeout"),
    "closes": (Fault("close"), "backing off", "closed the connection without an answer$"),
    "loses-answers": (Fault("lost answer"), "backing off", "closed the connection without an answer$"),
    "401": (status(401), "paused", "refuses the credentials - set MLFLOW_TRACKING_USERNAME"),
    "403": (status(403), "paused", "refuses the credentials"),
    "429": (status(429, retry_after="3"), "backing off", "answers 429$"),
    "429-date": (lambda: status(429, retry_after=in_seconds(4)), "backing off", "answers 429$"),
    "500": (status(500), "backing off", "answers 500$"),
    "502": (status(502), "backing off", "answers 502$"),
    "503": (status(503), "backing off", "answers 503$"),
    "garbage": (Fault("garbage"), "backing off", "answers, but not as MLflow does"),
    "half-answers": (Fault("half"), "backing off", "(answers, but not as MLflow does|broke off its answer)"),
}
FAST = ("refuses", "loses-answers", "401", "500")  # of each kind one; the others with `make test-all`


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in FAULTS]
)
def test_a_server_in_trouble_hurts_nobody_and_has_everything_once_when_it_is_well(trouble, name):
    fault, state, words = FAULTS[name]
    trouble.begin(fault() if callable(fault) else fault)
    eventually(lambda: trouble.there.state == state)
    seen = trouble.there

    assert re.search(words, seen.trouble), seen.trouble
    assert len(seen.trouble) < 250
    assert seen.pending >= DURING
    assert seen.rejected == 0
    assert trouble.output == ""  # whoever wants to know asks; the end of the run says what is missing
    figures = trouble.mend()
    assert figures["median_s"] < 200e-6
    assert figures["longest_s"] < 0.5
    assert figures["board_s"] < 15
    trouble.check_arrived()
    assert trouble.output.count("mlobs:") <= 1


def test_slow_answers_delay_nobody_but_that_backend(trouble):
    trouble.begin(Fault("slow", delay_s=1.0))
    figures = trouble.mend()

    assert figures["longest_s"] < 0.5
    assert figures["board_s"] < 15
    trouble.check_arrived()


@pytest.mark.slow
def test_an_answer_that_drips_is_waited_for(trouble):
    trouble.begin(Fault("drip"))
    trouble.mend()

    trouble.check_arrived()


def test_a_throttled_lane_asks_again_when_it_was_told_to_and_not_before(trouble):
    trouble.begin(status(429, retry_after="600"))
    eventually(lambda: trouble.there.state == "backing off")
    asked = trouble.proxy.count(kind="status")
    figures = trouble.mend()

    assert figures["finish_s"] < 10  # it would have to wait longer than its budget of 60 s
    assert trouble.proxy.count(kind="status") == asked
    assert re.search(r"mlflow: .* pending .*answers 429", trouble.output)
    assert "mlobs sync" in trouble.output


def show(folder):
    command = [sys.executable, "-m", "mlobs", "show", "latest", "--store", "store"]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(COLUMNS="200"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_show_tells_what_waits_and_why(trouble):
    trouble.begin(None)
    eventually(lambda: trouble.there.state == "backing off")
    shown = show(trouble.folder)

    assert "backing off" in shown
    assert f"{trouble.proxy.uri} refuses connections" in shown
    trouble.mend()
    trouble.check_arrived()
    assert "refuses connections" not in show(trouble.folder)


def test_an_event_that_the_server_always_fails_at_stops_no_other_run(tmp_path, proxy):
    """The run with that event waits, since it is not yet certain; another run of the program goes on."""
    proxy.fault = Fault("status", 500, path=LOG_BATCH, body='"poison"')
    source = """
    import sys, time
    import mlobs
    tracker = mlobs.Tracker("poison", backends=[mlobs.backends.MLflow(sys.argv[1])], store="store")
    first, second = tracker.start_run("first"), tracker.start_run("second")
    for step in range(20):
        first.log_metric("loss", step, step=step)
    first.set_tag("poison", "x")
    for step in range(20, 40):
        first.log_metric("loss", step, step=step)
        second.log_metric("loss", step, step=step)
    second.finish()
    deadline = time.monotonic() + 90
    while "other events" not in (there := first.delivery()["mlflow"]).trouble:
        assert time.monotonic() < deadline, there
        time.sleep(0.05)
    print(second.delivery()["mlflow"].pending, there.delivered, there.pending, there.rejected, flush=True)
    import os
    os._exit(0)
    """
    with running(tmp_path, source, proxy.uri, MLOBS_LINGER_S="0") as program:
        assert program.wait(timeout=100) == 0, (tmp_path / "output").read_text()

    assert (tmp_path / "output").read_text().split() == ["0", "21", "21", "0"]
