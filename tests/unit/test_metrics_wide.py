"""Metrics side by side, smoothed, beside steps or times; and in frames that fit into memory."""

import math
import shutil

import numpy as np
import pandas as pd
import pytest
from recorded import add_writer, open_run, record_run

import mlobs
from mlobs.errors import UsageError
from mlobs.events import Metrics, Rewind
from mlobs.journal.store import Store
from mlobs.read.point_cache import WORTH_POINTS, PointReader
from mlobs.read.point_frame import frame_of_points
from mlobs.read.record import liveness


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    for number, at in enumerate((2000.0, 1000.0)):
        events = [
            Metrics(at + 10 * (step + 1), step, {"loss": number + step, "acc": -step}) for step in (0, 1, 3)
        ]
        record_run(made, *events, Metrics(at + 50, 3, {"loss": number + 0.5}), at=at, name=str(number))
    return made


def ids(store):
    return [one.run_id for one in store.runs()]


def test_wide_has_a_column_for_each_metric_and_a_row_for_each_step_of_a_run(store):
    frame = mlobs.metrics(store=store, wide=True)
    assert list(frame.columns) == ["loss", "acc"]
    assert list(frame.index.names) == ["run_id", "step"]
    assert list(frame.index.get_level_values("run_id").unique()) == ids(store)
    assert frame.loc[ids(store)[0]].to_numpy().tolist() == [[1, 0], [2, -1], [1.5, -3]]


def test_runs_come_in_the_order_they_were_asked_for(store):
    asked = ids(store)[::-1]
    frame = mlobs.metrics(store=store, run_ids=asked, wide=True)
    assert list(frame.index.get_level_values("run_id").unique()) == asked
    assert list(mlobs.metrics(store=store, run_ids=asked, keys="acc", wide=True).columns) == asked


def test_wide_with_one_key_has_a_column_for_each_run(store):
    frame = mlobs.metrics(store=store, keys="loss", wide=True)
    assert list(frame.columns) == ids(store)
    assert frame.index.name == "step"
    assert frame.loc[3].tolist() == [1.5, 0.5], "the latest of a step that was recorded twice"
    with pytest.raises(UsageError, match="of one metric"):
        mlobs.metrics(store=store, wide="runs")
    assert list(mlobs.metrics(store=store, keys="loss", wide="metrics").columns) == ["loss"]


def test_steps_that_a_metric_does_not_have_are_missing(tmp_path):
    record_run(Store(tmp_path), Metrics(1001.0, 0, {"a": 1.0}), Metrics(1002.0, 5, {"b": 2.0}))
    frame = mlobs.metrics(store=tmp_path, wide=True)
    assert frame["a"].isna().tolist() == [False, True]
    assert frame["b"].isna().tolist() == [True, False]


def test_time_counts_from_each_runs_own_start(store):
    long = mlobs.metrics(store=store, keys="acc", align="time")
    assert long["elapsed_s"].tolist() == [10.0, 20.0, 40.0] * 2
    wide = mlobs.metrics(store=store, keys="acc", align="time", wide=True)
    assert wide.index.tolist() == [10.0, 20.0, 40.0]
    assert wide.notna().all(axis=None)


def tensorboards(values, weight):
    """The smoothing of TensorBoard's line chart, as its source has it (vz_line_chart, debiased)."""
    last, count, found = 0.0, 0, []
    for value in values:
        if not math.isfinite(value):
            found.append(value)
            continue
        last = last * weight + (1 - weight) * value
        count += 1
        found.append(last / (1 - weight**count if weight != 1 else 1))
    return found


@pytest.mark.parametrize("weight", [0.0, 0.6, 0.99])
def test_smoothing_is_that_of_tensorboard(tmp_path, weight):
    values = [1.0, 5.0, math.nan, -3.0, math.inf, 2.0, 8.0]
    record_run(
        Store(tmp_path), *[Metrics(1001.0 + n, n, {"loss": v, "other": 1.0}) for n, v in enumerate(values)]
    )
    frame = mlobs.metrics(store=tmp_path, keys="loss", smooth=weight)
    np.testing.assert_allclose(frame["smoothed"], tensorboards(values, weight))
    np.testing.assert_array_equal(frame["value"], values)
    wide = mlobs.metrics(store=tmp_path, wide=True, smooth=weight)
    np.testing.assert_allclose(wide["loss"], tensorboards(values, weight))
    assert (wide["other"] == 1.0).all()


