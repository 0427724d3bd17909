"""Two runs beside each other: what counts as the same, and how a difference is named."""

import math

import numpy as np
import pandas as pd
import pytest
from programs_of_runs import dataset, losses, model, program_run

import mlobs
from mlobs.events import Metrics
from mlobs.journal.store import Store
from mlobs.repro.comparison import Tolerance, compare

EXACT = Tolerance(rtol=0.0)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    made.create()
    return made


@pytest.fixture
def compared(store):
    """Two runs of these events, compared."""

    def compare_events(first, second, tolerance=None, **params):
        before = program_run(store, *first, params=params.get("before"))
        after = program_run(store, *second, params=params.get("after"))
        return compare(before, after, tolerance or Tolerance())

    return compare_events


def test_equal_values_are_identical_and_nan_equals_nan(compared):
    values = losses(0.5, math.nan, math.inf, -math.inf)
    found = compared(values, values)
    assert found.is_identical
    assert found.is_within_tolerance
    assert (found.points, found.first_divergence()) == (4, None)


def test_values_are_compared_by_step_and_not_by_their_order(compared):
    points = losses(0.5, 0.4, 0.3)
    assert compared(points, points[::-1]).is_identical


def test_the_last_bit_counts_and_the_first_step_that_differs_is_named(compared):
    found = compared(losses(0.5, 0.3, 0.2), losses(0.5, math.nextafter(0.3, 1), 0.25))
    assert not found.is_identical
    (divergence,) = found.divergences
    assert (divergence.metric, divergence.step, divergence.first) == ("loss", 1, 0.3)
    assert divergence.relative < 1e-15
    assert divergence.worst == pytest.approx(0.2)
    assert not divergence.is_within


def test_the_first_divergence_is_the_earliest_step_and_there_the_furthest_off(compared):
    first = [Metrics(1.0, 0, {"late": 1.0}), *[Metrics(1.0, 3, {"a": 1.0, "b": 1.0, "late": 1.0})]]
    second = [Metrics(1.0, 0, {"late": 1.0}), *[Metrics(1.0, 3, {"a": 1.1, "b": 2.0, "late": 9.0})]]
    earlier = [Metrics(1.0, 1, {"c": 1.0})], [Metrics(1.0, 1, {"c": 1.0001})]
    found = compared([*first, *earlier[0]], [*second, *earlier[1]])
    assert found.first_divergence().metric == "c"
    assert compared(first, second).first_divergence().metric == "late"


def test_a_repeated_step_is_compared_point_by_point(compared):
    first = [Metrics(1.0, 0, {"loss": value}) for value in (0.5, 0.4)]
    swapped = [Metrics(1.0, 0, {"loss": value}) for value in (0.4, 0.5)]
    found = compared(first, first)
    assert (found.points, found.is_identical) == (2, True)
    assert compared(first, swapped).first_divergence().step == 0


def test_a_point_that_only_one_run_has_is_no_repetition(compared):
    found = compared(losses(0.5, 0.4, 0.3), losses(0.5))
    assert found.unmatched == ("metric loss: 2 values of one run alone, the first at step 1",)
    assert (found.points, found.is_identical, found.is_within_tolerance) == (1, False, False)
    assert not compared(losses(0.5), losses(0.5, name="other")).is_within_tolerance


@pytest.mark.parametrize(
    "name",
    [
        "time",
        "epoch_time",
        "train/epoch_time",
        "val.duration",
        "train_runtime",
        "eval_samples_per_second",
        "steps/sec",
        "latency_ms",
        "time_s",
        "step_time_ms",
        "time_total_s",
        "time/fps",
        "Throughput",
        "epochTime",
        "samplesPerSecond",
        "train/it/s",
    ],
)
def test_what_a_clock_measured_is_not_compared_and_is_named(compared, name):
    found = compared([*losses(0.5), *losses(1.0, name=name)], [*losses(0.5), *losses(2.0, name=name)])
    assert found.is_identical
    assert (found.points, found.ignored) == (1, (name,))


