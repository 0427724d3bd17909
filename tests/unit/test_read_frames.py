"""What `mlobs.runs` and `mlobs.metrics` promise."""

import math
import subprocess
import sys
import time

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import add_writer, open_run, record_run

import mlobs
from mlobs.errors import StoreError, UsageError
from mlobs.events import Metrics, Params, Rewind, Tags
from mlobs.journal.store import Store
from mlobs.read.frames import runs
from mlobs.read.point_frames import metrics
from mlobs.read.points import Points, that_count, with_superseded

FIXED = ["run_id", "experiment", "name", "status", "started", "ended", "reason", "parent_run_id"]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_an_empty_store_gives_empty_frames_with_all_fixed_columns(store):
    store.create()
    assert list(runs(store=store).columns) == FIXED
    assert len(runs(store=store)) == 0
    assert str(runs(store=store)["started"].dtype.tz) == "UTC"
    empty = metrics(store=store)
    assert list(empty.columns) == ["run_id", "key", "step", "value", "at"]
    assert (empty["step"].dtype, empty["value"].dtype) == ("int64", "float64")


def test_a_store_path_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(StoreError, match="no-such-folder"):
        runs(store=tmp_path / "no-such-folder")


def test_runs_has_one_row_per_run_oldest_first_with_params_metrics_and_tags(store):
    record_run(store, Params(1001.0, {"lr": 0.1}), Metrics(1002.0, 5, {"loss": 0.5}), at=1000.0)
    record_run(
        store,
        Params(2001.0, {"lr": 0.2, "optimizer.name": "adam"}),
        Metrics(2002.0, 9, {"loss": 0.4}),
        Metrics(2003.0, 3, {"loss": 0.3}),
        Tags(2004.0, {"team": "x"}),
        status="FAILED",
        name="second",
        at=2000.0,
    )
    frame = runs(store=store)
    assert list(frame.columns) == [*FIXED, "params.lr", "params.optimizer.name", "metrics.loss", "tags.team"]
    assert list(frame["name"]) == ["baseline", "second"]
    assert list(frame["status"]) == ["FINISHED", "FAILED"]
    assert list(frame["metrics.loss"]) == [0.5, 0.3], "the value recorded last, not that of the highest step"
    assert frame["started"][0] == pd.Timestamp(1000, unit="s", tz="UTC")
    assert frame["ended"][1] == pd.Timestamp(2060, unit="s", tz="UTC")
    assert pd.isna(frame["params.optimizer.name"][0])


def test_params_are_exact_also_beside_runs_that_lack_them(store):
    large = 9_007_199_254_740_993  # the least that a float rounds
    record_run(store, Params(1001.0, {"seed": large, "id": 2**64 - 1, "few": 7}), at=1000.0)
    record_run(store, Params(2001.0, {"seed": 0.5, "id": -1}), at=2000.0)
    record_run(store, at=3000.0)
    frame = runs(store=store)

    assert frame["params.seed"].tolist()[:2] == [large, 0.5]
    assert frame["params.id"].tolist()[:2] == [2**64 - 1, -1]
    assert frame["params.few"][0] == 7
    assert frame[["params.seed", "params.id", "params.few"]].isna().iloc[2].all()


def test_runs_can_be_chosen_by_experiment_and_status(store):
    record_run(store, experiment="a")
    record_run(store, experiment="b")
    record_run(store, experiment="b", status="FAILED")
    assert len(runs(store=store, experiment="b")) == 2
    assert list(runs(store=store, experiment="b", status="FAILED")["status"]) == ["FAILED"]


def test_a_run_that_is_still_open_is_listed_without_an_end(store):
    _, writer = open_run(store)
    frame = runs(store=store)
    writer.close()
    assert list(frame["status"]) == ["RUNNING"]
    assert frame["ended"].isna().all()


def test_metrics_are_exact_and_in_recorded_order(store):
    values = [0.1, math.nan, math.inf, -math.inf, 5e-324, -0.0]
    folder = record_run(
        store, *(Metrics(1000.25 + n, 7 - n, {"loss": value}) for n, value in enumerate(values))
    )
    frame = metrics(store=store)
    assert [value.hex() for value in frame["value"]] == [value.hex() for value in values]
    assert list(frame["step"]) == [7, 6, 5, 4, 3, 2]
    assert frame["at"][1] == pd.Timestamp("1970-01-01 00:16:41.250", tz="UTC")
    assert set(frame["run_id"]) == {folder.run_id}


