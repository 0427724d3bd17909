"""Several processes of one launch: rank 0 records, or all record into one run."""

import contextlib
import subprocess
import sys

import pytest
from programs import board_points, delivered, environment, eventually, local_points, only_run, run_ids, write

import mlobs
from mlobs.journal.store import Store

pytestmark = pytest.mark.slow

TRAINING = """
import logging, os, sys, time
import mlobs
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
rank = int(os.environ["RANK"])

def wait_for(what):
    while not os.path.exists(what):
        time.sleep(0.01)
"""
TRAIN = """
with mlobs.start_run("ranked", params={"lr": 0.1}) as run:
    for step in range(200):
        run.log_metric(f"loss/{rank}", step / 7, step=step)
    run.log_text(f"notes-{rank}", f"of rank {rank}")
    with run.child(f"fold-{rank}") as fold:
        fold.log_metric("score", float(rank))
    print(run.id)
"""


@contextlib.contextmanager
def launched(folder, source, ranks=4, size=4, **env):
    """Start the ranks of one launch at once; they are killed at the end, should they still live."""
    program = write(folder, TRAINING + source)
    started = {}
    numbers = range(ranks) if isinstance(ranks, int) else ranks
    try:
        for rank in numbers:
            its_own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
            started[rank] = subprocess.Popen(
                [sys.executable, str(program)],
                cwd=folder,
                env=environment(MLOBS_STORE="store", **its_own, **env),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        yield started
    finally:
        for process in started.values():
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()


def ends(started):
    """Wait for the ranks; return what each printed, and what each said, by rank."""
    outputs = {rank: process.communicate(timeout=120) for rank, process in started.items()}
    assert [process.returncode for process in started.values()] == [0] * len(started), outputs
    return {rank: out for rank, (out, _) in outputs.items()}, {
        rank: err for rank, (_, err) in outputs.items()
    }


def records(folder):
    """The runs of the store by name."""
    found = [mlobs.load_run(run_id, store=folder / "store") for run_id in run_ids(folder)]
    return {one.name: one for one in found}


def test_rank_0_alone_records_and_the_others_say_so_once(tmp_path):
    with launched(tmp_path, TRAIN) as started:
        printed, said = ends(started)

    found = records(tmp_path)
    assert set(found) == {"ranked", "fold-0"}
    record = found["ranked"]
    assert record.run_id == printed[0].strip()
    assert (record.start.rank, record.start.world_size) == (0, 4)
    assert set(record.last_metrics) == {"loss/0"}
    assert len(list((tmp_path / "store" / "runs").iterdir())) == 2  # not even a folder
    assert said[0] == ""
    for rank in (1, 2, 3):
        assert said[rank].splitlines() == [
            f"INFO rank {rank} of 4 (torchrun): only rank 0 records; ranks='all' records all into one run"
        ]


def test_other_ranks_start_no_sender_and_leave_no_file(tmp_path):
    with launched(tmp_path, TRAIN, ranks=[1, 2], MLOBS_BACKENDS="tensorboard") as started:
        ends(started)

    assert {one.name for one in (tmp_path / "store").iterdir()} == {"runs"}
    assert run_ids(tmp_path) == []


def test_all_ranks_record_into_one_run(tmp_path):
    env = {"MLOBS_RANKS": "all", "MLOBS_BACKENDS": "tensorboard", "TORCHELASTIC_RUN_ID": "night"}
    with launched(tmp_path, TRAIN, **env) as started:
        printed, _ = ends(started)

    assert len(set(printed.values())) == 1
    found = records(tmp_path)
    assert set(found) == {"ranked", "fold-0", "fold-1", "fold-2", "fold-3"}
    record = found["ranked"]
    assert (record.status, record.reason, record.damage) == ("FINISHED", "", ())
    assert record.run_id == printed[0].strip()
    assert record.params == {"lr": 0.1}
    assert len(Store(tmp_path / "store").run(record.run_id).journals()) == 4
    eventually(lambda: delivered(tmp_path, record.run_id, "tensorboard"))
    for rank in range(4):
        expected = [(step, step / 7) for step in range(200)]
        assert local_points(tmp_path, record.run_id, f"loss/{rank}") == expected
        there = board_points(tmp_path, record.run_id, f"loss/{rank}", "runs")
        assert there == [(step, pytest.approx(value)) for step, value in expected]
        assert found[f"fold-{rank}"].parent_run_id == record.run_id
    assert {one.path for one in record.artifacts} == {f"notes-{rank}.txt" for rank in range(4)}


def test_another_launch_is_another_run(tmp_path):
    for port in ("29500", "29501"):
        env = {"MLOBS_RANKS": "all", "TORCHELASTIC_RUN_ID": "night", "MASTER_PORT": port}
        with launched(tmp_path, TRAIN, ranks=2, size=2, **env) as started:
            ends(started)

    runs = mlobs.runs(store=tmp_path / "store")
    assert sorted(runs["name"]) == ["fold-0", "fold-0", "fold-1", "fold-1", "ranked", "ranked"]
    assert set(runs["status"]) == {"FINISHED"}


def test_runs_one_after_the_other_are_the_same_ones_for_all_ranks(tmp_path):
    source = """
for number in range(3):
    with mlobs.start_run("again") as run:
        run.log_metric(f"rank {rank}", number)
"""
    with launched(tmp_path, source, ranks=3, size=3, MLOBS_RANKS="all", MLOBS_RUN_ID="trial 9") as started:
        ends(started)

    assert len(run_ids(tmp_path)) == 3
    for run_id in run_ids(tmp_path):
        values = mlobs.load_run(run_id, store=tmp_path / "store").last_metrics
        assert set(values) == {"rank 0", "rank 1", "rank 2"}
        assert len(set(values.values())) == 1


def test_ranks_that_begin_before_rank_0_wait_for_it_in_the_store(tmp_path):
    source = """
if rank == 0:
    wait_for("others")
with mlobs.start_run("late") as run:
    run.log_metric(f"rank {rank}", 1.0)
    if rank == 1:
        open("others", "w").close()
        wait_for("looked")
"""
    env = {"MLOBS_RANKS": "all", "MLOBS_BACKENDS": "tensorboard", "MLOBS_RUN_ID": "late one"}
    with launched(tmp_path, source, ranks=[1], size=2, **env) as first:
        eventually((tmp_path / "others").exists)
        early = only_run(tmp_path)
        assert (early.status, early.start, early.last_metrics) == ("RUNNING", None, {"rank 1": 1.0})
        with launched(tmp_path, source, ranks=[0], size=2, **env) as second:
            ends(second)
        (tmp_path / "looked").touch()
        ends(first)

    record = only_run(tmp_path)
    assert (record.name, record.status) == ("late", "FINISHED")
    assert record.last_metrics == {"rank 0": 1.0, "rank 1": 1.0}
    eventually(lambda: delivered(tmp_path, record.run_id, "tensorboard"))
    assert board_points(tmp_path, record.run_id, "rank 1", "runs") == [(0, 1.0)]


def test_a_rank_that_goes_on_after_rank_0_has_left_loses_nothing(tmp_path):
    source = """
with mlobs.start_run("uneven") as run:
    run.log_metric(f"rank {rank}", 0.0, step=0)
    if rank == 1:
        open("here", "w").close()
        wait_for("left")
        run.log_metric("rank 1", 1.0, step=1)
    else:
        wait_for("here")
"""
    env = {"MLOBS_RANKS": "all", "MLOBS_BACKENDS": "tensorboard", "MLOBS_RUN_ID": "uneven one"}
    with launched(tmp_path, source, ranks=2, size=2, **env) as started:
        ends({0: started[0]})
        record = only_run(tmp_path)
        eventually(lambda: delivered(tmp_path, record.run_id, "tensorboard"))
        assert record.status == "FINISHED"
        (tmp_path / "left").touch()
        ends({1: started[1]})

    record = only_run(tmp_path)
    assert record.status == "FINISHED"
    assert local_points(tmp_path, record.run_id, "rank 1") == [(0, 0.0), (1, 1.0)]
    assert delivered(tmp_path, record.run_id, "tensorboard")  # its own sender took over, and it waited
    assert board_points(tmp_path, record.run_id, "rank 1", "runs") == [(0, 0.0), (1, 1.0)]


def test_a_rank_that_fails_ends_no_run_but_leaves_word(tmp_path):
    source = """
with mlobs.start_run("one fails") as run:
    if rank == 1:
        open("failing", "w").close()
        raise ValueError("NaN in the gradients")
    wait_for("failing")
    run.log_metric("loss", 1.0)
"""
    env = {"MLOBS_RANKS": "all", "MLOBS_RUN_ID": "failing one"}
    with launched(tmp_path, source, ranks=2, size=2, **env) as started:
        assert started[1].wait(timeout=60) == 1
        ends({0: started[0]})

    record = only_run(tmp_path)
    assert (record.status, record.last_metrics) == ("FINISHED", {"loss": 1.0})
    (word,) = record.logs()
    assert word.level == "ERROR"
    assert word.message.startswith(f"rank 1, pid {started[1].pid} on ")
    assert word.message.endswith("left the run: FAILED, ValueError: NaN in the gradients")
    assert "Traceback" in word.exception


def test_ranks_with_nothing_in_common_leave_the_record_to_rank_0(tmp_path):
    with launched(tmp_path, TRAIN, ranks=2, size=2, MLOBS_RANKS="all") as started:
        _, said = ends(started)

    assert set(records(tmp_path)) == {"ranked", "fold-0"}
    (line,) = said[1].splitlines()
    assert "rank 1 of 2 cannot tell which run rank 0 opens, so it records nothing" in line
    assert "set MLOBS_RUN_ID to the same name for all ranks" in line


def test_ranks_of_a_launcher_that_tells_no_size_record_into_one_run(tmp_path):
    source = """
with mlobs.start_run("ranked") as run:
    run.log_metric(f"rank {os.environ['PMIX_RANK']}", 1.0)
"""
    program = write(tmp_path, "import os\nimport mlobs\n" + source)
    for rank in ("0", "1"):
        launch = {"PMIX_RANK": rank, "PMIX_NAMESPACE": "prterun-node1-4711@1"}
        env = environment(MLOBS_STORE="store", MLOBS_RANKS="all", **launch)
        subprocess.run([sys.executable, str(program)], cwd=tmp_path, env=env, check=True)

    assert set(only_run(tmp_path).last_metrics) == {"rank 0", "rank 1"}


def test_each_rank_may_have_runs_of_its_own(tmp_path):
    source = "with mlobs.start_run(f'member {rank}') as run: run.log_metric('loss', rank)"
    with launched(tmp_path, source, ranks=3, size=3, MLOBS_RANKS="each") as started:
        ends(started)

    assert {name: one.last_metrics for name, one in records(tmp_path).items()} == {
        f"member {rank}": {"loss": float(rank)} for rank in range(3)
    }


def test_all_ranks_go_on_with_a_run_together(tmp_path):
    source = """
with mlobs.start_run("long", run_id="long-1", resume="allow") as run:
    attempt = 2 if os.path.exists("again") else 1
    run.log_metric(f"rank {rank}", attempt, step=attempt)
"""
    for _ in range(2):
        with launched(tmp_path, source, ranks=3, size=3, MLOBS_RANKS="all") as started:
            ends(started)
        (tmp_path / "again").touch()

    record = only_run(tmp_path)
    assert (record.status, record.run_id) == ("FINISHED", "long-1")
    for rank in range(3):
        assert sorted(local_points(tmp_path, "long-1", f"rank {rank}")) == [(1, 1.0), (2, 2.0)]


def test_what_ranks_record_before_rank_0_goes_back_still_counts(tmp_path):
    source = """
again = os.path.exists("again")
if rank == 0 and again:
    wait_for("begun")
with mlobs.start_run("long", run_id="long-1", resume="allow", from_step=10 if again else None) as run:
    for step in range(10 if again else 0, 20):
        run.log_metric(f"rank {rank}", step + again / 2, step=step)
        run.log_metric("counted", again / 2)
    if rank:
        open("begun", "w").close()
        wait_for("opened")
    open("opened", "w").close()
"""
    with launched(tmp_path, source, ranks=2, size=2, MLOBS_RANKS="all") as started:
        ends(started)
    for name in ("begun", "opened"):
        (tmp_path / name).unlink()
    (tmp_path / "again").touch()
    with launched(
        tmp_path, source, ranks=2, size=2, MLOBS_RANKS="all", MLOBS_BACKENDS="tensorboard"
    ) as again:
        ends(again)

    expected = [(step, step + (step >= 10) / 2) for step in range(20)]
    for rank in range(2):
        assert local_points(tmp_path, "long-1", f"rank {rank}") == expected
    eventually(lambda: delivered(tmp_path, "long-1", "tensorboard"))
    for rank in range(2):
        assert board_points(tmp_path, "long-1", f"rank {rank}", "runs") == expected


def test_a_state_goes_on_in_a_new_store_whichever_rank_comes_first(tmp_path):
    source = """
import json
state = json.load(open("state")) if os.path.exists("state") else None
if rank == 0 and state:
    wait_for("begun")
with mlobs.Tracker("e").start_run("long", state=state, resume="never" if state is None else "allow") as run:
    run.log_metric(f"rank {rank}", 1.0)
    if rank == 0 and state is None:
        json.dump(run.state_dict(), open("state", "w"))
    if rank and state:
        open("begun", "w").close()
        wait_for("opened")
    open("opened", "w").close()
"""
    env = {"MLOBS_RANKS": "all", "MLOBS_RUN_ID": "lost"}
    with launched(tmp_path, source, ranks=[0], size=2, **env) as started:
        ends(started)
    (tmp_path / "store").rename(tmp_path / "lost")
    (tmp_path / "opened").unlink()
    with launched(tmp_path, source, ranks=2, size=2, **env) as started:
        ends(started)

    record = only_run(tmp_path)
    assert (record.status, record.start.attempt) == ("FINISHED", 2)
    assert local_points(tmp_path, record.run_id, "rank 0") == [(1, 1.0)]
    assert len(local_points(tmp_path, record.run_id, "rank 1")) == 1


def test_a_run_that_must_be_new_is_refused_by_all_ranks_but_not_for_the_others_files(tmp_path):
    source = """
try:
    with mlobs.start_run("new", run_id="new-1") as run:
        run.log_metric(f"rank {rank}", 1.0)
    print("recorded")
except mlobs.UsageError as error:
    print(error)
"""
    with launched(tmp_path, source, ranks=3, size=3, MLOBS_RANKS="all") as started:
        printed, _ = ends(started)
    assert set(printed.values()) == {"recorded\n"}
    assert set(only_run(tmp_path).last_metrics) == {"rank 0", "rank 1", "rank 2"}

    with launched(tmp_path, source, ranks=[0], size=3, MLOBS_RANKS="all") as started:
        printed, _ = ends(started)
    assert "run new-1 exists in the store" in printed[0]
