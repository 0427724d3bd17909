"""`run.log_dataset` and the data among a tracked function's arguments, on real runs."""

import logging
import os

import numpy as np
import pandas as pd
import pytest

import mlobs
from mlobs.errors import UsageError
from mlobs.journal.store import Store
from mlobs.repro.registry import versions

FRAME = pd.DataFrame({"city": ["Oslo", "Rome"], "price": [10.0, 12.5]})


@pytest.fixture
def tracker(tmp_path):
    return mlobs.Tracker("unit", store=tmp_path / "store", delivery="thread")


@pytest.fixture
def warnings(caplog):
    """What has been warned about so far, when called."""
    caplog.set_level(logging.WARNING, "mlobs")
    return lambda: [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def logged(tracker, *args, **kwargs):
    """Log one dataset in a run of its own, and read it back."""
    with tracker.start_run() as run:
        run.log_dataset(*args, **kwargs)
    return mlobs.load_run(run.id, store=tracker.settings.store).datasets


def test_a_frame_is_recorded_with_its_fingerprint_its_columns_and_its_rows(tracker):
    (one,) = logged(tracker, "prices", FRAME, version="2024-05", context="test", step=3, meta={"by": "me"})
    assert one.fingerprint == mlobs.fingerprint(FRAME).text
    assert (one.name, one.version, one.strength, one.context) == ("prices", "2024-05", "content", "test")
    assert (one.rows, one.step, one.source) == (2, 3, None)
    assert one.columns == {"city": "utf8", "price": "f64"}
    assert one.digests.keys() == {"city", "price"}
    assert one.meta["by"] == "me"
    assert one.meta["size_bytes"] > 0


@pytest.mark.parametrize(
    "data",
    [
        np.arange(6.0).reshape(3, 2),
        (np.arange(3.0), np.arange(3)),
        {"x": np.arange(3.0), "y": np.arange(3)},
        pd.Series([1, 2]),
    ],
    ids=lambda one: type(one).__name__,
)
def test_arrays_and_several_of_them_are_recorded(tracker, data):
    (one,) = logged(tracker, "train", data)
    assert (one.fingerprint, one.strength) == (mlobs.fingerprint(data).text, "content")


def test_a_file_and_a_folder_are_recorded_with_their_place(tracker, tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.csv").write_text("x\n1\n")
    monkeypatch.chdir(tmp_path)
    (file,) = logged(tracker, "file", "data/a.csv")
    (path,) = logged(tracker, "path", folder / "a.csv")
    (tree,) = logged(tracker, "tree", folder)
    assert file.source == path.source == str(folder / "a.csv")
    assert file.fingerprint == path.fingerprint
    assert file.fingerprint.startswith("b3:")
    assert (tree.source, tree.fingerprint.partition(":")[0]) == (str(folder), "tree1")
    assert tree.digests.keys() == {"a.csv"}


def test_a_link_is_recorded_as_the_path_that_was_given(tracker, tmp_path):
    (tmp_path / "real.csv").write_text("x\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    (one,) = logged(tracker, "train", tmp_path / "link.csv")
    assert one.source == str(tmp_path / "link.csv")


@pytest.mark.parametrize(
    ("uri", "strength"),
    [
        (
            "s3://bucket/train.csv?X-Amz-Signature=abcdef0123456789&X-Amz-Credential=AKIAABCDEFGHIJKLMNOP",
            "name",
        ),
        ("https://me:s3cr3t-pass@host/train.csv?token=abcdef0123456789", "name"),
        ("https://acc.blob.core.windows.net/c/t.csv?sv=2022&sig=abcdef0123456789%3D", "name"),
        ("azureml:prices:3", "pinned"),
    ],
)
def test_a_uri_is_recorded_without_its_secrets(tracker, uri, strength):
    (one,) = logged(tracker, "train", uri)
    assert one.strength == strength
    assert one.source.startswith(uri[:8])
    assert one.source.partition("://")[0] == uri.partition("://")[0]
    everywhere = b"".join(path.read_bytes() for path in tracker.settings.store.rglob("*") if path.is_file())
    for secret in (b"abcdef0123456789", b"s3cr3t-pass", b"AKIAABCDEFGHIJKLMNOP"):
        assert secret not in everywhere


def test_the_same_version_with_other_data_is_warned_about_with_the_change(tracker, warnings):
    logged(tracker, "prices", FRAME, version="2024-05")
    first = mlobs.load_run("latest", store=tracker.settings.store)
    logged(tracker, "prices", FRAME, version="2024-05")
    assert warnings() == []
    (one,) = logged(tracker, "prices", FRAME.assign(price=[10.0, 13.0]), version="2024-05")
    assert one.fingerprint != first.datasets[0].fingerprint
    (warning,) = warnings()
    assert warning.startswith(f"{__file__}:")
    assert warning.endswith(
        f"log_dataset('prices') version '2024-05' held other data in run {first.run_id}: column price changed"
        " - give changed data a version of its own"
    )


def test_without_a_version_changed_data_is_another_version_and_no_warning(tracker, warnings):
    for price in (1.0, 2.0, 1.0):
        logged(tracker, "prices", FRAME.assign(price=price))
    assert warnings() == []
    assert len(versions(Store(tracker.settings.store), "prices")) == 2


def test_a_disabled_tracker_does_nothing(tmp_path):
    tracker = mlobs.Tracker(store=tmp_path / "store", mode="disabled", on_error="raise")
    with tracker.start_run() as run:
        run.log_dataset("train", object())
        run.log_dataset("gone", "/no/such/file")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "data", [object(), "/no/such/file.csv", lambda: None, None, 3], ids=lambda one: type(one).__name__
)
def test_what_has_no_fingerprint_is_warned_about_and_training_goes_on(tracker, warnings, data):
    with tracker.start_run() as run:
        run.log_dataset("train", data)
        run.log_metric("loss", 0.5)
    record = mlobs.load_run(run.id, store=tracker.settings.store)
    assert (record.status, record.datasets, record.last_metrics) == ("FINISHED", (), {"loss": 0.5})
    assert "log_dataset('train') was not recorded: " in warnings()[0]


def test_it_raises_for_tests_if_asked_to(tmp_path):
    tracker = mlobs.Tracker(store=tmp_path / "store", on_error="raise", delivery="thread")
    with tracker.start_run() as run, pytest.raises(UsageError, match="no file or folder '/no/such"):
        run.log_dataset("train", "/no/such/file.csv")
    with tracker.start_run() as run, pytest.raises(UsageError, match="a name is"):
        run.log_dataset("", FRAME)
    with tracker.start_run() as run, pytest.raises(UsageError, match="strength='strong' is unknown"):
        run.log_dataset("train", FRAME, fingerprint="strong")


@pytest.mark.parametrize("strength", ["content", "rows", "stat"])
def test_the_strength_that_is_asked_for_is_what_is_recorded(tracker, strength):
    (one,) = logged(tracker, "train", FRAME, fingerprint=strength)
    assert one.strength == strength
    assert one.fingerprint == mlobs.fingerprint(FRAME, strength=strength).text


def test_a_table_of_thousands_of_columns_stays_small_in_the_journal(tracker):
    wide = pd.DataFrame(np.zeros((2, 2001)), columns=[f"c{number}" for number in range(2001)])
    (one,) = logged(tracker, "wide", wide, version="1")
    assert one.digests is None
    (kept,) = versions(Store(tracker.settings.store), "wide")
    assert len(kept.digests) == 2001
    assert mlobs.diff_fingerprints(kept.as_fingerprint(), mlobs.fingerprint(wide.assign(c7=1.0))) == [
        "column c7 changed"
    ]


def test_a_store_that_cannot_be_written_stops_no_training(tmp_path, warnings):
    tracker = mlobs.Tracker(store=tmp_path / "store", delivery="thread")
    with tracker.start_run() as run:
        (tmp_path / "store" / "datasets").write_text("a file, where the folder is to be")
        run.log_dataset("train", FRAME, version="1")
        run.log_metric("loss", 0.5)
    record = mlobs.load_run(run.id, store=tmp_path / "store")
    assert (record.status, record.last_metrics) == ("FINISHED", {"loss": 0.5})
    assert [one.fingerprint for one in record.datasets] == [mlobs.fingerprint(FRAME).text]
    assert len(warnings()) == 1


def test_frames_arrays_and_paths_among_the_arguments_are_datasets(tracker, tmp_path):
    (tmp_path / "extra.csv").write_text("x\n1\n")

    @tracker.track
    def fit(frame, *, labels, path, lr=0.1, output_dir="out", **more):
        assert all(one is not None for one in (labels, path, output_dir, more))
        return {"loss": lr * len(frame)}

    fit(FRAME, labels=np.zeros(200), path=tmp_path / "extra.csv", output_dir=str(tmp_path), other=FRAME)
    record = mlobs.load_run("latest", store=tracker.settings.store)
    found = {one.name: one for one in record.datasets}
    assert found.keys() == {"frame", "labels", "path", "other"}
    assert found["frame"].fingerprint == found["other"].fingerprint == mlobs.fingerprint(FRAME).text
    assert {one.strength for one in found.values()} == {"content"}
    assert record.params["lr"] == 0.1
    assert record.params["output_dir"] == str(tmp_path)


def test_data_that_takes_longer_than_its_budget_gets_a_weaker_fingerprint(tracker):
    big = np.zeros(100_000_000 // 8 * 10)  # 1 GB that nothing was written to

    @tracker.track
    def fit(big, small):
        return {"size": len(big) + len(small)}

    fit(big, FRAME)
    found = {one.name: one for one in mlobs.load_run("latest", store=tracker.settings.store).datasets}
    assert (found["big"].strength, found["small"].strength) == ("stat", "content")
    assert found["big"].meta["seconds"] < 1.0


def test_an_argument_that_cannot_be_read_stops_no_call(tracker, warnings):
    class Broken(pd.DataFrame):
        @property
        def columns(self):
            raise RuntimeError("broken")

    @tracker.track
    def fit(data):
        return {"loss": 0.5 * (type(data) is Broken)}

    broken = Broken.__new__(Broken)
    assert fit(broken) == {"loss": 0.5}
    assert warnings()
    assert mlobs.load_run("latest", store=tracker.settings.store).status == "FINISHED"


@pytest.mark.parametrize(
    ("log_return", "models", "metrics"),
    [
        ("metrics", set(), {"r2": 1.0}),
        ("models", {"model", "model-2"}, {}),
        ("all", {"model", "model-2"}, {}),
        (None, set(), {}),
    ],
)
def test_models_that_are_returned_are_recorded_if_asked_for(tmp_path, log_return, models, metrics):
    linear = pytest.importorskip("sklearn.linear_model")
    tracker = mlobs.Tracker(store=tmp_path / "store", delivery="thread", on_error="raise", repro="auto")
    x = np.arange(20.0).reshape(10, 2)

    @tracker.track(log_return=log_return)
    def fit():
        fitted = [kind().fit(x, x[:, 0]) for kind in (linear.LinearRegression, linear.Ridge)]
        return {"r2": 1.0} if log_return == "metrics" else (*fitted, 0.5)

    fit()
    record = mlobs.load_run("latest", store=tmp_path / "store")
    assert {one.name for one in record.models} == models
    assert {one.path.partition("/")[0] for one in record.artifacts if one.role == "model"} == models
    assert record.last_metrics == metrics
    for one in record.models:
        assert record.tags[f"mlobs.model.{one.name}"] == one.fingerprint


def test_all_takes_numbers_and_models_of_one_mapping(tmp_path):
    linear = pytest.importorskip("sklearn.linear_model")
    tracker = mlobs.Tracker(store=tmp_path / "store", delivery="thread", on_error="raise", repro="auto")

    @tracker.track(log_return="all")
    def fit():
        x = np.arange(20.0).reshape(10, 2)
        return {"best": linear.LinearRegression().fit(x, x[:, 0]), "r2": 0.9, "notes": "text"}

    fit()
    record = mlobs.load_run("latest", store=tmp_path / "store")
    assert [one.name for one in record.models] == ["best"]
    assert record.last_metrics == {"r2": 0.9}


def test_without_a_snapshot_models_are_recorded_and_not_fingerprinted(tmp_path):
    linear = pytest.importorskip("sklearn.linear_model")
    tracker = mlobs.Tracker(store=tmp_path / "store", delivery="thread", repro="off")
    with tracker.start_run() as run:
        run.log_model("fit", linear.LinearRegression())
    record = mlobs.load_run(run.id, store=tmp_path / "store")
    assert record.models == ()
    assert record.artifacts
    assert os.environ["MLOBS_REPRO"] == "off"
