"""Tables: whatever shape they come in, the same rows come back."""

import datetime as dt
import decimal
import io
import itertools
import json
import math
import sys
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pytest

import mlobs
from mlobs.errors import UsageError
from mlobs.payloads import tables
from mlobs.payloads.columns import columns_of


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
        "inf": "Infinity",
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
        (pd.DataFrame({"a": [1]}).to_dict(), r"log the DataFrame itself, or frame.to_dict\('list'\)"),
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


def test_nothing_is_left_out_of_a_cell_or_a_document(run):
    deep = [1]
    for _ in range(60):
        deep = [deep]
    embedding = np.arange(768, dtype=np.float32)
    run.log_table("wide", [{"embedding": embedding, "deep": deep}])
    run.log_dict("weights", {"w": np.zeros(101), "deep": deep})

    (row,) = kept(run, "wide.json").frame().to_dict("records")
    assert row == {"embedding": embedding.tolist(), "deep": deep}
    assert json.loads(kept(run, "weights.json").text()) == {"w": [0.0] * 101, "deep": deep}


def test_what_is_too_deep_or_contains_itself_is_said(run):
    deep = []
    for _ in range(120):
        deep = [deep]
    with pytest.raises(UsageError, match="nested deeper than 100 levels"):
        run.log_dict("deep", deep)
    cycle = {"deep": 1}
    cycle["me"] = cycle
    run.log_dict("cycle", cycle)
    assert json.loads(kept(run, "cycle.json").text()) == {"deep": 1, "me": "<dict, not shown again>"}


def test_a_lazy_frame_says_what_to_call():
    polars = pytest.importorskip("polars")
    with pytest.raises(UsageError, match=r"call \.collect\(\) first"):
        tables.table("t", polars.LazyFrame({"a": [1]}))


MOMENTS = np.array(["2026-01-01", "NaT"], dtype="datetime64[ns]")


@pytest.mark.parametrize(
    "table", [{"at": MOMENTS}, pd.DataFrame({"at": MOMENTS}), [{"at": one} for one in MOMENTS]]
)
def test_moments_are_iso_8601(run, table):
    run.log_table("moments", table)

    assert json.loads(kept(run, "moments.json").text())["data"] == [["2026-01-01T00:00:00"], [None]]


@pytest.mark.parametrize("suffix", ["", ".parquet"])
@pytest.mark.parametrize("engine", ["polars", "pyarrow"])
def test_large_integers_beside_missing_ones_are_kept(run, engine, suffix):
    module, columns = pytest.importorskip(engine), {"id": [2**60 + 1, None]}
    run.log_table(f"ids{suffix}", module.DataFrame(columns) if engine == "polars" else module.table(columns))

    found = kept(run, f"ids{suffix or '.json'}")
    if suffix:
        assert (
            pytest.importorskip("pyarrow.parquet").read_table(io.BytesIO(found.read_bytes())).to_pydict()
            == columns
        )
    else:
        assert json.loads(found.text())["data"] == [[2**60 + 1], [None]]


def test_columns_whose_names_are_one_text_both_stay(run):
    run.log_table("twice", {1: [1], "1": [2]})

    assert kept(run, "twice.json").frame().to_numpy().tolist() == [[1, 2]]


def test_a_part_of_a_frame_keeps_its_index(run):
    run.log_table("part", pd.DataFrame({"v": range(10)}).iloc[5:7])

    assert kept(run, "part.json").frame().to_dict("list") == {"index": [5, 6], "v": [5, 6]}


@pytest.mark.parametrize("suffix", ["", ".parquet"])
def test_an_index_that_is_called_like_a_column_gets_another_name(run, suffix):
    frame = pd.DataFrame({"b": [1, 2], "index": [3, 4]})
    run.log_table(f"kept{suffix}", frame.set_index("b", drop=False))
    run.log_table(f"bare{suffix}", frame.iloc[1:])
    run.log_table(f"both{suffix}", frame.set_index(["b", "index"], drop=False))

    suffix = suffix or ".json"
    assert kept(run, f"kept{suffix}").frame().to_dict("list") == {
        "index_b": [1, 2],
        "b": [1, 2],
        "index": [3, 4],
    }
    assert kept(run, f"bare{suffix}").frame().to_dict("list") == {"index_index": [1], "b": [2], "index": [4]}
    assert list(kept(run, f"both{suffix}").frame()) == ["index_b", "index_index", "b", "index"]


def test_objects_that_json_does_not_know_read_as_they_are_written(run):
    row = {"price": decimal.Decimal("1.5"), "took": dt.timedelta(days=1, seconds=3.5), "raw": b"abc"}
    row |= {"month": pd.Period("2026-01"), "lag": pd.Timedelta(3, "s"), "step": np.timedelta64(3, "s")}
    run.log_table("objects", [row])

    assert kept(run, "objects.json").frame().iloc[0].to_dict() == {
        "price": "1.5",
        "took": "P1DT0H0M3.500000S",
        "raw": "YWJj",
        "month": "2026-01",
        "lag": "P0DT0H0M3S",
        "step": "P0DT0H0M3S",
    }


@pytest.mark.parametrize("is_rows", [True, False])
def test_rows_and_columns_keep_their_types_in_parquet(run, is_rows):
    pytest.importorskip("pyarrow")
    moment = dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.timezone.utc)
    columns = {
        "inf": [math.inf, 1.0],
        "at": [moment, None],
        "half": np.array([0.1, 0.2], dtype=np.float32),
        "vector": np.zeros((2, 3), dtype=np.float32),
        "path": [PurePosixPath("a"), PurePosixPath("b")],
        "id": [2**60 + 1, None],
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    run.log_table("t.parquet", rows if is_rows else columns)

    read = pytest.importorskip("pyarrow.parquet").read_table(io.BytesIO(kept(run, "t.parquet").read_bytes()))
    assert read["inf"].to_pylist() == [math.inf, 1.0]
    assert read["at"].to_pylist() == [moment, None]
    assert str(read["half"].type) == "float"
    assert str(read["vector"].type) == "list<element: float>"
    assert read["path"].to_pylist() == ["a", "b"]
    assert read["id"].to_pylist() == [2**60 + 1, None]


@pytest.mark.parametrize("is_rows", [True, False])
def test_a_table_too_large_is_refused_before_it_is_converted(is_rows):
    class Value:
        def __str__(self):
            raise AssertionError("it was converted")

    rows = [dict.fromkeys("abcd", Value())] * 500_001
    with pytest.raises(UsageError, match="2,000,004 cells"):
        tables.table("t", rows if is_rows else dict.fromkeys("abcd", [Value()] * 500_001))


def test_the_columns_of_no_rows_come_to_an_end():
    columns = columns_of("errors", [])

    assert list(itertools.islice(columns.values, 2)) == []
    assert (columns.names, columns.rows) == ([], 0)


NO_ROWS = [([], []), ({}, []), ({"id": []}, ["id"]), (pd.DataFrame(columns=["id"]), ["id"])]


@pytest.mark.parametrize("name", ["errors.json", "errors.parquet"])
@pytest.mark.parametrize(("table", "columns"), NO_ROWS)
def test_a_table_without_rows_is_recorded(run, table, columns, name):
    assert len(list(itertools.islice(columns_of(name, table).values, 2))) == len(columns)  # or it never ends
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")

    run.log_table(name, table)

    frame = mlobs.load_run(run.id, store=run._opened.folder.store).table(name)
    assert (len(frame), list(frame.columns)) == (0, columns)
