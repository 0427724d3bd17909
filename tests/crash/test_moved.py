"""Late and moved work: back-filled, copied while it grows, and delivered from wherever the store is."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from programs import (
    environment,
    eventually,
    local_points,
    mlflow_points,
    mlflow_runs,
    run_ids,
    running,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import mlobs
from mlobs.delivery.registry import public_spec, spec_of
from mlobs.delivery.report import report
from mlobs.delivery.start import find_start
from mlobs.events import Metrics, Params, RunFinished, RunStarted, Tags
from mlobs.journal.process import this_process
from mlobs.journal.store import Store
from mlobs.journal.writer import Writer
from mlobs.sender.foreground import sync

pytestmark = pytest.mark.slow

MONTH_S = 30 * 86400.0


def copied(source: Path, target: Path) -> None:
    """Copy a store over an older copy as rsync does: file by file, as each is at its moment."""
    if shutil.which("rsync"):
        done = subprocess.run(["rsync", "-a", f"{source}/", f"{target}/"], check=False, timeout=60)
        assert done.returncode in (0, 24)  # 24: a file vanished meanwhile
        return
    for path in sorted(source.rglob("*")):
        there = target / path.relative_to(source)
        if path.is_dir():
            there.mkdir(parents=True, exist_ok=True)
        elif path.is_file():
            there.parent.mkdir(parents=True, exist_ok=True)
            unfinished = there.with_name(f".{there.name}.copying")
            unfinished.write_bytes(path.read_bytes())
            unfinished.replace(there)


def board_scalars(board: Path, key: str):
    """(step, value) of the one run below a log folder that has this metric, by TensorBoard's own reader."""
    found = []
    for folder in {path.parent for path in board.rglob("*tfevents*")}:
        accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        if key in accumulator.Tags()["scalars"]:
            found.append([(one.step, one.value) for one in accumulator.Scalars(key)])
    (only,) = found
    return only


