"""A disk that is full, read-only or odd costs calls, which are counted and said, never the training."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from programs import board_points, delivered, environment, eventually, only_run, run, run_ids

import mlobs
from mlobs.delivery.report import report
from mlobs.journal.files import can_map, file_system
from mlobs.journal.store import Store


@contextlib.contextmanager
def mounted(folder: Path, kind: str, source: str, options: str = ""):
    """Mount a real file system; skip visibly where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", kind, *(["-o", options] if options else []), source, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"{kind} cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small(tmp_path):
    """A disk of 2 MB, on which files can be mapped."""
    with mounted(tmp_path / "small", "tmpfs", "tmpfs", "size=2m") as folder:
        yield folder


FILLING = """
import os, pathlib, sys
import mlobs
store, hog = pathlib.Path(sys.argv[1], "store"), pathlib.Path(sys.argv[1], "hog")
run = mlobs.Tracker("disk", store=store).start_run(params={"lr": 0.1})
recorded = 0
def log(n):
    global recorded
    before = run._troubles.total()
    run.log_metric("a", 1.0, step=n)
    recorded += run._troubles.total() == before
    return run._troubles.total() == before
n = 0
while log(n):
    n += 1
first = n
run.log_text("note", "x" * 100_000)
for n in range(first + 1, first + 1000):
    log(n)
if sys.argv[2:]:
    hog.unlink()
    run.log_text("later", "y" * 100_000)
    for n in range(first + 1000, first + 2000):
        log(n)
run.finish()
print(first, recorded)
"""


def test_a_full_disk_is_said_counted_and_survived(small, tmp_path):
    (small / "hog").write_bytes(bytes(500_000))
    done = run(tmp_path, FILLING, small, "then room")

    assert done.returncode == 0, done.stderr
    first, recorded = map(int, done.stdout.split())
    assert done.stderr.count("log_metric('a') was not recorded") == 1
    assert "free the disk" in done.stderr
    assert "calls were not recorded" in done.stderr
    (run_id,) = run_ids(small)
    record = mlobs.load_run(run_id, store=small / "store")
    assert (record.status, record.params, record.damage) == ("FINISHED", {"lr": 0.1}, ())
    frame = mlobs.metrics(store=small / "store")
    steps = frame["step"].tolist()
    assert len(steps) == recorded
    assert steps[:first] == list(range(first))
    assert steps[-1000:] == list(range(first + 1000, first + 2000))
    assert record.end.unrecorded == 2000 - recorded + first + 1
    assert [one.path for one in record.artifacts] == ["later.txt"]


def test_a_disk_that_stays_full_leaves_a_readable_record_and_a_crashed_run(small, tmp_path):
    """There is no room for the end either; who reads finds out that the process is gone."""
    done = run(tmp_path, FILLING, small)

    assert done.returncode == 0, done.stderr
    assert "the end is not in the store" in done.stderr
    _, recorded = map(int, done.stdout.split())
    (run_id,) = run_ids(small)
    record = mlobs.load_run(run_id, store=small / "store")
    assert record.status in ("CRASHED", "FINISHED")  # room for one more record is sometimes left
    assert len(mlobs.metrics(store=small / "store")) == recorded


STARTING_FULL = """
import pathlib, sys
import mlobs
folder = pathlib.Path(sys.argv[1])
tracker = mlobs.Tracker("disk", store=folder / "store")
try:
    (folder / "hog").write_bytes(bytes(3_000_000))
except OSError:
    pass
with tracker.start_run("full") as run:
    for step in range(100):
        run.log_metric("a", 1.0, step=step)
(folder / "hog").unlink()
with tracker.start_run("roomy") as run:
    run.log_metric("a", 1.0)
print("done")
"""


def test_a_run_that_begins_on_a_full_disk_says_so_once_and_the_next_one_records(small, tmp_path):
    done = run(tmp_path, STARTING_FULL, small)

    assert done.stdout.strip() == "done", done.stderr
    assert done.stderr.count("will be recorded") == 1
    assert [mlobs.load_run(one, store=small / "store").name for one in run_ids(small)] == ["roomy"]


def test_a_read_only_store_is_refused_before_training(tmp_path):
    with mounted(tmp_path / "ro", "tmpfs", "tmpfs", "size=1m") as folder:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        with pytest.raises(mlobs.StoreError, match="Read-only file system - choose another store"):
            mlobs.Tracker("disk", store=folder / "store")


TRACKED = """
import sys
import mlobs
backends = [mlobs.backends.TensorBoard(logdir="board")]
with mlobs.Tracker("odd", store=sys.argv[1] + "/store", backends=backends).start_run() as run:
    for step in range(1000):
        run.log_metric("a", 1.0, step=step)
    run.log_text("note", "x" * 100_000)
"""


def vfat(tmp_path):
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    try:
        subprocess.run(["mkfs.vfat", str(image)], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("there is no mkfs.vfat")
    return mounted(tmp_path / "odd", "vfat", str(image), "loop")


def overlay(tmp_path):
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    return mounted(tmp_path / "odd", "overlay", "overlay", options)


def ramfs(tmp_path):
    return mounted(tmp_path / "odd", "ramfs", "ramfs")


@pytest.mark.parametrize("make", [ramfs, overlay, vfat])
def test_a_file_system_that_cannot_be_mapped_safely_is_written_to(tmp_path, make):
    with make(tmp_path) as folder:
        assert not can_map(folder)
        done = run(tmp_path, TRACKED, folder)
        assert done.returncode == 0, done.stderr
        (run_id,) = run_ids(folder)
        eventually(lambda: delivered(folder, run_id, "tensorboard"))
        assert len(mlobs.metrics(store=folder / "store")) == 1000
        record = mlobs.load_run(run_id, store=folder / "store")
        assert (record.status, record.damage) == ("FINISHED", ())
        command = [sys.executable, "-m", "mlobs", "doctor"]
        settings = environment(MLOBS_STORE=str(folder / "store"))
        told = subprocess.run(command, cwd=tmp_path, env=settings, stdout=subprocess.PIPE, check=False)
        assert f"written record by record: {file_system(folder)}" in told.stdout.decode()


@pytest.mark.slow
def test_all_that_is_intact_around_a_damage_is_read_and_delivered_and_the_damage_is_told(tmp_path):
    run(tmp_path, TRACKED, tmp_path, MLOBS_MODE="offline")
    record = only_run(tmp_path)
    (journal,) = record.folder.journals()
    content = bytearray(journal.read_bytes())
    for offset in (len(content) // 3, len(content) // 2):
        content[offset] ^= 0xFF
    journal.write_bytes(bytes(content[:-5]))  # and the end is torn off

    command = [sys.executable, "-m", "mlobs", "sync", "--store", "store"]
    subprocess.run(command, cwd=tmp_path, env=environment(), check=False, timeout=120)

    read = mlobs.metrics(store=tmp_path / "store")["step"].tolist()
    assert 996 <= len(read) < 1000
    assert read[0] == 0
    assert read[-1] == 999
    assert [step for step, _ in board_points(tmp_path, record.run_id, "a")] == read
    shown = subprocess.run(
        [sys.executable, "-m", "mlobs", "show", record.run_id, "--store", "store"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "damage" in shown.stdout
    assert report(Store(tmp_path / "store").run(record.run_id))["tensorboard"].is_settled
