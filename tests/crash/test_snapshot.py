"""What a real program's snapshot holds: who captured what, when, and what is missing where it died."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from programs import eventually, only_run, run, run_ids, running, write

import mlobs
from mlobs.repro.environment import EnvironmentRecord
from mlobs.repro.recipe import recipe_of

TRACKED = """
import sys
import mlobs

with mlobs.Tracker("snap", store="store").start_run("only", params={"lr": 0.1}) as run:
    run.log_metric("loss", 0.5)
"""
WAITING = """
import pathlib, time
import mlobs

run = mlobs.Tracker("snap", store="store").start_run("only")
run.log_metric("loss", 0.5)
pathlib.Path("ready").touch()
time.sleep(600)
"""


def git(folder, *arguments):
    """Git with nobody's configuration."""
    env = {
        **os.environ,
        "HOME": str(folder),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
    }
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", *who, *arguments], cwd=folder, env=env, check=True, capture_output=True)


def snapshots(folder):
    """The parts of the only run's snapshot so far."""
    return only_run(folder).snapshots


def captured(folder):
    """The parts, once the sender has done its share and named the recipe."""
    eventually(lambda: "environment" in snapshots(folder))
    eventually(lambda: "mlobs.recipe" in only_run(folder).tags)
    return snapshots(folder)