@pytest.mark.parametrize(
    "name",
    [
        "loss",
        "timesteps",
        "sentiment",
        "items",
        "atoms",
        "time_mae",
        "n_papers",
        "total_timesteps",
        "perplexity",
    ],
)
def test_what_only_sounds_like_a_clock_is_compared(compared, name):
    assert not compared(losses(1.0, name=name), losses(2.0, name=name)).is_identical


def test_the_load_of_the_machine_is_not_compared(compared):
    first = [*losses(0.5), *losses(80.0, name="system/cpu_percent")]
    second = [*losses(0.5), *losses(20.0, 30.0, name="system/cpu_percent")]
    assert compared(first, second).is_identical


def test_tolerances_are_relative_or_absolute_and_of_single_metrics(compared):
    first = [Metrics(1.0, 0, {"loss": 1.0, "auc": 1.0})]
    second = [Metrics(1.0, 0, {"loss": 1.001, "auc": 1.001})]
    assert not compared(first, second).is_within_tolerance
    assert compared(first, second, Tolerance(rtol=0.01)).is_within_tolerance
    assert compared(first, second, Tolerance(rtol=0.0, atol=0.01)).is_within_tolerance
    assert not compared(first, second, Tolerance(of_metric={"loss": 0.01})).is_within_tolerance
    assert compared(first, second, Tolerance(of_metric={"loss": 0.01, "auc": 0.01})).is_within_tolerance
    assert not compared(first, second, Tolerance(rtol=0.01, of_metric={"loss": 0.0})).is_within_tolerance


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (math.nan, 1.0),
        (1.0, math.nan),
        (math.inf, 1.0),
        (1.0, math.inf),
        (math.inf, -math.inf),
        (-math.inf, math.inf),
        (math.inf, math.nan),
    ],
)
def test_no_tolerance_makes_nan_or_infinity_equal_to_a_number(compared, one, other):
    found = compared(losses(one), losses(other), Tolerance(rtol=0.5, atol=1e9))
    assert not found.is_within_tolerance
    assert found.divergences[0].relative == math.inf


def test_zero_and_numbers_near_it_are_compared_without_a_fault(compared):
    found = compared(losses(0.0, 0.0), losses(5e-324, 1e-3))
    assert found.divergences[0].relative == 1.0
    assert compared(losses(0.0), losses(1e-9), Tolerance(atol=1e-6)).is_within_tolerance


def test_params_that_differ_are_named_with_both_values(compared):
    found = compared(
        losses(1.0),
        losses(1.0),
        before={"lr": 0.1, "gone": 1, "same": "x", "model": "<Net object at 0x7f00a1>"},
        after={"lr": 0.2, "new": None, "same": "x", "model": "<Net object at 0x7f11b2>"},
    )
    assert found.params == (
        "param lr: 0.1 -> 0.2",
        "param gone: 1 -> not set",
        "param new: not set -> None",
    )
    assert not found.has_same_inputs


def test_a_changed_dataset_is_named_by_its_columns(tmp_path):
    tracker = mlobs.Tracker(store=tmp_path / "store", delivery="thread")
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [0, 1]})
    records = []
    for data in (frame, frame.assign(x=[1.0, 2.5], z=[1, 1])):
        with tracker.start_run() as run:
            run.log_dataset("train", data)
        records.append(mlobs.load_run(run.id, store=tmp_path / "store"))
    found = compare(*records, EXACT)
    assert found.datasets == ("dataset train: column x changed", "dataset train: column z is new")


def test_the_same_rows_in_another_order_are_told_from_other_rows(tmp_path):
    tracker = mlobs.Tracker(store=tmp_path / "store", delivery="thread")
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    records = []
    for data in (frame, frame[::-1]):
        with tracker.start_run() as run:
            run.log_dataset("train", data)
        records.append(mlobs.load_run(run.id, store=tmp_path / "store"))
    assert compare(*records, EXACT).datasets == ("dataset train: same rows, other order",)


