"""The record of an environment: what is in it, what its digest depends on, and what it must not contain."""

import json
import subprocess
import sys

import msgspec
import pytest

from mlobs.repro.differences import Surroundings, diff_environments
from mlobs.repro.environment import (
    EnvironmentRecord,
    capture_environment,
    conda_packages,
    environment_digest,
    lock_files,
)
from mlobs.repro.packages import Package
from mlobs.repro.variables import recorded_environment

NUMPY = Package("numpy", "2.4.0", "aa")
PANDAS = Package("pandas", "3.0.0", "bb")
GOLDEN = "d668d375790732455c8b351b7b7139742a411f5d2b620b753df10d2a1c66a185"  # of 0.1.0


def record(*packages, version="3.11.7", **facts):
    python = {"implementation": "cpython", "version": version}
    return EnvironmentRecord(python, {"system": "Linux"}, packages, "digest", **facts)


def differences(a, b):
    return diff_environments(Surroundings(environment=a), Surroundings(environment=b))


def test_a_record_has_this_interpreter_and_its_packages(tmp_path):
    found = capture_environment(folder=tmp_path)

    assert found.python["version"] == ".".join(map(str, sys.version_info[:3]))
    assert found.python["executable"] == sys.executable
    assert {"numpy", "msgspec"} <= {one.name for one in found.packages}
    assert found.lock_files == {}


def test_a_record_becomes_plain_values_and_comes_back():
    found = capture_environment()

    back = EnvironmentRecord.from_facts(json.loads(json.dumps(found.to_facts())))

    assert back == found


