"""Which arguments of a tracked function are data, and which results are models."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mlobs
from mlobs.call_data import datasets_in, models_in
from mlobs.repro.vast_folders import MOST_ENTRIES, is_vast

ARRAY = np.zeros((20, 10))


class Frame(pd.DataFrame):
    """A frame of somebody's own class, as geopandas' are."""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("x\n1\n")
    return path


def test_frames_series_tables_and_arrays_are_data():
    pyarrow, polars = pytest.importorskip("pyarrow"), pytest.importorskip("polars")
    given = {
        "frame": pd.DataFrame({"x": [1]}),
        "series": pd.Series([1]),
        "own": Frame({"x": [1]}),
        "arrow": pyarrow.table({"x": [1]}),
        "batch": pyarrow.record_batch({"x": [1]}),
        "polars": polars.DataFrame({"x": [1]}),
        "array": ARRAY,
    }
    assert datasets_in(given) == given


def test_tensors_and_sparse_matrices_are_data():
    sparse = pytest.importorskip("scipy.sparse")
    assert datasets_in({"m": sparse.csr_matrix(ARRAY)}).keys() == {"m"}
    torch = pytest.importorskip("torch")
    given = {"big": torch.zeros(101), "small": torch.zeros(100), "one": torch.tensor(1.0)}
    assert datasets_in(given).keys() == {"big"}


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(100),
        np.float64(1.0),
        1,
        0.5,
        None,
        True,
        "adam",
        [1, 2, 3],
        {"lr": 0.1},
        pd.DataFrame,
        np.zeros,
        dt.date(2024, 1, 1),
        b"bytes",
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_are_no_data(value):
    assert datasets_in({"value": value}) == {}


def test_existing_files_and_folders_are_data_as_texts_and_as_paths(table, monkeypatch):
    monkeypatch.chdir(table.parent)
    given = {
        "path": table,
        "text": str(table),
        "relative": "train.csv",
        "folder": str(table.parent),
        "dot": "./",
        "object": Path("train.csv"),
    }
    assert datasets_in(given) == given


@pytest.mark.parametrize(
    "text", ["gone.csv", "/no/such/folder", "a\0b.csv", "x" * 5000 + ".csv", ".", "", "train"]
)
def test_texts_that_name_nothing_are_no_data(text, table, monkeypatch):
    monkeypatch.chdir(table.parent)
    (table.parent / "train").mkdir()
    assert datasets_in({"text": text}) == {}


@pytest.mark.parametrize(
    "name",
    [
        "output_dir",
        "out",
        "save_path",
        "log_dir",
        "logdir",
        "checkpoint_path",
        "ckpt",
        "dest",
        "workdir",
        "run_dir",
        "model-output",
        "cacheDir",
        "outputDir",
        "results",
        "OUTPUT",
    ],
)
def test_a_path_that_is_written_to_is_no_data(name, table):
    assert datasets_in({name: str(table)}) == {}


@pytest.mark.parametrize(
    "name", ["data", "routes", "catalog", "input_path", "prediction_source", "about", "template"]
)
def test_a_name_that_only_holds_such_a_word_is_no_output(name, table):
    assert datasets_in({name: str(table)}).keys() == {name}


def test_a_name_of_an_output_does_not_make_a_frame_one():
    assert datasets_in({"target": pd.DataFrame({"y": [1]})}).keys() == {"target"}


def test_a_folder_is_vast_beyond_a_bound_and_nothing_else_is(tmp_path, table):
    assert not is_vast(tmp_path)
    assert not is_vast(str(table))
    assert not is_vast(ARRAY)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(MOST_ENTRIES + 1):
        (folder / str(number)).touch()
    assert is_vast(str(folder))


def test_a_vast_folder_among_the_arguments_is_recorded_by_its_name(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(MOST_ENTRIES + 1):
        (folder / str(number)).touch()
    tracker = mlobs.Tracker(store=tmp_path / "store", delivery="thread", on_error="raise")

    @tracker.track
    def fit(images):
        return {"files": len(images)}

    fit(str(folder))
    (recorded,) = mlobs.load_run("latest", store=tmp_path / "store").datasets
    assert (recorded.strength, recorded.source) == ("name", str(folder))
    assert recorded.fingerprint == f"name:{folder}"


class Network:
    def forward(self): ...
    def state_dict(self): ...


class Estimator:
    def predict(self): ...


def test_models_are_found_in_what_a_function_returns():
    one, two = Estimator(), Network()
    assert models_in(one) == {"model": one}
    assert models_in((one, {"loss": 0.1}, two)) == {"model": one, "model-2": two}
    assert models_in({"first": one, "loss": 0.1, 3: two}) == {"first": one, "3": two}
    assert models_in([]) == models_in(None) == models_in("text") == models_in(0.5) == {}


def test_a_class_is_no_model():
    assert models_in(Estimator) == {}
    assert models_in({"kind": Network}) == {}
