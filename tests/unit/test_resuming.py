"""What `start_run` was asked for is checked before training starts, and what was left is gone on with."""

import json
import logging
import math
import os
import pickle
import subprocess
import sys
import time

import pytest
from recorded import ELSEWHERE, add_writer, open_run, record_run, start_of, vanished_run, write_as

import mlobs
from mlobs.errors import UsageError
from mlobs.events import Histogram, Metrics, Params, Rewind, RunFinished, RunStarted
from mlobs.journal.store import Store
from mlobs.past import look_back
from mlobs.resuming import SavedState, Wish

SAVED = {"run_id": "a", "experiment": "churn", "name": "a", "attempt": 1, "at": 1.0, "step": 1, "steps": {}}

ONE_TRIAL = """
import sys, mlobs
with mlobs.Tracker("churn", store=sys.argv[1]).start_run("trial", resume="auto") as run:
    print(run.id)
"""


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def tracker(store):
    return mlobs.Tracker("churn", store=store.path, backends=[], on_error="raise")


def points(store, run, key="loss"):
    frame = mlobs.metrics(store=store.path, run_ids=run, keys=key)
    return list(zip(frame["step"].tolist(), frame["value"].tolist(), strict=True))


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"resume": "yes"}, "expected one of never, allow, must, auto"),
        ({"resume": "must"}, "type run_id=... or state=..."),
        ({"resume": "allow"}, "type run_id=... or state=..."),
        ({"resume": "auto", "run_id": "a"}, "resume='allow'"),
        ({"from_step": 3}, "resume='must'"),
        ({"run_id": "../a"}, "expected up to 128 letters"),
        ({"run_id": ".a"}, "expected up to 128 letters"),
        ({"run_id": ""}, "expected up to 128 letters"),
        ({"run_id": "a", "from_step": "x", "resume": "must"}, "step"),
        ({"run_id": "a", "from_step": -(2**63) - 1, "resume": "must"}, "64 bits"),
        ({"run_id": "a", "from_step": 2**63, "resume": "must"}, "64 bits"),
        ({"state": {"run_id": "a"}}, "state_dict"),
        ({"state": {**SAVED, "step": 2**63}}, "64 bits"),
        ({"state": {**SAVED, "steps": {"loss": -(2**70)}}}, "64 bits"),
        ({"state": {**SAVED, "at": math.nan}}, "state_dict"),
        ({"state": "a"}, "state_dict"),
        ({"resume": "must", "run_id": "nowhere"}, "no run nowhere in the store .* `mlobs runs`"),
    ],
)
def test_what_cannot_be_is_refused_before_training_starts(tracker, asked, word):
    with pytest.raises(UsageError, match=word):
        tracker.start_run("a", **asked)
    assert mlobs.current_run() is None


def test_a_state_goes_with_no_other_run(tracker):
    with tracker.start_run() as run:
        state = run.state_dict()
    with pytest.raises(UsageError, match="give one of them"):
        tracker.start_run(state=state, run_id="other")


def test_a_run_has_the_id_that_it_is_given_and_only_once(tracker):
    with tracker.start_run(run_id="my.run-1") as run:
        run.log_metric("loss", 1.0)
    assert run.id == "my.run-1"
    with pytest.raises(UsageError, match=r"exists in the store .* resume='allow'"):
        tracker.start_run(run_id="my.run-1")


def test_the_latest_run_is_the_one_that_began_last_whatever_it_is_called(store, tracker):
    ids = []
    for run_id in ("zebra", None, "ant", None):
        with tracker.start_run(run_id=run_id) as run:
            ids.append(run.id)
    assert list(mlobs.runs(store=store.path)["run_id"]) == ids
    with tracker.start_run(run_id="last"):
        assert mlobs.load_run("latest", store=store.path).run_id == "last"


@pytest.mark.parametrize("resume", ["allow", "must"])
def test_a_resumed_run_is_the_same_run_and_goes_on_counting(store, tracker, resume):
    with tracker.start_run("first", run_id="a", params={"lr": 0.1}, tags={"team": "x"}) as run:
        run.log_metric("loss", 1.0)
        run.log_metrics({"loss": 2.0, "acc": 0.5})
        run.log_metric("epoch", 9.0, step=9)

    with tracker.start_run(run_id="a", resume=resume, params={"lr": 0.1, "depth": 3}) as again:
        assert mlobs.load_run("a", store=store.path).status == "RUNNING"
        again.log_metric("loss", 3.0)
        again.log_metric("acc", 0.6)
        again.log_metric("epoch", 10.0)
        again.log_final({"score": 1.0})

    record = mlobs.load_run("a", store=store.path)
    assert (record.status, record.name, record.tags) == ("FINISHED", "first", {"team": "x"})
    assert record.params == {"lr": 0.1, "depth": 3}
    assert points(store, "a") == [(0, 1.0), (1, 2.0), (2, 3.0)]
    assert points(store, "a", "acc") == [(0, 0.5), (1, 0.6)]
    assert points(store, "a", "epoch") == [(9, 9.0), (10, 10.0)]
    assert points(store, "a", "score") == [(10, 1.0)]
    first, second = (one for one in record.events() if isinstance(one, RunStarted))
    assert (record.start, record.latest) == (first, second)
    assert (first.attempt, second.attempt) == (1, 2)
    assert second.resumed_from in {path.stem for path in record.folder.journals()}