def test_the_same_point_recorded_twice_is_there_twice(store):
    record_run(store, Metrics(1001.0, 1, {"loss": 0.5}), Metrics(1001.0, 1, {"loss": 0.5}))
    assert len(metrics(store=store)) == 2


def test_metrics_can_be_chosen_by_run_and_key(store):
    first = record_run(store, Metrics(1001.0, 0, {"loss": 1.0, "acc": 0.1}), at=1000.0)
    second = record_run(store, Metrics(2001.0, 0, {"acc": 0.2, "f1": 0.3}), at=2000.0)
    assert list(metrics(store=store)["key"]) == ["loss", "acc", "acc", "f1"]
    assert list(metrics(store=store, keys="acc")["value"]) == [0.1, 0.2]
    assert list(metrics(store=store, keys=["f1", "no-such"])["value"]) == [0.3]
    chosen = metrics(store=store, run_ids=[second.run_id, first.run_id], keys=["acc"])
    assert list(chosen["value"]) == [0.2, 0.1]
    assert list(metrics(store=store, run_ids="latest")["key"]) == ["acc", "f1"]


def test_a_run_id_that_is_not_in_the_store_is_an_error(store):
    record_run(store)
    with pytest.raises(UsageError, match="no run 'nonsense'"):
        metrics(store=store, run_ids=["nonsense"])
    with pytest.raises(UsageError):
        metrics(store=store, run_ids=["../../etc"])


def test_writers_are_merged_by_time_and_one_writers_order_never_changes(store):
    folder, opener = open_run(store)
    for at, value in ((1010.0, 1.0), (1030.0, 3.0), (1005.0, 4.0)):  # its clock was set back
        opener.append(Metrics(at, 0, {"loss": value}))
    opener.close()
    add_writer(folder, Metrics(1020.0, 0, {"loss": 2.0}), Metrics(1040.0, 0, {"loss": 5.0}))
    assert list(metrics(store=store)["value"]) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert runs(store=store)["metrics.loss"][0] == 5.0


def test_what_a_rewind_took_back_does_not_count_for_any_writer(store):
    folder, opener = open_run(store)
    for step in range(4):
        opener.append(Metrics(1001.0 + step, step, {"loss": float(step)}))
    opener.close()
    add_writer(folder, Rewind(1010.0, 2), Metrics(1011.0, 2, {"loss": 20.0}))
    assert list(metrics(store=store)["value"]) == [0.0, 1.0, 20.0]


def test_what_a_rewind_took_back_is_there_for_who_asks_and_marked(store):
    folder, opener = open_run(store)
    for step in range(3):
        opener.append(Metrics(1001.0 + step, step, {"loss": float(step), "acc": -1.0}))
    opener.append(Rewind(1010.0, 2))
    opener.append(Metrics(1011.0, 2, {"loss": 20.0}))
    opener.close()
    other = record_run(store, Metrics(2001.0, 7, {"loss": 7.0}), at=2000.0)

    frame = metrics(store=store, keys="loss", superseded=True)

    assert list(frame["run_id"]) == [folder.run_id] * 4 + [other.run_id]
    assert list(zip(frame["step"], frame["value"], frame["superseded"], strict=True)) == [
        (0, 0.0, False),
        (1, 1.0, False),
        (2, 2.0, True),
        (2, 20.0, False),
        (7, 7.0, False),
    ]
    assert "superseded" not in metrics(store=store)


def test_going_back_to_a_moment_takes_back_what_came_later_also_an_earlier_rewind(store):
    _, writer = open_run(store)
    for at, step, name in ((1001.0, 5000, "batch"), (1002.0, 5, "epoch"), (1003.0, 5001, "batch")):
        writer.append(Metrics(at, step, {name: at}))
    writer.append(Rewind(1004.0, 0))
    writer.append(Rewind(1005.0, 5001, since=1001.0, below=1))
    writer.close()

    assert list(metrics(store=store)["value"]) == [1001.0]


_rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "rewind"]),
        st.integers(-2, 4),
        st.integers(0, 6),
        st.none() | st.integers(0, 6),
    ),
    max_size=12,
)


