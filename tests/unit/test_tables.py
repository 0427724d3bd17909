"""Tables: whatever shape they come in, the same rows come back."""

import datetime as dt
import math
import sys

import numpy as np
import pandas as pd
import pytest

import mlobs
from mlobs.errors import UsageError
from mlobs.payloads import tables


@pytest.fixture
def run(tmp_path):
    with mlobs.Tracker("tables", store=tmp_path / "store", on_error="raise").start_run() as run:
        yield run


def kept(run, path):
    (found,) = [
        one for one in mlobs.load_run(run.id, store=run._opened.folder.store).artifacts if one.path == path
    ]
    return found


FRAME = pd.DataFrame({"id": [1, 2, 2**62], "score": [0.1, math.nan, 1 / 3], "name": ["a", None, "ü|"]})


@pytest.mark.parametrize(
    "table", [FRAME, FRAME.to_dict("records"), FRAME.to_dict("list"), {n: FRAME[n].to_numpy() for n in FRAME}]
)
def test_frames_rows_and_columns_are_one_table(run, table):
    run.log_table("predictions", table, step=4)

    found = kept(run, "predictions.json")
    assert (found.role, found.media_type, found.step) == ("table", "application/json", 4)
    frame = found.frame()
    assert list(frame.columns) == ["id", "score", "name"]
    assert frame["id"].tolist() == [1, 2, 2**62]
    assert frame["score"].tolist()[::2] == [0.1, 1 / 3]
    assert frame["score"].isna().tolist() == frame["name"].isna().tolist() == [False, True, False]


def test_frames_of_other_engines_are_tables_too(run):
    polars, arrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    columns = {"id": [1, 2, 2**62], "score": [0.1, None, 1 / 3], "name": ["a", None, "ü|"]}
    run.log_table("polars", polars.DataFrame(columns))
    run.log_table("arrow", arrow.table(columns))

    for name in ("polars.json", "arrow.json"):
        frame = kept(run, name).frame()
        assert frame["id"].tolist() == columns["id"]
        assert frame["score"].tolist()[::2] == columns["score"][::2]
        assert frame["name"].isna().tolist() == [False, True, False]


def test_values_of_any_type_become_what_json_has(run):
    moment = dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.timezone.utc)
    row = {"at": moment, "day": pd.Timestamp("2026-01-02"), "none": pd.NaT, "na": pd.NA, "inf": math.inf}
    row |= {"number": np.float32(0.5), "flag": np.bool_(True), "list": [1, math.nan], "nested": {"a": (1,)}}
    run.log_table("odd", [row])

    values = kept(run, "odd.json").frame().iloc[0].to_dict()
    assert values == {
        "at": "2026-01-02T03:04:00+00:00",
        "day": "2026-01-02T00:00:00",
        "none": None,
        "na": None,
        "inf": "inf",
        "number": 0.5,
        "flag": True,
        "list": [1, None],
        "nested": {"a": [1]},
    }


def test_rows_may_lack_columns(run):
    run.log_table("ragged", [{"a": 1}, {"b": 2}])

    assert kept(run, "ragged.json").frame().to_dict("list")["b"][1] == 2


def test_an_index_that_says_something_becomes_columns(run):
    run.log_table("indexed", pd.DataFrame({"v": [1.0]}, index=pd.Index(["x"], name="key")))

    assert kept(run, "indexed.json").frame().to_dict("records") == [{"key": "x", "v": 1.0}]


def test_columns_of_one_name_both_stay(run):
    run.log_table("twice", pd.DataFrame([[1, 2]], columns=["a", "a"]))

    assert kept(run, "twice.json").frame().to_numpy().tolist() == [[1, 2]]


def test_parquet_keeps_every_type(run):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"at": pd.to_datetime(["2026-01-02"]), 7: np.array([2**60], dtype=np.int64)})
    run.log_table("large.parquet", frame)

    back = kept(run, "large.parquet").frame()
    assert list(back.columns) == ["at", "7"]
    assert back["7"].tolist() == [2**60]
    assert back["at"].tolist() == frame["at"].tolist()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "expected a DataFrame"),
        ([1, 2], "expected a list of dicts"),
        ({"a": [1], "b": [1, 2]}, "expected one length"),
        ({"a": 3}, "no list of values"),
        ({"a": "text"}, "no list of values"),
        ("text", "expected a DataFrame"),
    ],
)
def test_what_is_no_table_is_refused(value, words):
    with pytest.raises(UsageError, match=words):
        tables.table("t", value)


def test_a_table_too_large_for_json_says_what_to_type():
    rows = pd.DataFrame({"a": np.zeros(2_000_001)})
    with pytest.raises(UsageError, match=r"'t\.parquet' \(pip install 'mlobs\[parquet\]'\)"):
        tables.table("t", rows)


def test_parquet_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'mlobs\[parquet\]'"):
        tables.table("t.parquet", FRAME)