def test_allow_begins_what_does_not_exist(store, tracker):
    tracker.start_run("new", run_id="a", resume="allow").finish()
    assert mlobs.load_run("a", store=store.path).start.attempt == 1


def test_a_param_that_contradicts_an_earlier_attempt_is_settled_like_any_other(tracker):
    tracker.start_run(run_id="a", params={"lr": 0.1}).finish()
    with pytest.raises(UsageError, match=r"was 0\.1 and is now 0\.2"):
        mlobs.Tracker(
            "churn", store=tracker.settings.store, backends=[], on_error="raise", on_conflict="raise"
        ).start_run(run_id="a", resume="must", params={"lr": 0.2})


def test_a_run_that_is_open_in_this_process_is_refused(tracker):
    with (
        tracker.start_run(run_id="a"),
        pytest.raises(UsageError, match=r"open in this process .* finish\(\)"),
    ):
        tracker.start_run(run_id="a", resume="allow")


def test_a_run_whose_process_vanished_goes_on(store, tracker):
    folder = vanished_run(store)
    with tracker.start_run(run_id=folder.run_id, resume="must") as run:
        run.log_metric("loss", 2.0)
    assert points(store, folder.run_id) == [(0, 1.0), (1, 2.0)]
    assert (run.name, run.experiment) == ("vanishing", "churn")


def test_on_another_host_nobody_can_know_so_the_run_goes_on(store, tracker):
    store.create()
    folder = store.new_run("a")
    write_as(folder, ELSEWHERE, start_of("a", process=ELSEWHERE), is_opener=True)
    with tracker.start_run(run_id="a", resume="must"):
        assert mlobs.load_run("a", store=store.path).status == "RUNNING"
    assert mlobs.load_run("a", store=store.path).status == "FINISHED"


def test_the_latest_attempt_counts_though_its_hosts_clock_is_behind(store, tracker):
    _, writer = open_run(store, Metrics(9e9, 0, {"loss": 1.0}), at=9e9, run_id="a")
    writer.append(RunFinished(9e9 + 1, "FAILED"))
    writer.close()
    with tracker.start_run(run_id="a", resume="must", from_step=0) as run:
        state = run.state_dict()
        run.log_metric("loss", 2.0)
        assert mlobs.load_run("a", store=store.path).status == "RUNNING"
    assert mlobs.load_run("a", store=store.path).status == "FINISHED"
    assert points(store, "a") == [(0, 2.0)]
    assert state["at"] > 9e9 + 1


def test_of_two_that_go_on_at_the_same_moment_one_does(store, tracker):
    folder = record_run(store)
    (folder.path / "attempt-2").touch()  # the other has reserved it, and its journal is not there yet
    with pytest.raises(UsageError, match="just opened by another process"):
        tracker.start_run(run_id=folder.run_id, resume="must")


def test_from_step_takes_back_only_what_is_there(store):
    folder = record_run(store, *(Metrics(1001.0 + step, step, {"loss": 1.0}) for step in range(5)))
    histogram = record_run(store, Histogram(1001.0, 7, "w", [1.0], [0.0, 1.0]))

    assert look_back(folder, Wish(from_step=5)).rewind is None
    assert look_back(folder, Wish(from_step=3)).rewind == Rewind(0.0, 3)
    assert look_back(folder, Wish(from_step=3)).steps == {"loss": 3}
    assert look_back(histogram, Wish(from_step=7)).rewind == Rewind(0.0, 7)


def test_a_state_is_plain_and_small(tracker):
    with tracker.start_run("a") as run:
        for step in range(3):
            run.log_metric("loss", 1.0)
            run.log_metric("epoch", 1.0, step=7 * step)
        state = run.state_dict()
    assert json.loads(json.dumps(state)) == pickle.loads(pickle.dumps(state)) == state
    assert (state["run_id"], state["attempt"], state["step"], state["steps"]) == (run.id, 1, 14, {"loss": 3})


def test_going_back_to_a_state_leaves_each_axis_whole(store, tracker):
    run = tracker.start_run(params={"lr": 0.1})
    for batch in range(100):
        run.log_metric("batch", float(batch), step=batch)
        run.log_metric("counted", float(batch))
    run.log_metric("epoch", 0.0, step=0)
    state = run.state_dict()
    for batch in range(100, 110):
        run.log_metric("batch", -1.0, step=batch)
        run.log_metric("counted", -1.0)
    run.log_metric("epoch", -1.0, step=1)
    run.finish()

    with tracker.start_run(state=state) as again:
        again.log_metric("batch", 100.0, step=100)
        again.log_metric("counted", 100.0)
        again.log_metric("epoch", 1.0, step=1)

    expected = [(step, float(step)) for step in range(101)]
    assert again.id == run.id
    assert points(store, run.id, "batch") == points(store, run.id, "counted") == expected
    assert points(store, run.id, "epoch") == [(0, 0.0), (1, 1.0)]
    (rewind,) = (one for one in mlobs.load_run(run.id, store=store.path).events() if isinstance(one, Rewind))
    assert (rewind.from_step, rewind.since, rewind.below) == (100, state["at"], 1)