def test_capturing_imports_no_package():
    program = (
        "import sys\nfrom mlobs.repro.environment import capture_environment\ncapture_environment()\n"
        "print(sorted({'numpy', 'pandas', 'torch', 'pyarrow', 'pynvml'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_digest_is_that_of_python_and_the_pinned_packages_in_any_order():
    assert environment_digest("cpython", "3.11.7", [NUMPY, PANDAS]) == environment_digest(
        "cpython", "3.11.7", [PANDAS, NUMPY]
    )


@pytest.mark.parametrize(
    "other",
    [
        ("cpython", "3.11.8", [NUMPY, PANDAS]),
        ("pypy", "3.11.7", [NUMPY, PANDAS]),
        ("cpython", "3.11.7", [NUMPY]),
        ("cpython", "3.11.7", [NUMPY, Package("pandas", "3.0.1", "bb")]),
        ("cpython", "3.11.7", [NUMPY, Package("pandas", "3.0.0", "cc")]),
    ],
)
def test_the_digest_differs_where_other_code_would_run(other):
    assert environment_digest(*other) != environment_digest("cpython", "3.11.7", [NUMPY, PANDAS])


def test_the_digest_is_the_same_for_another_installer_and_with_editable_code():
    by_uv = Package("numpy", "2.4.0", "aa", installer="uv")
    code = Package("mine", "0.1", "dd", is_editable=True, root="/home/me/mine")

    assert environment_digest("cpython", "3.11.7", [by_uv, code]) == environment_digest(
        "cpython", "3.11.7", [NUMPY]
    )


def test_the_digest_never_changes():
    assert environment_digest("cpython", "3.11.7", [NUMPY, PANDAS]) == GOLDEN


def test_lock_files_are_found_up_to_the_repository_the_nearest_of_each_name(tmp_path):
    project = tmp_path / "repo" / "project"
    project.mkdir(parents=True)
    (tmp_path / "repo" / ".git").mkdir()
    (tmp_path / "uv.lock").write_text("outside", encoding="utf-8")
    (tmp_path / "repo" / "uv.lock").write_text("far", encoding="utf-8")
    (tmp_path / "repo" / "poetry.lock").write_text("poetry", encoding="utf-8")
    (project / "uv.lock").write_text("near", encoding="utf-8")
    (project / "requirements-dev.txt").write_text("numpy", encoding="utf-8")

    found = lock_files(project)

    assert {name: one.text for name, one in found.items()} == {
        "uv.lock": "near",
        "poetry.lock": "poetry",
        "requirements-dev.txt": "numpy",
    }


def test_a_lock_file_without_its_secrets_still_has_the_digest_of_its_bytes(tmp_path):
    from blake3 import blake3

    content = "--extra-index-url https://me:hunter2@host/simple\nnumpy==2.4.0\n"
    (tmp_path / "requirements.txt").write_text(content, encoding="utf-8")

    found = lock_files(tmp_path)["requirements.txt"]

    assert found.text == "--extra-index-url https://host/simple\nnumpy==2.4.0\n"
    assert found.digest == blake3(content.encode()).hexdigest()


def test_a_large_lock_file_is_known_by_its_digest_alone(tmp_path):
    (tmp_path / "uv.lock").write_bytes(b"x" * (1 << 20) + b"x")

    found = lock_files(tmp_path)["uv.lock"]

    assert found.text is None
    assert len(found.digest) == 64


def test_conda_packages_are_read_from_conda_meta(tmp_path):
    (tmp_path / "conda-meta").mkdir()
    facts = {
        "name": "numpy",
        "version": "2.4.0",
        "build": "py311h64a7726_0",
        "channel": "https://conda.anaconda.org/t/tk-1234-secret/conda-forge",
        "sha256": "ab",
    }
    (tmp_path / "conda-meta" / "numpy-2.4.0.json").write_text(json.dumps(facts), encoding="utf-8")

    [found] = conda_packages(tmp_path)

    assert (found.name, found.version, found.build, found.sha256) == (
        "numpy",
        "2.4.0",
        "py311h64a7726_0",
        "ab",
    )
    assert "secret" not in found.channel
    assert found.channel.endswith("conda-forge")


def test_an_environment_that_is_not_condas_has_no_conda_packages(tmp_path):
    assert conda_packages(tmp_path) is None


def test_an_images_digest_is_recorded_if_it_is_told(monkeypatch):
    monkeypatch.setenv("MLOBS_IMAGE_DIGEST", "sha256:0123")

    assert capture_environment([]).container["image_digest"] == "sha256:0123"


def test_only_variables_that_matter_are_recorded():
    env = {
        "OMP_NUM_THREADS": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "LC_ALL": "C",
        "HOME": "/home/me",
        "AWS_SECRET_ACCESS_KEY": "abc",
        "TF_VAR_db_password": "hunter2",
        "TF_TOKEN_app": "hunter2",
    }

    assert list(recorded_environment(env)) == ["CUBLAS_WORKSPACE_CONFIG", "LC_ALL", "OMP_NUM_THREADS"]


def test_secrets_in_recorded_variables_are_masked():
    env = {
        "PYTHONPATH": "https://me:hunter2@host/x",
        "XLA_FLAGS": "--token=ghp_abcdefghijklmnopqrstuvwxyz0123",
    }

    assert not [text for text in recorded_environment(env).values() if "hunter2" in text or "ghp_" in text]


def test_differences_of_packages_are_named():
    a = record(NUMPY, PANDAS, Package("scipy", "1.0", "cc"), Package("six", "1.17"))
    b = record(
        Package("numpy", "2.5.1", "dd"),
        Package("pandas", "3.0.0", "ee"),
        Package("idna", "3"),
        Package("six", "1.17", "f"),
    )

    assert differences(a, b) == [
        "package numpy 2.4.0 -> 2.5.1",
        "package pandas 3.0.0: same version, other files",
        "package scipy 1.0 -> absent",
        "package idna absent -> 3",
    ]


def test_python_comes_before_packages_and_the_platform_last():
    a, b = record(NUMPY), record(version="3.12.1")
    b = msgspec.structs.replace(b, platform={"system": "Darwin"})

    assert differences(a, b) == [
        "Python cpython 3.11.7 -> cpython 3.12.1",
        "package numpy 2.4.0 -> absent",
        "platform system Linux -> Darwin",
    ]


def test_where_python_lies_and_editable_code_are_no_differences():
    a, b = capture_environment(), capture_environment()
    b = msgspec.structs.replace(
        b, python={**b.python, "executable": "/elsewhere/python", "prefix": "/elsewhere"}
    )

    assert differences(a, b) == []
