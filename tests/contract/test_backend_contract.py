"""The shipped contract suite: the built-in backends keep it, and every broken one fails at its rule."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from broken_backends import BROKEN

import mlobs
from mlobs.backends.tensorboard_source import TensorBoardSource
from mlobs.testing import BackendContract, FlakyBackend, MemoryBackend

# MLflow 3.17 on SQLAlchemy 2.1: its own query, deprecated there
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mlflow")  # runs are apart by their ids, and a new database takes 1 s


class TestMLflow(BackendContract):
    loses = frozenset({"artifact.at", "artifact.role", "artifact.media_type"})  # it keeps files: a path alone

    @pytest.fixture
    def backend(self, folder):
        return mlobs.backends.MLflow(
            f"sqlite:///{folder}/mlflow.db", artifact_location=str(folder / "artifacts")
        )

    @pytest.fixture
    def unreachable(self):
        return mlobs.backends.MLflow("http://127.0.0.1:9")  # the port for discarding: nobody listens there


class TestTensorBoard(BackendContract):
    reads = TensorBoardSource.reads
    precision_s = 0.0

    @pytest.fixture
    def backend(self, tmp_path):
        return mlobs.backends.TensorBoard(str(tmp_path / "board"))

    @pytest.fixture
    def unreachable(self, tmp_path):
        (tmp_path / "file").write_text("no folder")
        return mlobs.backends.TensorBoard(str(tmp_path / "file" / "board"))


class TestMemory(BackendContract):
    precision_s = 0.0

    @pytest.fixture
    def backend(self):
        return MemoryBackend()

    @pytest.fixture
    def unreachable(self):
        return FlakyBackend(MemoryBackend(), ["unavailable"])

    def restarted(self, backend):
        return backend  # what it holds is in this process


@pytest.fixture(scope="module")
def failed():
    """The rules at which each broken backend failed, by its class's name."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-rf", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "broken_backends.py"], cwd=HERE, capture_output=True, text=True, timeout=120, check=False
    )
    rules: dict[str, set[str]] = {}
    for name, rule in re.findall(r"^FAILED \S+::Test(\w+)::(\w+(?:\[\w+\])?)", done.stdout, re.MULTILINE):
        rules.setdefault(name, set()).add(rule)
    assert rules, done.stdout + done.stderr
    return rules


@pytest.mark.parametrize("broken", BROKEN, ids=lambda cls: cls.__name__)
def test_a_backend_that_breaks_a_rule_fails_at_it(failed, broken):
    assert BROKEN[broken] in failed.get(broken.__name__, set())


def test_without_the_fixture_the_suite_says_what_to_write(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        "from mlobs.testing import BackendContract\nclass TestMine(BackendContract): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert "write a fixture `backend` that returns your backend" in done.stdout
