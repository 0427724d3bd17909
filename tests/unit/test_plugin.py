"""The fixtures that mlobs gives to everybody's tests."""

import subprocess
import sys

import mlobs

PROGRAM = """
import mlobs
import pytest

def test_it_records(mlobs_tracker, mlobs_backend):
    run = mlobs_tracker.start_run(params={"lr": 0.1})
    run.log_metric("loss", 0.5, step=3)
    with pytest.raises(mlobs.UsageError):
        run.log_metric("loss", "high")
    mlobs_backend.left_open = run

def test_the_next_test_has_a_store_of_its_own(mlobs_tracker, tmp_path):
    assert mlobs.current_run() is None
    with mlobs.start_run() as run:
        pass
    assert mlobs.runs(store=tmp_path / "mlobs")["run_id"].tolist() == [run.id]
    assert list(run.delivery()) == ["memory"]
"""


def test_the_fixtures_work_in_a_project_whose_settings_are_others(tmp_path):
    (tmp_path / "test_train.py").write_text(PROGRAM)
    (tmp_path / "mlobs.toml").write_text('backends = ["mlflow"]\nmode = "disabled"\n')
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": "", "MLOBS_BACKENDS": "tensorboard", "MLOBS_CAPTURE": "x"},
    )  # fmt: skip

    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_what_a_test_leaves_open_is_ended(mlobs_tracker, mlobs_backend):
    run = mlobs_tracker.start_run()
    run.log_metric("loss", 0.5)
    assert mlobs.current_run() is run
    assert mlobs_backend.name == "memory"


def test_no_run_is_left_of_the_test_before():
    assert mlobs.current_run() is None


def test_pytest_starts_without_loading_mlobs():
    code = (
        "import sys, mlobs.testing.plugin\n"
        "print([name for name in ('msgspec', 'numpy', 'mlobs.events') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == "[]"
