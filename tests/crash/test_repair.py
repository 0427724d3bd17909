"""Runs whose machine is gone: shown as stale, ended by `mlobs repair` here and in every backend."""

import subprocess
import sys
import time

import pytest
from programs import board_points, environment, eventually, mlflow_runs, run_ids, running

import mlobs
from mlobs.backends import MLflow, TensorBoard
from mlobs.delivery.registry import spec_of
from mlobs.delivery.state import States, StateWriter, Vitals
from mlobs.events import Metrics, Process, RunFinished, RunStarted
from mlobs.journal.files import open_file
from mlobs.journal.format import FORMAT, Header, encode, frame
from mlobs.journal.store import RunFolder, Store, new_run_id
from mlobs.read.status import STALE_AFTER_S

FAR = Process(host="a-host-that-is-not-this-one", pid=1, boot_id="another/1", started=1)


class FarAway:
    """A run of a process on another host, whose store is shared: its journal, and its sender's words."""

    def __init__(self, folder, ago_s: float):
        self.store = Store(folder / "store")
        self.store.create()
        self.at = time.time() - ago_s
        run_id = new_run_id(self.at)
        self.folder: RunFolder = self.store.new_run(run_id)
        backends = (
            MLflow(tracking_uri=f"sqlite:///{folder}/mlflow.db"),
            TensorBoard(logdir=str(folder / "board")),
        )
        path = self.folder.path / "far-1-abc.journal"
        self._file = open_file(path, mapped=False)
        self.write(Header(FORMAT, run_id, path.stem, FAR, self.at, is_opener=True))
        specs = tuple(map(spec_of, backends))
        self.write(RunStarted(self.at, run_id, "far", "away", FAR, backends=specs))
        self.write(Metrics(self.at + 1, 0, {"loss": 0.5}))

    def write(self, event):
        self._file.append(frame(encode(event)))

    def gives_a_sign(self, at):
        """What its sender leaves every minute."""
        self.folder.delivery.mkdir(exist_ok=True)
        StateWriter(self.folder.delivery, "far-sender-vitals").append(Vitals(at, 1.0, 1 << 20, 19))

    @property
    def record(self):
        return mlobs.load_run(self.folder.run_id, store=self.store.path)


def mlobs_command(folder, *arguments):
    command = [sys.executable, "-m", "mlobs", *arguments, "--store", "store"]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )


def test_a_run_of_another_host_is_running_as_long_as_it_gives_signs_of_life(tmp_path):
    silent, watched = FarAway(tmp_path, ago_s=STALE_AFTER_S + 60), FarAway(tmp_path, ago_s=STALE_AFTER_S + 60)
    watched.gives_a_sign(time.time() - 30)

    assert (silent.record.status, silent.record.is_stale) == ("RUNNING", True)
    assert "stale: no sign of life" in silent.record.reason
    assert "mlobs repair" in silent.record.reason
    assert (watched.record.status, watched.record.is_stale) == ("RUNNING", False)
    listed = mlobs_command(tmp_path, "runs").stdout
    assert listed.count("RUNNING (stale)") == 1


@pytest.mark.slow
def test_repair_ends_a_stale_run_here_and_in_every_backend(tmp_path):
    far = FarAway(tmp_path, ago_s=7200)
    far.gives_a_sign(time.time() - 3600)

    done = mlobs_command(tmp_path, "repair")

    assert done.returncode == 0, done.stderr
    assert f"{far.folder.run_id}: ended as CRASHED: stale" in done.stdout
    record = far.record
    assert (record.status, record.ended.timestamp()) == ("CRASHED", pytest.approx(time.time() - 3600, abs=60))
    (there,) = mlflow_runs(f"sqlite:///{tmp_path}/mlflow.db", "far")[far.folder.run_id]
    assert there.info.status == "FAILED"
    assert there.data.tags["mlobs.status"] == "CRASHED"
    assert there.data.tags["mlobs.reason"] == record.reason
    assert board_points(tmp_path, far.folder.run_id, "loss") == [(0, 0.5)]

    again = mlobs_command(tmp_path, "repair")
    assert again.returncode == 0
    assert "every run" in again.stdout
    assert len(far.folder.journals()) == 2


