"""Application Insights on every supported interpreter: client libraries differ by version of Python.

Each interpreter that is found gets an environment of its own, which is kept beside this one's packages;
one that is absent is skipped, and says so.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
THIS = f"{sys.version_info[0]}.{sys.version_info[1]}"
SUITES = ("test_appinsights.py", "test_appinsights_rules.py", "test_appinsights_handler.py")
HOSTILE = {"3.13": ["test_appinsights_trainings.py", "-k", "not demo"]}  # the newest; 50 s, so on one alone
SAY_VERSION = "import sys, venv; print(*sys.version_info[:2], sep='.')"


def found(version):
    """An interpreter of this version that works: from PATH, pyenv or uv."""
    names = [shutil.which(f"python{version}")]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    names += sorted(pyenv.glob(f"versions/{version}.*/bin/python3"))
    if uv := shutil.which("uv"):
        asked = subprocess.run([uv, "python", "find", version], capture_output=True, text=True, check=False)
        names.append(asked.stdout.strip())
    for name in filter(None, names):
        done = subprocess.run([name, "-c", SAY_VERSION], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return str(name)
    return None


def environment_of(interpreter, version):
    """The Python of an environment with mlobs, both transports and pytest."""
    folder = Path(sys.prefix) / "interpreters" / version
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([interpreter, "-m", "venv", folder], check=True, timeout=120)
        wanted = ["--editable", f"{ROOT}[appinsights,azure-monitor]", "pytest>=8"]
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *wanted], check=True, timeout=600)
        (folder / "ready").touch()
    return python


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_both_transports_keep_their_tests_on(version):
    if version == THIS:
        pytest.skip(f"Python {version} is the one that runs these tests")
    interpreter = found(version)
    if interpreter is None:
        pytest.skip(f"no Python {version} is on PATH, or with pyenv or uv")
    python = environment_of(interpreter, version)

    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SUITES, *HOSTILE.get(version, ())],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip

    if done.returncode != 0:
        pytest.fail(done.stdout[-6000:] + done.stderr[-2000:])