def test_a_state_behind_which_nothing_was_recorded_takes_nothing_back(store, tracker):
    with tracker.start_run() as run:
        run.log_metric("loss", 1.0)
        state = run.state_dict()
    tracker.start_run(state=state).finish()
    assert not [one for one in mlobs.load_run(run.id, store=store.path).events() if isinstance(one, Rewind)]


def test_a_state_goes_on_in_a_store_that_never_saw_the_run(tmp_path, tracker):
    with tracker.start_run("baseline") as run:
        run.log_metric("loss", 1.0)
        run.log_metric("loss", 2.0)
        state = run.state_dict()
    lost = mlobs.Tracker("another", store=tmp_path / "new", backends=[], on_error="raise")

    with lost.start_run("x", state=state) as again:
        again.log_metric("loss", 3.0)

    record = mlobs.load_run(run.id, store=tmp_path / "new")
    assert (record.start.attempt, record.experiment, record.name) == (2, "churn", "baseline")
    assert list(record.metrics["step"]) == [2]
    with pytest.raises(UsageError, match="no run"):
        mlobs.Tracker("x", store=tmp_path / "third").start_run(state=state, resume="must")


def test_without_a_job_auto_is_a_new_run_each_time(tracker, monkeypatch, caplog):
    for name in ("MLOBS_RUN_ID", "SLURM_JOB_ID", "AZUREML_RUN_ID", "JOB_NAME", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    caplog.set_level(logging.INFO, "mlobs")
    with tracker.start_run("a", resume="auto") as one, tracker.start_run("a", resume="auto") as other:
        assert one.id != other.id
    assert sum("no job's id" in line for line in caplog.messages) <= 1  # once in this process


def test_disabled_takes_any_wish(tmp_path):
    tracker = mlobs.Tracker("churn", store=tmp_path / "none", mode="disabled")
    with tracker.start_run(run_id="a", resume="must") as run:
        run.log_metric("loss", 1.0)
        assert run.state_dict()["run_id"] == run.id == "a"
    assert not (tmp_path / "none").exists()


def test_params_of_any_attempt_are_known(store):
    folder, writer = open_run(store, Params(1001.0, {"lr": 0.1}), run_id="a")
    writer.append(RunFinished(1002.0, "FAILED"))
    writer.close()
    write_as(
        folder,
        ELSEWHERE,
        start_of("a", 1100.0, ELSEWHERE, attempt=2),
        Params(1101.0, {"depth": 3}),
        at=1100.0,
    )
    add_writer(folder, RunFinished(1102.0, "CRASHED"))
    past = look_back(folder, Wish())
    assert (past.attempt, past.params) == (2, {"lr": 0.1, "depth": 3})
    assert past.latest == 1102.0


def test_a_saved_state_has_the_fields_that_the_docs_name():
    assert SavedState.__struct_fields__ == ("run_id", "experiment", "name", "attempt", "at", "step", "steps")


def test_an_attempt_counts_also_if_the_clock_of_an_earlier_host_was_ahead(tracker, store):
    with tracker.start_run(run_id="a") as run:
        run.log_metric("loss", 0.0, step=0)
    ahead = time.time() + 3600
    add_writer(store.run("a"), Metrics(ahead, 1, {"loss": 1.0}))
    with tracker.start_run(run_id="a", resume="must", from_step=1) as run:
        run.log_metric("loss", 1.5, step=1)
    with tracker.start_run(run_id="a", resume="must") as run:
        run.log_metric("loss", 2.0, step=2)

    assert points(store, "a") == [(0, 0.0), (1, 1.5), (2, 2.0)]


def test_a_jobs_run_that_was_refused_is_the_same_one_at_the_next_try(tracker, monkeypatch):
    monkeypatch.setenv("MLOBS_RUN_ID", "refused-once")
    first = subprocess.run(
        [sys.executable, "-c", ONE_TRIAL, str(tracker.settings.store)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    with tracker.start_run(run_id=first, resume="must"), pytest.raises(UsageError, match="finish"):
        tracker.start_run("trial", resume="auto")
    with tracker.start_run("trial", resume="auto") as again:
        pass
    assert again.id == first


def test_each_job_of_a_program_has_its_own_first_run(tracker, monkeypatch):
    def trial(job):
        monkeypatch.setenv("MLOBS_RUN_ID", job)
        with tracker.start_run("trial", resume="auto") as run:
            return run.id

    assert trial("sweep-1") != trial("sweep-2")
    of_one_program = subprocess.run(
        [sys.executable, "-c", ONE_TRIAL, str(tracker.settings.store)],
        env={**os.environ, "MLOBS_RUN_ID": "sweep-2"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert of_one_program.stdout.strip() in set(mlobs.runs(store=tracker.settings.store)["run_id"])
    assert len(mlobs.runs(store=tracker.settings.store)) == 2
