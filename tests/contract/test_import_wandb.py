"""The files that W&B's own client writes offline are imported right."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mlobs
from mlobs.moving.importing import import_runs

TRAINING = """
import sys, wandb
with wandb.init(project="proj", name="nice", config={"lr": 0.1, "opt": {"name": "adam"}}, tags=["t1"]) as run:
    for i in range(3):
        run.log({"loss": 1 / (i + 1), "nested": {"a": i}})
    run.log({"loss": float("nan"), "top": float("inf"), "h": wandb.Histogram([1, 1, 3]), "word": "s"})
    run.log({"cat": wandb.Image(__import__("PIL.Image").Image.new("L", (5, 4)))}, step=10)
    print("hello")
    run.summary["best"] = 3.5
    if "fail" in sys.argv:
        raise ValueError("no data")
"""


@pytest.fixture
def record(tmp_path):
    """Run a training under W&B's client, offline; the folder that it wrote."""
    pytest.importorskip("wandb")

    def recorded(*arguments, code=TRAINING):
        env = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path)}
        command = [sys.executable, "-c", code, *arguments]
        subprocess.run(command, env={**os.environ, **env}, cwd=tmp_path, check=False, timeout=120)
        return tmp_path / "wandb"

    return recorded


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def test_what_a_run_holds_is_in_the_store(record, store):
    (done,) = import_runs("wandb", str(record()), store=store)

    run = mlobs.load_run(done.run_id, store=store)
    assert (run.experiment, run.name, run.status) == ("proj", "nice", "FINISHED")
    assert run.params == {"lr": 0.1, "opt.name": "adam"}
    assert run.tags["wandb.tags"] == "t1"
    points = run.metrics[~run.metrics["key"].str.startswith("system/")]
    values = [(row.key, row.step, str(row.value)) for row in points.itertuples()]
    assert sorted(values) == sorted(
        [("loss", step, str(1 / (step + 1))) for step in range(3)]
        + [("nested.a", step, f"{step}.0") for step in range(3)]
        + [("loss", 3, "nan"), ("top", 3, "inf"), ("best", 10, "3.5")]
    )
    (histogram,) = run.histograms
    assert (sum(histogram.counts), histogram.step) == (3, 3)
    (image,) = [one for one in run.artifacts if one.role == "image"]
    assert (image.path, image.step) == ("cat.png", 10)
    assert "hello" in [line.message for line in run.logs()]
    assert done.left_out == {"values of 'word' that are no numbers": 1}


def test_an_import_again_adds_nothing_and_leaves_the_files_where_they_are(record, store):
    folder = record()
    files = sorted(folder.rglob("*"))
    (first,) = import_runs("wandb", str(folder), store=store)

    (again,) = import_runs("wandb", str(folder), store=store)

    assert (again.run_id, again.outcome, again.points) == (first.run_id, "unchanged", 0)
    assert sorted(folder.rglob("*")) == files


def test_a_training_that_failed_reads_failed(record, store):
    (done,) = import_runs("wandb", str(record("fail")), store=store)

    run = mlobs.load_run(done.run_id, store=store)
    assert (run.status, run.end.exit_code) == ("FAILED", 1)


def test_a_folder_without_such_files_is_said(tmp_path, store):
    with pytest.raises(mlobs.UsageError, match=r"no run-\*.wandb"):
        import_runs("wandb", str(tmp_path), store=store)


def test_without_the_package_the_command_says_what_to_install(tmp_path):
    (tmp_path / "run-1.wandb").write_bytes(b":W&B\xe1\xbe\x00")
    code = "import sys; sys.modules['wandb'] = None; from mlobs.cli import main; main()"
    command = ["import", "wandb", str(tmp_path), "--store", str(tmp_path / "store"), "--json"]

    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 2
    assert "pip install wandb" in done.stderr


def test_a_file_of_something_else_is_said(record, tmp_path, store):
    record(code="")
    other = Path(tmp_path / "run-x.wandb")
    other.write_bytes(json.dumps({"no": "run"}).encode())

    with pytest.raises(mlobs.UsageError, match="is no run file"):
        import_runs("wandb", str(other), store=store)
