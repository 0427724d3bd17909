"""What differs between two runs, of all that went into them and came out."""

import os
import subprocess
import sys

import pytest
from programs_of_runs import dataset, entry, losses, model, parts, program_run

import mlobs
from mlobs.errors import UsageError
from mlobs.journal.store import Store
from mlobs.repro.run_diff import diff_runs


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    made.create()
    return made


def diffed(store, first, second):
    return diff_runs(first.run_id, second.run_id, store=store.path)


def test_of_a_run_and_its_equal_nothing_differs(store):
    events = [dataset(), *losses(0.5, float("nan")), model()]
    found = diffed(
        store, program_run(store, *events, params={"lr": 1}), program_run(store, *events, params={"lr": 1})
    )
    assert found.is_empty
    assert found.doubts == ()


def test_each_kind_of_difference_stands_in_its_place(store):
    first = program_run(store, dataset(), *losses(0.5, 0.4), model("1"), params={"lr": 0.1})
    second = program_run(
        store,
        dataset(text="tfp1:2"),
        *losses(0.5, 0.4000001),
        *losses(1.0, name="auc"),
        model("2"),
        params={"lr": 0.2},
        snapshot=parts(entry=entry(arguments=("--lr", "0.2")), seeds={"seed": 8}),
    )
    found = diffed(store, first, second)
    assert found.runs == (first.run_id, second.run_id)
    assert found.params == ("param lr: 0.1 -> 0.2",)
    assert found.datasets == ("dataset train: the content changed",)
    assert found.entry == ("arguments: --lr 0.1 -> --lr 0.2", "seed: 7 -> 8")
    assert [(one.metric, one.step, one.first) for one in found.metrics] == [("loss", 1, 0.4)]
    assert found.results == (
        "metric auc: 1 values of one run alone, the first at step 0",
        "model net: leaf $.w differs",
    )
    assert not found.is_empty


def test_the_same_start_in_another_folder_is_no_difference(store):
    elsewhere = entry("/mnt/b", command=["/opt/python3", "-u", "/mnt/b/train.py", "--lr", "0.1"])
    assert diffed(store, program_run(store), program_run(store, snapshot=parts(entry=elsewhere))).is_empty


def test_what_was_not_captured_is_no_difference(store):
    assert diffed(store, program_run(store), program_run(store, snapshot=[])).is_empty
    assert diffed(store, program_run(store, snapshot=[]), program_run(store, snapshot=[])).is_empty
    unseeded = program_run(store, snapshot=parts(seeds=None))
    assert diffed(store, program_run(store), unseeded).entry == ("seed: 7 -> None",)


def test_kernels_and_threads_are_named_before_the_rest(store):
    def run(kernel, threads):
        library = {"api": "openblas", "file": "x.so", "architecture": kernel, "threads": threads}
        return program_run(store, snapshot=parts(native={"cpu": {}, "libraries": [library]}))

    found = diffed(store, run("SkylakeX", 2), run("Haswell", 1))
    assert found.environment[0] == "OpenBLAS kernel SkylakeX -> Haswell"
    assert any("threads" in line for line in found.environment)


def test_data_of_which_nobody_can_tell_is_listed_and_is_no_difference(store):
    runs = [program_run(store, dataset(text="name:s3://a", strength="name")) for _ in range(2)]
    found = diffed(store, *runs)
    assert found.is_empty
    assert len(found.doubts) == 1


def test_a_tree_that_cannot_be_restored_here_is_still_named(store):
    other = parts(code={"path": "/p", "place": "", "tree": "b" * 40, "kind": "plain"})
    (line, reason) = diffed(store, program_run(store), program_run(store, snapshot=other)).code
    assert line == "code of the program: tree aaaaaaaaaaaa -> bbbbbbbbbbbb"
    assert reason.startswith("the files cannot be compared here: ")


def test_a_run_that_does_not_exist_says_what_to_type(store):
    with pytest.raises(UsageError, match=r"no run 'gone' in the store .* - `mlobs runs` lists them"):
        diff_runs("gone", "latest", store=store.path)


_PROGRAM = """
import mlobs
tracker = mlobs.Tracker(delivery="thread", repro="auto")
with tracker.start_run("fit") as run:
    run.log_metric("loss", RATE)
"""


@pytest.mark.parametrize("is_repository", [True, False])
def test_the_code_of_real_programs_is_compared_line_by_line(tmp_path, is_repository):
    project = tmp_path / "project"
    (project / "sub").mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLOBS_")}
    environment |= {"MLOBS_STORE": str(tmp_path / "store"), "GIT_CONFIG_GLOBAL": os.devnull}
    runs = []
    for rate in ("0.1", "0.2"):
        (project / "fit.py").write_text(_PROGRAM.replace("RATE", rate))
        (project / "weights.bin").write_bytes(bytes([0, 255, int(float(rate) * 10)]))
        if rate == "0.2":
            (project / "sub" / "new.txt").write_text("new\n")
        elif is_repository:
            for command in (
                ["init", "-q"],
                ["add", "-A"],
                ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first"],
            ):
                subprocess.run(["git", *command], cwd=project, env=environment, check=True)
        subprocess.run([sys.executable, "fit.py"], cwd=project, env=environment, check=True, timeout=60)
        runs.append(mlobs.load_run("latest", store=tmp_path / "store"))
    found = diff_runs(runs[0].run_id, runs[1].run_id, store=tmp_path / "store")
    assert '-    run.log_metric("loss", 0.1)' in found.code
    assert '+    run.log_metric("loss", 0.2)' in found.code
    assert "+new" in found.code
    assert "binary file weights.bin differs" in found.code
    assert found.metrics[0].metric == "loss"
    assert found.environment == ()