def test_a_whole_number_smooths_over_so_many_points_of_one_run_and_metric(store):
    frame = mlobs.metrics(store=store, keys="acc", smooth=2)
    assert frame["smoothed"].tolist() == [0.0, -0.5, -2.0] * 2


@pytest.mark.parametrize(
    "wrong", [{"smooth": 1}, {"smooth": -0.1}, {"smooth": 2.5}, {"smooth": math.nan}, {"smooth": True}]
)
def test_a_smoothing_that_is_none_is_refused(store, wrong):
    with pytest.raises(UsageError, match="expected a weight from 0 to below 1"):
        mlobs.metrics(store=store, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"wide": "columns"},
        {"align": "epoch"},
        {"superseded": True, "wide": True},
        {"superseded": True, "smooth": 0.5},
    ],
)
def test_a_shape_that_is_none_is_refused(store, wrong):
    with pytest.raises(UsageError):
        mlobs.metrics(store=store, **wrong)


def test_an_empty_store_gives_empty_frames_of_every_shape(tmp_path):
    store = Store(tmp_path)
    store.create()
    for shape in (
        {"wide": True},
        {"smooth": 0.5},
        {"align": "time"},
        {"keys": "loss", "wide": True, "align": "time"},
    ):
        assert len(mlobs.metrics(store=store, **shape)) == 0
    assert list(mlobs.metric_frames(store=store)) == []


@pytest.mark.parametrize(("steps", "size"), [(30, 1), (90_000, 50_000), (90_000, 1_000_000)])
def test_frames_in_pieces_are_the_frame_also_of_kept_points(tmp_path, steps, size):
    store = Store(tmp_path)
    first = record_run(store, *[Metrics(1001.0 + n, n, {"a": n, "b": -n}) for n in range(steps)])
    add_writer(first, Metrics(1003.5, 7, {"c": 1.0}))
    record_run(store, Metrics(2001.0, 0, {"c": 2.0}), at=2000.0)
    whole = mlobs.metrics(store=store)
    assert (tmp_path / "cache" / "points" / first.run_id).exists() == (steps >= WORTH_POINTS)

    pieces = list(mlobs.metric_frames(store=store, points=size))

    assert max(map(len, pieces)) <= size
    pd.testing.assert_frame_equal(pd.concat(pieces, ignore_index=True), whole)
    only = pd.concat(mlobs.metric_frames(store=store, keys="c", points=size), ignore_index=True)
    pd.testing.assert_frame_equal(only, mlobs.metrics(store=store, keys="c"))


def test_frames_of_no_points_are_refused(store):
    with pytest.raises(UsageError, match="1 or more"):
        mlobs.metric_frames(store=store, points=0)


@pytest.mark.parametrize("end", ["single", "rewound", "two writers", "running"])
def test_a_large_run_is_read_in_pieces_without_being_held(tmp_path, end):
    store = Store(tmp_path)
    events = [Metrics(1001.0 + n, n, {"a": n, "b": -n}) for n in range(100_000)]
    if end == "running":
        folder, writer = open_run(store, *events)
    else:
        folder = record_run(store, *events, *([Rewind(5e5, 99_990)] if end == "rewound" else []))
    if end == "two writers":
        add_writer(folder, Metrics(1003.5, 7, {"c": 1.0}))
    whole = mlobs.metrics(store=store)
    shutil.rmtree(store.cache, ignore_errors=True)

    reader = PointReader(liveness(), large_bytes=1)
    parts = [part for part, _ in reader.parts(folder, 30_000)]

    frame = frame_of_points([(folder.run_id, part) for part in parts])
    pd.testing.assert_frame_equal(frame, whole)
    assert (store.cache / "points" / folder.run_id).exists() == (end != "running")
    if end == "running":
        writer.close()