@pytest.mark.slow
def test_who_comes_back_loses_nothing_and_has_the_last_word(tmp_path):
    far = FarAway(tmp_path, ago_s=7200)
    far.gives_a_sign(time.time() - 3600)
    assert mlobs_command(tmp_path, "repair").returncode == 0

    far.write(Metrics(time.time(), 1, {"loss": 0.25}))
    far.write(RunFinished(time.time(), "FINISHED"))
    assert mlobs_command(tmp_path, "sync").returncode == 0

    assert (far.record.status, far.record.reason) == ("FINISHED", "")
    (there,) = mlflow_runs(f"sqlite:///{tmp_path}/mlflow.db", "far")[far.folder.run_id]
    assert there.info.status == "FINISHED"
    assert there.data.tags.get("mlobs.status", "FINISHED") == "FINISHED"
    assert not there.data.tags.get("mlobs.reason")
    assert there.data.metrics == {"loss": 0.25}
    assert board_points(tmp_path, far.folder.run_id, "loss") == [(0, 0.5), (1, 0.25)]


@pytest.mark.slow
def test_a_silent_run_that_no_sender_watched_is_ended_only_by_name(tmp_path):
    """Its training may be silent for hours; only its user can know."""
    far = FarAway(tmp_path, ago_s=7200)

    done = mlobs_command(tmp_path, "repair")
    assert (done.returncode, far.record.status) == (0, "RUNNING")
    assert "name it to end it" in done.stdout

    mlobs_command(tmp_path, "repair", far.folder.run_id)
    assert far.record.status == "CRASHED"


@pytest.mark.slow
def test_a_run_that_may_be_running_is_ended_only_by_force(tmp_path):
    far = FarAway(tmp_path, ago_s=30)

    refused = mlobs_command(tmp_path, "repair", far.folder.run_id)
    assert (refused.returncode, far.record.status) == (1, "RUNNING")
    assert "--force" in refused.stderr

    mlobs_command(tmp_path, "repair", far.folder.run_id, "--force")
    assert far.record.status == "CRASHED"


LIVING = """
import time
import mlobs
run = mlobs.Tracker("living", store="store").start_run()
run.log_metric("a", 1.0)
time.sleep(60)
"""


def test_a_run_whose_process_lives_is_never_ended(tmp_path):
    with running(tmp_path, LIVING) as program:
        eventually(lambda: (tmp_path / "store/runs").exists() and run_ids(tmp_path))
        eventually(lambda: mlobs.load_run("latest", store=tmp_path / "store").last_metrics)
        done = mlobs_command(tmp_path, "repair", "latest", "--force")

        assert done.returncode == 1
        assert f"is being recorded by pid {program.pid}" in done.stderr
        assert mlobs.load_run("latest", store=tmp_path / "store").status == "RUNNING"

    unasked = mlobs_command(tmp_path, "repair")  # it was killed
    assert "ended as CRASHED: its process vanished" in unasked.stdout
    assert mlobs.load_run("latest", store=tmp_path / "store").end.status == "CRASHED"


WATCHED = """
import mlobs
run = mlobs.Tracker("watched", backends=["tensorboard"], store="store").start_run()
run.log_metric("a", 1.0)
run.finish()
"""


def test_the_sender_says_what_it_costs(tmp_path):
    with running(tmp_path, WATCHED) as program:
        assert program.wait(timeout=60) == 0
    (folder,) = Store(tmp_path / "store").runs()
    eventually(lambda: States(folder.delivery).refresh().vitals)

    (said,) = States(folder.delivery).refresh().vitals.values()
    assert said.cpu_s > 0
    assert 10e6 < said.peak_bytes < 1e9
    assert said.niceness == 19
    shown = mlobs_command(tmp_path, "show", "latest").stdout
    assert "niceness 19" in shown


def test_of_a_run_that_may_be_running_repair_says_what_to_type(tmp_path):
    """Without a name `--force` ends nothing: it would end the runs of every other host."""
    far = FarAway(tmp_path, ago_s=60)

    done = mlobs_command(tmp_path, "repair", "--force")

    assert "may be running: on another host" in done.stdout
    assert "name it, with --force" in done.stdout
    assert far.record.status == "RUNNING"