def replayed(rows):
    """What counts of (kind, step, at, since, value) in recorded order, by the words of `Rewind`."""
    counting = []
    for index, (kind, step, _, since, value) in enumerate(rows):
        if kind == "rewind":
            if since is not None:  # as it was at that moment
                counting = replayed([row for row in rows[:index] if row[2] <= since])
            counting = [item for item in counting if item[1] < step]
        else:
            counting.append((kind, step, value))
    return counting


@given(st.lists(_rows, min_size=1, max_size=3))
@settings(deadline=None)
def test_points_are_those_of_a_plain_list_that_is_merged_and_rewound(of_writers):
    names, columns, timed = {}, [], []
    for writer, rows in enumerate(of_writers):
        points, latest = Points(names), -1.0
        for row, (kind, step, at, since) in enumerate(rows):
            latest = max(latest, at)
            timed.append((latest, writer, row, kind, step, at, since))
            if kind == "rewind":
                points.rewind(Rewind(float(at), step, None if since is None else float(since)))
            else:
                points.add(Metrics(float(at), step, {kind: writer * 100.0 + row}))
        columns.append(points)

    in_order = sorted(timed, key=lambda item: item[:3])
    expected = replayed([(*item[3:], item[1] * 100.0 + item[2]) for item in in_order])

    counted = that_count(columns)
    keys = list(names)
    found = list(zip((keys[code] for code in counted.codes), counted.steps, counted.values, strict=True))
    assert found == expected
    every, superseded = with_superseded(columns)
    kept = zip((keys[code] for code in every.codes), every.steps, every.values, superseded, strict=True)
    assert [(key, step, value) for key, step, value, is_old in kept if not is_old] == expected
    assert len(every) == sum(kind != "rewind" for kind in (item[3] for item in timed))
    assert counted.last() == {key: value for key, _, value in expected}


def test_a_step_beyond_64_bits_is_reported_and_hides_nothing_else(store):
    record_run(store, Metrics(1001.0, 2**63, {"loss": 1.0}), Metrics(1002.0, 1, {"loss": 2.0}))
    assert list(metrics(store=store)["value"]) == [2.0]


def test_two_hundred_thousand_points_are_read_in_less_than_two_seconds_of_cpu(store):
    _, writer = open_run(store)
    for step in range(200_000):
        writer.append(Metrics(1000.0 + step, step, {"loss": 0.5}))
    writer.close()
    before = time.process_time()
    frame = metrics(store=store)
    assert time.process_time() - before < 2.0  # about 0.4 s on the machine this was written on
    assert list(frame["step"]) == list(range(200_000))


def test_reading_modules_load_neither_pandas_nor_numpy():
    code = "import sys, mlobs.read.frames, mlobs.read.record; print({'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


def test_without_a_store_the_one_that_a_tracker_would_use_is_read(tmp_path, monkeypatch):
    record_run(Store(tmp_path / "project" / ".mlobs"), name="upwards")
    record_run(Store(tmp_path / "set"), name="by the environment")
    below = tmp_path / "project" / "src"
    below.mkdir()
    monkeypatch.chdir(below)
    monkeypatch.delenv("MLOBS_STORE", raising=False)
    assert list(mlobs.runs()["name"]) == ["upwards"]
    monkeypatch.setenv("MLOBS_STORE", str(tmp_path / "set"))
    assert list(mlobs.runs()["name"]) == ["by the environment"]
    assert mlobs.load_run("latest").name == "by the environment"
    assert len(mlobs.metrics()) == 0


def test_an_unknown_status_is_refused_and_any_case_is_taken(tmp_path):
    (tmp_path / "runs").mkdir()
    with pytest.raises(UsageError, match="expected one of RUNNING, FINISHED"):
        runs(store=tmp_path, status="bogus")
    assert runs(store=tmp_path, status="finished").empty


def test_the_load_of_the_program_does_not_go_back_with_the_training(tmp_path):
    store = Store(tmp_path)
    record_run(
        store,
        Metrics(at=1001.0, step=5, values={"loss": 0.5}),
        Metrics(at=1002.0, step=7, values={"system/cpu_percent": 90.0}),
        Rewind(at=1003.0, from_step=5),
        Metrics(at=1004.0, step=5, values={"loss": 0.25}),
        Rewind(at=1005.0, from_step=9, since=1001.5),
    )

    frame = mlobs.metrics(store=tmp_path)
    assert frame[["key", "value"]].to_numpy().tolist() == [["loss", 0.5], ["system/cpu_percent", 90.0]]