def test_datasets_are_matched_by_name_and_use(compared):
    found = compared(
        [dataset("a", context="train"), dataset("b"), *losses(1.0)],
        [dataset("a", context="test"), dataset("c"), dataset("b"), *losses(1.0)],
    )
    assert found.datasets == (
        "dataset a (train) was not used again",
        "dataset a (test) is new",
        "dataset c (train) is new",
    )


def test_every_use_of_a_dataset_is_compared_and_not_the_last_alone(compared):
    first = [dataset(text="tfp1:1"), dataset(text="tfp1:2")]
    second = [dataset(text="tfp1:3"), dataset(text="tfp1:2")]
    assert not compared(first, second).has_same_inputs
    assert not compared(first, first[1:]).has_same_inputs
    assert compared(first, first).has_same_inputs


def test_a_dataset_recorded_without_its_parts_names_none_of_them(compared):
    """The digests of thousands of columns are not in the journal: nothing can be said of a single one."""
    known = {"columns": {"x": "f64"}, "digests": {"x": "1"}, "rows": 2}
    found = compared(
        [dataset(text="tfp1:1", columns={"x": "f64"}, rows=2)], [dataset(text="tfp1:2", **known)]
    )
    assert found.datasets == ("dataset train: the content changed",)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (dataset(text="tfp1:1"), dataset(text="stat1:1", strength="stat")),
        (dataset(text="name:s3://a/b", strength="name"), dataset(text="name:s3://a/b", strength="name")),
        (dataset(text="stat1:1", strength="stat"), dataset(text="stat1:1", strength="stat")),
    ],
)
def test_a_dataset_that_cannot_be_told_is_neither_the_same_nor_another(compared, first, second):
    found = compared([first, *losses(1.0)], [second, *losses(1.0)])
    assert found.has_same_inputs
    assert not found.has_known_inputs
    assert found.uncertain[0].startswith("dataset train: ")


def test_models_are_compared_by_their_parts(compared):
    found = compared(
        [model("1", leaves={"$.w": "1", "$.b": "0"}), *losses(1.0)],
        [model("2", leaves={"$.w": "2", "$.b": "0"}), *losses(1.0)],
    )
    assert found.model_differences == ("model net: leaf $.w differs",)
    assert (found.models, found.is_identical, found.is_within_tolerance) == (1, False, True)


def test_a_model_that_one_run_lacks_is_a_difference(compared):
    found = compared([model(), model(name="head", step=3), model(name="z")], [model()])
    assert found.model_differences == (
        "model head was recorded by one run alone",
        "model z was recorded by one run alone",
    )
    assert not found.is_identical


def test_checkpoints_of_one_name_are_compared_by_step(compared):
    first = [model("1", step=1), model("2", step=2)]
    assert compared(first, first[::-1]).is_identical
    assert not compared(first, [model("2", step=1), model("1", step=2)]).is_identical


def test_real_models_that_differ_say_where(tmp_path):
    linear = pytest.importorskip("sklearn.linear_model")
    tracker = mlobs.Tracker(store=tmp_path / "store", delivery="thread", repro="auto")
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10.0)
    records = []
    for target in (y, y, y + x[:, 0] ** 2):
        with tracker.start_run() as run:
            run.log_model("fit", linear.LinearRegression().fit(x, target))
        records.append(mlobs.load_run(run.id, store=tmp_path / "store"))
    assert compare(*records[:2], EXACT).is_identical
    different = compare(*records[1:], EXACT).model_differences
    assert any("coef_" in line for line in different), different


def test_runs_without_anything_in_common_have_no_results(compared):
    assert not compared([], []).has_results
    assert not compared(losses(1.0), losses(1.0, name="other")).has_results
