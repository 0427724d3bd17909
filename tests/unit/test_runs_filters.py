"""Which runs are listed, and which value of a metric stands for a run."""

from datetime import datetime, timedelta, timezone

import pytest
from recorded import open_run, record_run

import mlobs
from mlobs.errors import UsageError
from mlobs.events import Metrics, Params, Rewind
from mlobs.journal.store import Store
from mlobs.moments import moment_of


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    for at, lr in ((1000.0, 0.1), (100_000.0, 0.01), (200_000.0, 0.001)):
        values = [(0, 3.0 * lr, 0.2), (1, 1.0 * lr, 0.9), (2, 2.0 * lr, 0.5)]
        events = [Metrics(at + 1 + step, step, {"loss": loss, "acc": acc}) for step, loss, acc in values]
        record_run(made, Params(at, {"lr": lr}), *events, at=at, name=f"lr {lr:g}")
    return made


def names(store, **choice):
    return list(mlobs.runs(store=store, **choice)["name"])


def test_a_condition_chooses_runs(store):
    assert names(store, where="params.lr < 0.05 and metrics.acc.max > 0.8") == ["lr 0.01", "lr 0.001"]


def test_a_function_chooses_runs_by_their_summary(store):
    assert names(store, where=lambda run: run.metrics["loss"].min == 0.1 and run.duration_s == 60) == [
        "lr 0.1"
    ]


def test_a_wrong_condition_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(UsageError, match="character 1 "):
        mlobs.runs(store=Store(tmp_path / "not there"), where="f()")


def test_since_takes_a_moment_as_datetime_as_text_or_as_how_long_ago(store):
    later = datetime.fromtimestamp(100_000.0, timezone.utc)
    assert names(store, since=later) == ["lr 0.01", "lr 0.001"]
    assert names(store, since=later.replace(tzinfo=None)) == ["lr 0.01", "lr 0.001"]
    assert names(store, since=later.astimezone(timezone(timedelta(hours=5)))) == ["lr 0.01", "lr 0.001"]
    assert names(store, since="1970-01-03T00:00:00Z") == ["lr 0.001"]
    assert names(store, since="7d") == []
    assert names(store, since="1969-12-31") == ["lr 0.1", "lr 0.01", "lr 0.001"]


def test_how_long_ago_is_counted_from_now():
    units = {"90s": 90, "1.5m": 90, "2h": 7200, "7d": 604_800, "1w": 604_800}
    assert {text: 1e6 - moment_of(text, now=lambda: 1e6) for text in units} == units
    with pytest.raises(UsageError, match='expected ISO 8601, such as "2024-01-31"'):
        moment_of("last week")


@pytest.mark.parametrize(
    ("aggregate", "loss", "acc"),
    [
        ("last", 0.2, 0.5),
        ("first", 0.3, 0.2),
        ("min", 0.1, 0.2),
        ("max", 0.3, 0.9),
        ("mean", 0.2, 1.6 / 3),
        ({"loss": "min"}, 0.1, 0.5),
        ({"loss": "at max acc", "acc": "max"}, 0.1, 0.9),
        ({"acc": "at min loss"}, 0.2, 0.9),
        ("at max loss", 0.3, 0.2),
    ],
)
def test_any_value_of_a_metric_can_stand_for_the_run(store, aggregate, loss, acc):
    first = mlobs.runs(store=store, aggregate=aggregate).iloc[0]
    assert first["metrics.loss"] == pytest.approx(loss)
    assert first["metrics.acc"] == pytest.approx(acc)


def test_the_best_step_of_a_metric_that_a_run_lacks_leaves_the_value_out(store):
    record_run(store, Metrics(5001.0, 0, {"loss": 0.7, "f1": 0.5}), at=5000.0)
    frame = mlobs.runs(store=store, aggregate={"loss": "at max f1"})
    assert "metrics.acc" in frame
    assert frame["metrics.loss"].dropna().tolist() == [0.7]


@pytest.mark.parametrize("aggregate", [{"acc": "at max losss"}, {"losss": "min"}, "at min losss"])
def test_a_metric_that_no_run_has_is_no_aggregate(store, aggregate):
    message = "aggregate: none of the runs has a metric 'losss' - did you mean 'loss'"
    with pytest.raises(UsageError, match=message):
        mlobs.runs(store=store, aggregate=aggregate)
    assert mlobs.runs(store=store, aggregate=aggregate, experiment="none").empty
    record_run(store, at=5000.0, experiment="fresh")
    assert len(mlobs.runs(store=store, aggregate=aggregate, experiment="fresh")) == 1, "it has no metric yet"


def test_aggregates_leave_nan_out_and_keep_infinities(tmp_path):
    values = [float("nan"), 2.0, float("inf"), 4.0]
    record_run(Store(tmp_path), *[Metrics(1001.0 + n, n, {"loss": value}) for n, value in enumerate(values)])
    found = {
        word: mlobs.runs(store=tmp_path, aggregate=word)["metrics.loss"][0] for word in ("min", "max", "mean")
    }
    assert found == {"min": 2.0, "max": float("inf"), "mean": float("inf")}


def test_an_unknown_aggregate_is_refused(store):
    with pytest.raises(UsageError, match='expected one of last, first, min, max, mean, or "at max METRIC"'):
        mlobs.runs(store=store, aggregate={"loss": "median"})


def test_what_was_rewound_counts_for_no_aggregate(tmp_path):
    _, writer = open_run(Store(tmp_path), Metrics(1001.0, 0, {"loss": 9.0}), Rewind(1002.0, 0))
    writer.append(Metrics(1003.0, 0, {"loss": 1.0}))
    writer.close()
    assert mlobs.runs(store=tmp_path, aggregate="max")["metrics.loss"][0] == 1.0
