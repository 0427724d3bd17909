"""`mlobs ui`: the vendors' own pages answer, and nothing is left of them afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import psutil
import pytest
from programs import PATIENCE_S, environment, run

import mlobs
from mlobs.backend import Viewer
from mlobs.errors import Unavailable
from mlobs.viewing.programs import Program

TRAINING = """
    import mlobs

    with mlobs.Tracker("churn", store="store", backends=["mlflow", "tensorboard"]).start_run("base") as run:
        for step in range(3):
            run.log_metric("loss", 1.0 / (step + 1), step=step)
        run.log_text("notes", "as it was")
"""
SERVER = """
import http.server, os, subprocess, sys
helper = subprocess.Popen([sys.executable, "-c", "import signal, time; " + sys.argv[2] + "; time.sleep(600)"])
open("pids", "w").write(f"{os.getpid()} {helper.pid}")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
HOLDER = """
import sys, time
from mlobs.backend import Viewer
from mlobs.viewing.programs import Program
program = Program(Viewer(arguments=(sys.executable, "server.py", "{port}", sys.argv[1])))
program.wait_for_answer()
print(program.address, flush=True)
time.sleep(600)
"""


def get(address):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=30) as answer:
        return answer.read()


def lives(process):
    try:
        return process.is_running() and process.status() != "zombie"
    except psutil.NoSuchProcess:  # it has ended between the two questions
        return False


def wait_until(is_so):
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def opened(folder, *arguments):
    """Start the command; yield it with the addresses that it printed, and see that it is gone at last."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlobs", "ui", *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = [process.stdout.readline().split()]
        while lines[-1] and (len(lines) < 2 or "tensorboard" not in lines[-1]):
            lines.append(process.stdout.readline().split())
        yield process, {line[0]: line[1] for line in lines[1:] if line}
    finally:
        process.kill()
        process.communicate()


def below(pid):
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.slow
def test_the_pages_of_mlflow_and_tensorboard_answer_until_ctrl_c(tmp_path):
    trained = run(tmp_path, TRAINING, timeout_s=2 * PATIENCE_S, MLOBS_FINISH_TIMEOUT_S=str(PATIENCE_S))
    assert (trained.returncode, "pending" in trained.stderr) == (0, False), trained.stderr

    with opened(tmp_path, "--store", "store") as (process, addresses):
        experiments = json.loads(
            get(f"{addresses['mlflow']}/ajax-api/2.0/mlflow/experiments/search?max_results=9")
        )
        assert "churn" in [one["name"] for one in experiments["experiments"]]
        ref = mlobs.load_run("latest", store=tmp_path / "store").folder
        run_id = mlflow_id(ref)
        assert get(f"{addresses['mlflow']}/get-artifact?path=notes.txt&run_uuid={run_id}") == b"as it was"
        wait_until(lambda: json.loads(get(f"{addresses['tensorboard']}/data/runs")))
        started = below(process.pid)
        assert len(started) >= 4  # a guard and a program each

        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
        assert not [one for one in started if lives(one)]


def mlflow_id(folder):
    from mlobs.delivery.report import report

    return report(folder)["mlflow"].vendor_id


@pytest.mark.parametrize("habit", ["pass", STUBBORN], ids=["obedient", "stubborn"])
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_whatever_ends_the_command_ends_what_it_started(tmp_path, ending, habit):
    (tmp_path / "server.py").write_text(SERVER)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, habit], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE
    )
    assert holder.stdout.readline().startswith(b"http://127.0.0.1:")
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    started = [psutil.Process(pid) for pid in pids]

    holder.send_signal(ending)
    holder.wait(PATIENCE_S)
    holder.stdout.close()

    wait_until(lambda: not any(lives(one) for one in started))


def test_a_program_that_ends_at_once_is_quoted():
    program = Program(
        Viewer(arguments=(sys.executable, "-c", "print('no such database'); raise SystemExit(3)"))
    )

    with program, pytest.raises(Unavailable, match="ended with code 3: no such database"):
        program.wait_for_answer()


def test_a_program_that_never_answers_is_given_up():
    with (
        Program(Viewer(arguments=(sys.executable, "-c", "import time; time.sleep(600)"))) as program,
        pytest.raises(Unavailable, match="did not answer within 1 s"),
    ):
        program.wait_for_answer(timeout_s=1.0)


def mlobs_ui(folder, *arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "mlobs", "ui", *arguments],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_ctrl_c_before_a_page_answers_leaves_quietly(tmp_path):
    (tmp_path / "runs").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "mlobs", "ui", "--backend", "tensorboard"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr.readline().startswith("starting")
    process.send_signal(signal.SIGINT)

    _, errors = process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, errors) == (0, "")


def test_a_server_elsewhere_is_named_and_not_started(tmp_path):
    (tmp_path / "mlobs.toml").write_text('[backends.mlflow]\ntracking_uri = "http://user:secret@far:5000"\n')

    done = mlobs_ui(tmp_path)

    assert (done.returncode, done.stdout.split()[-1]) == (0, "http://far:5000")
    assert "secret" not in done.stdout + done.stderr


def test_what_is_missing_is_said_with_what_to_type(tmp_path):
    nothing = mlobs_ui(tmp_path)
    assert nothing.returncode == 2
    assert "mlobs ui --backend NAME" in nothing.stderr

    no_database = mlobs_ui(tmp_path, "--backend", "mlflow")
    assert no_database.returncode == 2
    assert f"there is no {tmp_path}/mlflow.db yet" in no_database.stderr
    assert not list(tmp_path.iterdir())

    unknown = mlobs_ui(tmp_path, "--backend", "tensorbord")
    assert "did you mean 'tensorboard'" in unknown.stderr


def test_a_missing_package_is_said_with_the_line_that_installs_it(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "def found(name, package=None):\n"
        "    return None if name == 'tensorboard' else find(name, package)\n"
        "importlib.util.find_spec = found\n"
    )
    (tmp_path / "runs").mkdir()
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    done = mlobs_ui(tmp_path, "--backend", "tensorboard", PYTHONPATH=path)

    assert done.returncode == 2
    assert "pip install 'mlobs[tensorboard]'" in done.stderr