def sync_command(folder, *arguments, **env):
    return subprocess.run(
        [sys.executable, "-m", "mlobs", "sync", *arguments],
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def has_begun(folder):
    """Tell whether the growing run is there, with its first event."""
    return run_ids(folder) == ["grows"] and find_start(Store(folder / "store").run("grows")) is not None


def recorded(store, run_id, at, *events, **facts):
    """Record a run as it was recorded at another time."""
    facts = {"experiment": "late", "name": run_id, **facts}
    writer = Writer(store.new_run(run_id).path, run_id, is_opener=True)
    writer.append(RunStarted(at, run_id, process=this_process(), **facts))
    for event in (*events, RunFinished(at + 60, "FINISHED")):
        writer.append(event)
    writer.close()


def test_a_backend_that_nobody_had_named_is_back_filled_one_run_at_a_time(tmp_path):
    store, at = Store(tmp_path / "store"), time.time() - 3600
    store.create()
    points = [Metrics(at + step, step, {"loss": step / 4}) for step in range(20)]
    recorded(store, "parent", at, Params(at, {"lr": 0.1}), Tags(at, {"team": "x"}), *points)
    recorded(store, "child", at, Metrics(at, 0, {"score": 1.5}), parent_run_id="parent")
    recorded(store, "later", at + 60, Metrics(at, 0, {"score": 2.5}), parent_run_id="parent")
    recorded(store, "other", at)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    asked = ("--store", "store", "--backend", "mlflow", "--backend", "tensorboard")

    for run_id in ("child", "parent", "later", "parent"):  # one child run before its parent
        done = sync_command(tmp_path, run_id, *asked, MLFLOW_TRACKING_URI=uri)
        assert done.returncode == 0, done.stdout + done.stderr

    runs = mlflow_runs(uri, "late")
    assert set(runs) == {"parent", "child", "later"}
    (parent,), (child,), (later,) = runs["parent"], runs["child"], runs["later"]
    assert (parent.info.status, parent.data.params) == ("FINISHED", {"lr": "0.1"})
    assert parent.data.tags["team"] == "x"
    assert mlflow_points(uri, parent.info.run_id, "loss") == local_points(tmp_path, "parent", "loss")
    for below in (child, later):
        assert below.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert board_scalars(tmp_path / "runs" / "late" / "parent-parent", "loss") == [
        (step, step / 4) for step in range(20)
    ]
    assert board_scalars(tmp_path / "runs" / "late" / "child-child", "score") == [(0, 1.5)]
    assert not list((tmp_path / "runs").rglob("other*"))


def test_runs_of_a_month_offline_arrive_with_the_times_of_then(tmp_path):
    store, began = Store(tmp_path / "store"), round(time.time() - MONTH_S)
    store.create()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    backends = [mlobs.backends.MLflow(uri), mlobs.backends.TensorBoard(str(tmp_path / "board"))]
    specs = tuple(public_spec(spec_of(backend)) for backend in backends)
    for index in range(50):
        at = began + index * 3600.0
        points = [
            Metrics(at + 10, 0, {"loss": 0.5}),
            Metrics(at - 3590, 1, {"loss": 0.25}),
        ]  # set back between
        recorded(store, f"r{index:02d}", at, *points, experiment="month", backends=specs)

    assert all(one.is_settled for one in sync(store.runs()))

    runs = mlflow_runs(uri, "month")
    assert len(runs) == 50
    for index in range(50):
        (there,) = runs[f"r{index:02d}"]
        at = (began + index * 3600) * 1000
        assert (there.info.start_time, there.info.end_time) == (at, at + 60_000)
    points = MlflowClient(uri).get_metric_history(runs["r07"][0].info.run_id, "loss")
    at = began + 7 * 3600
    assert {(one.step, one.timestamp) for one in points} == {(0, (at + 10) * 1000), (1, (at - 3590) * 1000)}
    (folder,) = {path.parent for path in (tmp_path / "board").rglob("*tfevents*") if "r07-" in str(path)}
    first, second = EventAccumulator(str(folder)).Reload().Scalars("loss")
    assert (first.wall_time, second.wall_time) == (at + 10, at - 3590)


GROWING = """
import os, sys, time
import mlobs
tracker = mlobs.Tracker("moved", store="store", finish_timeout_s=60, mode=sys.argv[1],
                        backends=[mlobs.backends.MLflow("sqlite:///mlflow.db")] + eval(sys.argv[2]))
with tracker.start_run("grows", run_id="grows") as run:
    for step in range(3000):
        run.log_metric("loss", step / 4, step=step)
        if step % 500 == 0:
            run.log_text(f"notes-{step}", "x" * 100_000)
        time.sleep(0.001)
    for _ in range(1200):
        if not os.path.exists("wait"):
            break
        time.sleep(0.05)
"""


COPIES = 3


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_store_that_is_copied_while_it_grows_is_delivered_from_both_places_once(tmp_path, mode):
    original, copy = tmp_path / "store", tmp_path / "elsewhere" / "copy"
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    copies = 0
    (tmp_path / "wait").touch()
    with running(tmp_path, GROWING, mode, "[]") as training:
        eventually(lambda: has_begun(tmp_path))
        while training.poll() is None:
            copied(original, copy)
            (synced,) = sync(Store(copy).runs(), patience_s=60)
            copies += 1
            if copies == COPIES:
                (tmp_path / "wait").unlink()
        assert training.returncode == 0, (tmp_path / "output").read_text()
    copied(original, copy)
    (synced,) = sync(Store(copy).runs(), patience_s=60)

    assert copies >= COPIES
    total = len(list(mlobs.load_run("grows", store=copy).events()))
    there = report(Store(copy).run("grows"))["mlflow"]
    assert (there.delivered, total) == (total, 3008), there  # each once
    assert synced.is_settled, synced
    (there,) = mlflow_runs(uri, "moved")["grows"]
    assert there.info.status == "FINISHED"
    expected = [(step, step / 4) for step in range(3000)]
    assert mlflow_points(uri, there.info.run_id, "loss") == expected
    for place in (original, copy):
        frame = mlobs.metrics(store=place)
        assert list(frame["step"]) == list(range(3000))
        assert mlobs.load_run("grows", store=place).status == "FINISHED"
    assert len(MlflowClient(uri).list_artifacts(there.info.run_id)) == 6


def test_a_copy_of_a_run_that_goes_on_elsewhere_is_not_ended_by_a_sync(tmp_path):
    with running(tmp_path, GROWING, "offline", "[]") as training:
        eventually(lambda: has_begun(tmp_path))
        copied(tmp_path / "store", tmp_path / "copy")
        sync(Store(tmp_path / "copy").runs())
        assert mlobs.load_run("grows", store=tmp_path / "copy").status == "RUNNING"
        (there,) = mlflow_runs(f"sqlite:///{tmp_path}/mlflow.db", "moved")["grows"]
        assert there.info.status == "RUNNING"
        assert training.poll() is None


BOARD = "[mlobs.backends.TensorBoard('board')]"


def test_a_copy_neither_cuts_nor_stops_the_board_of_an_original_that_has_begun_it(tmp_path):
    with running(tmp_path, GROWING, "online", BOARD) as training:
        eventually(lambda: has_begun(tmp_path))
        folder = Store(tmp_path / "store").run("grows")
        eventually(lambda: [one for one in report(folder).values() if one.delivered])
        copied(tmp_path / "store", tmp_path / "copy")
        for _ in range(3):
            sync(Store(tmp_path / "copy").runs(), only=["tensorboard"], patience_s=1)
        assert training.wait(timeout=120) == 0, (tmp_path / "output").read_text()

    eventually(lambda: report(Store(tmp_path / "store").run("grows"))["tensorboard"].is_settled)
    assert board_scalars(tmp_path / "board", "loss") == [(step, step / 4) for step in range(3000)]
