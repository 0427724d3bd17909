"""An environment made again from its record, by the real pip and the real uv, from the real index."""

import os
import shutil
import socket
import subprocess
import sys

import msgspec
import pytest

from mlobs.errors import UsageError
from mlobs.repro.environment import CondaPackage, EnvironmentRecord, capture_environment, environment_digest
from mlobs.repro.installers import find_interpreter, interpreter_facts
from mlobs.repro.packages import Package, installed
from mlobs.repro.recreate import recreate, requirement

WANTED = ["six==1.17.0", "idna==3.10", "packaging==25.0"]  # pure Python, a few files each
INDEX_PORT = 443


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """The record of an environment that pip made."""
    if not has_index():
        pytest.skip("no index of packages can be reached")
    folder = tmp_path_factory.mktemp("original")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, *WANTED]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    found = capture_environment([str(folder)])
    assert len(found.packages) == len(WANTED)
    return found


@pytest.fixture(params=["uv", "pip"])
def tool(request):
    if request.param == "uv" and shutil.which("uv") is None:
        pytest.skip("uv is not on PATH")
    return request.param


def has_index():
    if os.environ.get("PIP_INDEX_URL") or os.environ.get("PIP_FIND_LINKS"):
        return True
    try:
        with socket.create_connection(("pypi.org", INDEX_PORT), timeout=5):
            return True
    except OSError:
        return False


def with_packages(record, *packages):
    return EnvironmentRecord(record.python, record.platform, (*record.packages, *packages), record.digest)


@pytest.mark.slow
def test_the_same_wheels_on_the_same_python(record, tool, tmp_path):
    made = recreate(record, tmp_path / "env", tool=tool, log=tmp_path / "log.txt")

    assert (made.missing, made.differing) == ([], [])
    facts = interpreter_facts(made.python)
    assert facts.version == record.python["version"]
    digest = environment_digest(facts.implementation, facts.version, installed(facts.sys_path))
    assert digest == record.digest
    subprocess.run([made.python, "-I", "-c", "import six, idna, packaging"], check=True)


@pytest.mark.slow
def test_what_cannot_be_had_is_listed_and_the_rest_is_there(record, tool, tmp_path):
    code = Package("mine", "0.1", source="file:///home/me/mine", is_editable=True, root="/home/me/mine")
    gone = Package("certifi", "1999.1.1")  # a version that never was

    made = recreate(with_packages(record, code, gone), tmp_path / "env", tool=tool, log=tmp_path / "log.txt")

    assert sorted(line.split(":")[0] for line in made.missing) == ["certifi 1999.1.1", "mine 0.1"]
    assert made.differing == []
    assert "certifi" in (tmp_path / "log.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_of_a_conda_environment_the_rest_is_listed(record, tool, tmp_path):
    of_conda = msgspec.structs.replace(record, conda=(CondaPackage("libblas", "3.9.0", "openblas"),))

    made = recreate(of_conda, tmp_path / "env", tool=tool, log=tmp_path / "log.txt")

    assert made.missing == ["1 conda packages: those of Python come from the index instead"]


@pytest.mark.slow
def test_the_same_version_with_other_files_is_named(record, tool, tmp_path):
    six = next(one for one in record.packages if one.name == "six")
    other = Package(six.name, six.version, "0" * 64)
    patched = EnvironmentRecord(record.python, record.platform, (other,), record.digest)

    made = recreate(patched, tmp_path / "env", tool=tool, log=tmp_path / "log.txt")

    assert made.differing == ["six 1.17.0: same version, other files"]


@pytest.mark.slow
def test_the_users_own_environment_is_not_touched(record, tool, tmp_path, monkeypatch):
    before = installed()
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "target"))

    recreate(record, tmp_path / "env", tool=tool, log=tmp_path / "log.txt")

    assert installed() == before
    assert not (tmp_path / "target").exists()


def test_another_patch_of_python_is_accepted_and_a_minor_version_is_not():
    major, minor, _ = sys.version_info[:3]

    assert find_interpreter(sys.implementation.name, f"{major}.{minor}.999", os.environ)
    assert find_interpreter(sys.implementation.name, "3.2.0", os.environ) is None


def test_a_python_that_is_nowhere_is_refused_with_what_to_do(tmp_path):
    ancient = EnvironmentRecord({"implementation": "cpython", "version": "3.2.1"}, {}, (), "")

    with pytest.raises(UsageError, match=r"no cpython 3\.2 is on PATH - install it, or uv"):
        recreate(ancient, tmp_path / "env", tool="pip", log=tmp_path / "log.txt")


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "mine.txt").touch()

    with pytest.raises(UsageError, match="is not empty"):
        recreate(capture_environment([]), tmp_path, log=tmp_path / "log.txt")


def test_uv_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UsageError, match="uv is not on PATH"):
        recreate(capture_environment([]), tmp_path / "env", tool="uv", log=tmp_path / "log.txt")


def test_a_package_from_version_control_is_asked_for_at_its_commit():
    package = Package("tiny", "1.0", source="git+https://github.com/me/tiny.git@c0ffee")

    assert requirement(package) == "tiny @ git+https://github.com/me/tiny.git@c0ffee"


@pytest.mark.slow
def test_a_build_that_pypi_never_has_is_refused_with_where_it_may_be(record, tool, tmp_path):
    lacking = with_packages(record, Package("torch", "0.0.0+cpu"))

    made = recreate(lacking, tmp_path / "env", tool=tool, log=tmp_path / "log.txt")

    (said,) = made.missing
    assert said.startswith(f"torch 0.0.0+cpu: {tool} cannot install it, see ")
    assert said.endswith("UV_EXTRA_INDEX_URL or PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu")