def test_a_program_in_a_dirty_repository_is_captured_without_a_backend(tmp_path):
    write(tmp_path, TRACKED)
    (tmp_path / ".gitignore").write_text("store\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "settings.py").write_text("lr = 0.1\n")

    done = run(tmp_path, TRACKED + "# edited\n", "--epochs", "3", MLOBS_REPRO="auto")

    assert done.returncode == 0, done.stderr
    parts = captured(tmp_path)
    assert parts.keys() >= {"entry", "code", "patch", "environment", "native", "modules"}
    assert [one.missing for one in parts.values()] == [None] * len(parts)
    entry = parts["entry"].facts
    assert (entry["kind"], entry["target"]) == ("script", str(tmp_path / "program.py"))
    assert entry["command"][1:] == [str(tmp_path / "program.py"), "--epochs", "3"]
    assert parts["code"].facts["is_dirty"]
    patch = only_run(tmp_path).snapshot_file("patch").read_text()
    assert "+# edited" in patch
    assert "settings.py" in patch
    record = msgspec.json.decode(
        only_run(tmp_path).snapshot_file("environment").read_bytes(), type=EnvironmentRecord
    )
    assert "msgspec" in {one.name for one in record.packages}


def test_code_and_environment_of_many_runs_are_kept_once(tmp_path):
    code = TRACKED.replace("with mlobs", "for _ in range(3):\n  with mlobs").replace(
        "\n    run.log", "\n      run.log"
    )

    done = run(tmp_path, code, MLOBS_REPRO="auto")

    assert done.returncode == 0, done.stderr
    eventually(lambda: all("mlobs.recipe" in record(tmp_path, one).tags for one in run_ids(tmp_path)))
    files = [record(tmp_path, one).snapshot_file("code") for one in run_ids(tmp_path)]
    assert len(files) == 3
    assert len({path.stat().st_ino for path in files}) == 1
    assert len(list((tmp_path / "store" / "snapshots").glob("*.pack"))) == 1


def record(folder, run_id):
    return mlobs.load_run(run_id, store=folder / "store")


def test_child_runs_leave_the_snapshot_to_the_run_around_them(tmp_path):
    code = TRACKED + "    with run.child('fold') as fold:\n        fold.log_metric('loss', 1.0)\n"

    done = run(tmp_path, code, MLOBS_REPRO="auto")

    assert done.returncode == 0, done.stderr
    outer, inner = run_ids(tmp_path)
    eventually(lambda: "mlobs.recipe" in record(tmp_path, outer).tags)
    assert record(tmp_path, inner).snapshots == {}


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_a_snapshot_is_taken_and_nothing_is_sent_offline(tmp_path, mode):
    code = TRACKED.replace('store="store"', 'store="store", backends=["tensorboard"]')

    done = run(tmp_path, code, MLOBS_REPRO="auto", MLOBS_MODE=mode)

    assert done.returncode == 0, done.stderr
    captured(tmp_path)
    assert (tmp_path / "runs").exists() == (mode == "online")


def test_threads_of_the_program_capture_it_too(tmp_path):
    done = run(tmp_path, TRACKED, MLOBS_REPRO="auto", MLOBS_DELIVERY="thread")

    assert done.returncode == 0, done.stderr
    assert captured(tmp_path).keys() >= {"entry", "code", "environment", "native", "modules"}


def test_a_killed_program_has_its_code_and_says_what_is_missing(tmp_path):
    with running(tmp_path, WAITING, MLOBS_REPRO="auto") as program:
        eventually((tmp_path / "ready").exists)
        eventually(lambda: "environment" in snapshots(tmp_path))
        program.kill()

    parts = snapshots(tmp_path)
    assert parts["code"].missing is None
    assert "native" not in parts
    report = mlobs.reproduce("latest", store=tmp_path / "store", check_only=True)
    assert report.verdict == "unverifiable"
    assert any("native: not captured" in one for one in report.obstacles)


def test_a_terminated_program_loses_no_time_and_says_so(tmp_path):
    with running(tmp_path, WAITING, MLOBS_REPRO="auto") as program:
        eventually((tmp_path / "ready").exists)
        program.send_signal(signal.SIGTERM)
        program.wait(30)

    eventually(lambda: "environment" in snapshots(tmp_path))
    assert "SIGTERM" in snapshots(tmp_path)["native"].missing
    assert only_run(tmp_path).status == "KILLED"


def test_off_records_nothing_and_starts_no_sender(tmp_path):
    done = run(tmp_path, TRACKED, MLOBS_REPRO="off")

    assert done.returncode == 0, done.stderr
    assert snapshots(tmp_path) == {}
    assert not (tmp_path / "store" / "senders").exists()


def test_secrets_reach_no_file_of_the_store(tmp_path):
    planted = {
        "argument": "ghp_" + "a1B2" * 10,
        "variable": "hf_" + "Zz9x" * 10,
        "file": "AccountKey=" + "Qq7/" * 20 + "==",
        "named": "whatever-it-is-4711",
        "remote": "glpat-" + "x9Y8" * 5,
    }
    (tmp_path / ".env").write_text(f"PASSWORD={planted['named']}\n")
    (tmp_path / "upload.py").write_text(f"connection = 'DefaultEndpointsProtocol=https;{planted['file']}'\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "remote", "add", "origin", f"https://oauth2:{planted['remote']}@example.com/a.git")

    done = run(
        tmp_path,
        TRACKED,
        f"--token={planted['argument']}",
        MLOBS_REPRO="auto",
        OMP_NUM_THREADS="1",
        HF_TOKEN=planted["variable"],
    )

    assert done.returncode == 0, done.stderr
    eventually(lambda: "environment" in snapshots(tmp_path))
    eventually(lambda: "mlobs.recipe" in only_run(tmp_path).tags)
    dest = tmp_path / "restored"
    subprocess.run(
        [sys.executable, "-m", "mlobs", "restore", "latest", str(dest), "--store", str(tmp_path / "store")],
        check=True,
    )
    kept = [path for path in [*(tmp_path / "store").rglob("*"), *dest.rglob("*")] if path.is_file()]
    assert any(path.name == "program.py" for path in kept)
    found = [
        (name, path) for name, one in planted.items() for path in kept if one.encode() in path.read_bytes()
    ]
    assert not found
    assert not any(Path(path).name == ".env" for path in kept)


def test_child_runs_have_recipes_of_their_own(tmp_path):
    fold = (
        "    with run.child('fold', params={'fold': NUMBER}) as fold:\n        fold.log_metric('loss', 1.0)\n"
    )
    code = TRACKED + fold.replace("NUMBER", "0") + fold.replace("NUMBER", "1")

    done = run(tmp_path, code, MLOBS_REPRO="auto")

    assert done.returncode == 0, done.stderr
    eventually(lambda: all("mlobs.recipe" in record(tmp_path, one).tags for one in run_ids(tmp_path)))
    assert len({record(tmp_path, one).tags["mlobs.recipe"] for one in run_ids(tmp_path)}) == 3
    assert len({record(tmp_path, one).tags["mlobs.machine"] for one in run_ids(tmp_path)}) == 1


CHILD_OF_A_RUN = """
import os, signal, time
import mlobs
run = mlobs.Tracker("snap", store="store").start_run("only")
child = run.child("fold", params={"fold": 1})
child.log_metric("loss", 1.0)
"""


def test_child_runs_that_end_after_the_run_around_them_have_recipes_too(tmp_path):
    run(tmp_path, CHILD_OF_A_RUN + "run.finish(); time.sleep(1); child.finish()", MLOBS_REPRO="auto")

    around, below = run_ids(tmp_path)
    eventually(lambda: all("mlobs.recipe" in record(tmp_path, one).tags for one in (around, below)))
    assert record(tmp_path, around).tags["mlobs.recipe"] != record(tmp_path, below).tags["mlobs.recipe"]


@pytest.mark.parametrize(
    "ending",
    [
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os._exit(1)",
    ],
)
def test_what_a_program_imported_that_died_is_not_known_so_it_has_no_recipe(tmp_path, ending):
    run(tmp_path, CHILD_OF_A_RUN + ending, MLOBS_REPRO="auto")

    eventually(lambda: not list((tmp_path / "store" / "senders").iterdir()))
    for one in run_ids(tmp_path):
        found = record(tmp_path, one)
        assert found.status != "RUNNING"
        assert "mlobs.recipe" not in found.tags
        assert any("what was imported is not known" in why for why in recipe_of(found).missing)


def test_git_that_hangs_costs_the_program_no_time(tmp_path):
    project, programs, gate = tmp_path / "project", tmp_path / "bin", tmp_path / "gate"
    project.mkdir()
    git(project, "init", "-q")
    programs.mkdir()
    gate.touch()
    fake = write(programs, f"#!/bin/sh\nwhile [ -e {gate} ]; do sleep 0.05; done\nexit 1\n", "git")
    fake.chmod(0o755)

    try:
        done = run(
            project, TRACKED, timeout_s=20, MLOBS_REPRO="auto", PATH=f"{programs}:{os.environ['PATH']}"
        )
    finally:
        gate.unlink()

    assert (done.returncode, done.stderr) == (0, "")
    assert captured(project)["code"].facts["warnings"][0].startswith("captured as a plain folder: git ")


def test_code_that_ran_and_that_git_ignores_is_named(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("store\nmade.py\n")
    made = write(tmp_path, "", "made.py")

    done = run(tmp_path, "import made\n" + TRACKED, MLOBS_REPRO="auto")

    assert done.returncode == 0, done.stderr
    (named,) = captured(tmp_path)["uncaptured"].facts["files"]
    assert (named["path"], named["place"], named["reason"]) == (str(made), "made.py", "git ignores it")
    report = mlobs.reproduce("latest", store=tmp_path / "store")
    assert report.verdict == "identical", report

    made.write_text("x = 1")
    report = mlobs.reproduce("latest", store=tmp_path / "store")
    assert report.obstacles == (
        f"{made} was imported and not captured (git ignores it), and is not there as it was",
    )


HELPED = """
import sys
sys.path.insert(0, {folder!r})
import helper
import mlobs

with mlobs.Tracker("snap", store="store", backends=[{backends}]).start_run("only") as run:
    run.log_metric("loss", helper.LOSS)
"""


@pytest.mark.parametrize(
    ("where", "backends"),
    [("", ""), ("library", ""), ("experiments", "mlobs.backends.TensorBoard('experiments')")],
    ids=["in_a_home_folder", "in_a_repository_inside", "where_a_backend_writes"],
)
def test_other_code_is_another_recipe_wherever_it_lies(tmp_path, where, backends):
    place = tmp_path / where
    place.mkdir(exist_ok=True)
    environment = {"MLOBS_REPRO": "auto", "HOME": str(tmp_path if not where else tmp_path / "home")}
    if where:
        git(tmp_path, "init", "-q")
        (tmp_path / ".gitignore").write_text("store\n")
    if where == "library":
        git(place, "init", "-q")
    for loss in (0.5, 0.25):
        write(place, f"LOSS = {loss}\n", "helper.py")
        done = run(tmp_path, HELPED.format(folder=where, backends=backends), **environment)
        assert done.returncode == 0, done.stderr
        eventually(lambda: "mlobs.recipe" in record(tmp_path, run_ids(tmp_path)[-1]).tags)

    recipes = {record(tmp_path, one).tags["mlobs.recipe"] for one in run_ids(tmp_path)}
    assert len(recipes) == 2
    (place / "helper.py").unlink()
    report = mlobs.reproduce("latest", store=tmp_path / "store")
    assert report.verdict == "identical", report


KILLING = """
import os, signal
import mlobs
from mlobs.program import program

with mlobs.Tracker("snap", store="store").start_run("only") as run:
    sender = program()._senders["process"]._process
    os.kill(sender.pid, signal.SIGKILL)
    sender.wait()
"""


def test_a_sender_that_was_killed_while_it_captured_is_replaced(tmp_path):
    done = run(tmp_path, KILLING, MLOBS_REPRO="auto")

    assert done.returncode == 0, done.stderr
    assert captured(tmp_path)["code"].missing is None


def test_what_backends_write_beside_the_code_is_no_code(tmp_path):
    code = TRACKED.replace('store="store"', 'store="store", backends=["tensorboard", "mlflow"]')

    for _ in range(2):
        done = run(tmp_path, code, MLOBS_REPRO="auto", MLOBS_FINISH_TIMEOUT_S="100", timeout_s=150)
        assert done.returncode == 0, done.stderr
        eventually(lambda: "mlobs.recipe" in record(tmp_path, run_ids(tmp_path)[-1]).tags)

    assert (tmp_path / "mlflow.db").exists()
    trees = {record(tmp_path, one).snapshots["code"].facts["tree"] for one in run_ids(tmp_path)}
    assert len(trees) == 1
