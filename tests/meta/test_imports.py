"""What `import mlobs` brings into a training process, and what starting a run does."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY_PACKAGES = """
    numpy pandas pyarrow mlflow tensorboard tensorboardX google torch tensorflow sklearn azure azureml msrest
    opencensus opentelemetry sqlalchemy requests rich typer click
"""
HEAVY = HEAVY_PACKAGES.split()
LOOK = f"""
import json, logging, sys, threading
print(json.dumps({{
    "heavy": [name for name in {HEAVY!r} if name in sys.modules],
    "threads": [one.name for one in threading.enumerate()],
    "handlers": [repr(one) for one in logging.getLogger().handlers + logging.getLogger("mlobs").handlers],
}}))
"""
IDLE = {"heavy": [], "threads": ["MainThread"], "handlers": []}


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("import mlobs", id="the package"),
        pytest.param("from mlobs import *", id="every public name but those that read frames"),
        pytest.param(
            "from mlobs import Tracker, start_run\nrun = start_run()\nrun.log_metric('loss', 1.0)", id="a run"
        ),
        pytest.param(
            "import mlobs\n@mlobs.track\ndef train(lr=0.1):\n    return {'loss': lr}\ntrain()",
            id="the decorator",
        ),
    ],
)
def test_a_training_process_gets_no_vendor_no_pandas_no_thread_and_no_log_handler(
    tmp_path: Path, program: str
) -> None:
    assert look(tmp_path, program) == IDLE


def test_naming_backends_loads_no_vendor_into_the_training_process(tmp_path: Path) -> None:
    program = (
        "import mlobs\n"
        "tracker = mlobs.Tracker(backends=['mlflow', 'tensorboard', 'azureml'], mode='offline')\n"
        "run = tracker.start_run()\nrun.log_metric('loss', 1.0)"
    )

    assert look(tmp_path, program) == IDLE


def test_import_mlobs_loads_none_of_its_own_modules_yet(tmp_path: Path) -> None:
    program = "import sys, mlobs\nprint(sorted(name for name in sys.modules if name.startswith('mlobs.')))"

    assert python(tmp_path, program).splitlines() == ["[]"]


def look(folder: Path, program: str) -> dict[str, list[str]]:
    import json

    answer: dict[str, list[str]] = json.loads(python(folder, program + LOOK).splitlines()[0])
    return answer


def python(folder: Path, program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
