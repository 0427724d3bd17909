"""Azure ML on each Python that mlobs runs on: the contract and a job, in a fresh environment with the SDK."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATASETS, WITH_DATASETS = "azureml-dataset-runtime>=1.61,<1.63", "3.10"  # 250 MB: on one Python alone
TESTS = ("tests/contract/test_azureml.py", "tests/contract/test_azureml_job.py")


def interpreter(version: str) -> str | None:
    """The newest Python of this version that pyenv, uv or the PATH offers."""
    folders = (
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions"),
        Path(os.environ.get("UV_PYTHON_INSTALL_DIR", Path.home() / ".local/share/uv/python")),
    )
    found = [
        path
        for folder in folders
        for path in folder.glob(f"*{version}.*/bin/python{version}")
        if path.exists()
    ]
    found.sort(key=lambda path: [int(part) for part in path.parts[-3].split(".") if part.isdigit()])
    return str(found[-1]) if found else shutil.which(f"python{version}")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_the_contract_is_kept_on_each_python(version, tmp_path):
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        pytest.skip(f"Python {version} runs these tests anyway")
    python = interpreter(version)
    if python is None:
        pytest.skip(f"neither pyenv nor uv nor the PATH has a Python {version}")

    venv = tmp_path / "venv"
    own = str(venv / "bin" / "python")
    packages = ["-e", f"{ROOT}[azureml]", "pytest>=8", *([DATASETS] if version == WITH_DATASETS else [])]
    install = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    command = [own, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *TESTS]
    for step in ([python, "-m", "venv", str(venv)], install, command):
        done = subprocess.run(step, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    assert " passed" in done.stdout
    assert " failed" not in done.stdout
