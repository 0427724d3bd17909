"""Real programs that track, their ends, and what each place holds of their runs afterwards."""

import contextlib
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import mlobs
from mlobs.delivery.claim import Claim
from mlobs.delivery.report import report
from mlobs.delivery.state import States
from mlobs.journal.process import is_alive
from mlobs.journal.store import Store

# `nohup`, or a shell's background, ignores these, and so would each program that is started here.
for name in ("SIGHUP", "SIGINT"):
    if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
        handler = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
        signal.signal(getattr(signal, name), handler)

PATIENCE_S = 120.0  # how long a reader may be polled: machines of continuous integration are slow


def environment(**more):
    """The environment of a program: this one's without settings of mlobs or MLflow; no snapshots.

    The end of a run may take longer than by default: on a busy machine it would say what is pending.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLOBS_", "MLFLOW_"))}
    return {**kept, "MLOBS_REPRO": "off", "MLOBS_FINISH_TIMEOUT_S": "60", **more}


def write(folder: Path, source: str, name="program.py") -> Path:
    """Write a program down; it runs in its own folder, where its store is `store`."""
    path = folder / name
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return path


def run(folder: Path, source: str, *arguments, timeout_s=60, **env):
    """Run a program to its end, and return how it ended and what it printed."""
    command = [sys.executable, str(write(folder, source)), *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@contextlib.contextmanager
def running(folder: Path, source: str, *arguments, **env):
    """Run a program beside the test; it is killed at the end, should it still live."""
    command = [sys.executable, str(write(folder, source)), *map(str, arguments)]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment(**env), stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def eventually(check, timeout_s=PATIENCE_S, look_s=0.02):
    """Return the first true answer of `check`; fail with its last answer if none comes in time."""
    deadline = time.monotonic() + timeout_s
    while not (answer := check()):
        assert time.monotonic() < deadline, f"still {answer!r} after {timeout_s} s"
        time.sleep(look_s)
    return answer


def note_figures(**figures) -> None:
    """Add a line of JSON to the file that MLOBS_TEST_FIGURES names, if it names one."""
    if path := os.environ.get("MLOBS_TEST_FIGURES"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")


class Counter:
    """A number in a file that a program counts up and that survives its death."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8)

    @property
    def value(self) -> int:
        return struct.unpack("<q", self._map[:8])[0]


COUNTING = """
import mmap, struct

class Counter:
    def __init__(self, path):
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8)
    def set(self, value):
        self._map[:8] = struct.pack("<q", value)
"""


def run_ids(folder: Path):
    """The runs in the store, oldest first."""
    return [one.run_id for one in Store(folder / "store").runs()]


def only_run(folder: Path):
    """The one run in the store."""
    (run_id,) = run_ids(folder)
    return mlobs.load_run(run_id, store=folder / "store")


def sender_of(folder: Path, run_id: str):
    """The living process that delivers a run, or None."""
    path = Store(folder / "store").run(run_id).delivery
    holder = Claim(path).holder() if path.exists() else None
    return holder.process if holder and is_alive(holder.process) else None


def delivered(folder: Path, run_id: str, *backends: str):
    """Whether these backends have answered for everything in the run, its end included."""
    run_folder = Store(folder / "store").run(run_id)
    reports = report(run_folder)
    if mlobs.load_run(run_id, store=folder / "store").end is None:
        return None
    return all(name in reports and reports[name].is_settled for name in backends)


def end_sender(folder: Path, run_id: str) -> None:
    """Ask the sender of a run to leave, and wait until it has."""
    sender = sender_of(folder, run_id)
    if sender is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(sender.pid, signal.SIGTERM)
        eventually(lambda: is_alive(sender) is False)


def local_points(folder: Path, run_id: str, key: str):
    """(step, value) as the store holds them, in recorded order."""
    frame = mlobs.metrics(store=folder / "store", run_ids=run_id, keys=key)
    return list(zip(frame["step"].tolist(), frame["value"].tolist(), strict=True))


def mlflow_runs(uri: str, experiment: str):
    """MLflow's runs of an experiment, as lists by the run id that mlobs gave them."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return {}
    runs, token = {}, None
    while True:
        page = client.search_runs([found.experiment_id], max_results=1000, page_token=token)
        for one in page:
            runs.setdefault(one.data.tags["mlobs.run_id"], []).append(one)
        token = page.token
        if not token:
            return runs


def mlflow_points(uri: str, mlflow_run_id: str, key: str):
    """(step, value) as MLflow's own client reads them, by time and step."""
    from mlflow import MlflowClient

    history = MlflowClient(uri).get_metric_history(mlflow_run_id, key)
    return [(one.step, one.value) for one in sorted(history, key=lambda one: (one.timestamp, one.step))]


def board_points(folder: Path, run_id: str, key: str, board="board"):
    """(step, value) as TensorBoard's own reader finds them in the run's folder, in recorded order."""
    delivery = Store(folder / "store").run(run_id).delivery
    ref = json.loads(States(delivery).refresh().of("tensorboard").ref)
    accumulator = EventAccumulator(str((folder / board / ref["file"]).parent), size_guidance={"scalars": 0})
    accumulator.Reload()
    return [(one.step, one.value) for one in accumulator.Scalars(key)]
