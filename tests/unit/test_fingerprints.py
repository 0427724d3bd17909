"""Fingerprints of tables and arrays: frozen vectors, what is equal, what differs, what is refused."""

import datetime as dt
import json
import os
import runpy
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import scipy.sparse

from mlobs.errors import UsageError
from mlobs.repro.fingerprint import (
    Fingerprint,
    RowsPartial,
    diff_fingerprints,
    fingerprint,
    fingerprint_table_file,
)

FOLDER = Path(__file__).parents[1] / "fixtures" / "fingerprints"
GOLDEN = json.loads((FOLDER / "golden.json").read_text(encoding="utf-8"))
SCRIPT = FOLDER / "golden_tables.py"
DAY = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - without a zone is the point
WITHOUT_ARROW = """
import runpy, sys
sys.modules['pyarrow'] = None
sys.argv = ['', '--forms']
runpy.run_path({!r}, run_name='__main__')
"""


@pytest.fixture(scope="module")
def found():
    return runpy.run_path(str(SCRIPT))["fingerprints"]()


@pytest.fixture
def frame():
    return pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [1, 2, 3], "name": ["a", "b", "c"]})


# Frozen


def test_fingerprints_are_those_of_the_first_release(found):
    assert {name: next(iter(texts.values())) for name, texts in found.items()} == GOLDEN


def test_every_library_gives_a_table_the_same_fingerprint(found):
    different = {name: texts for name, texts in found.items() if len(set(texts.values())) > 1}

    assert not different
    assert set(found["table utf8"]) >= {"pandas", "arrow", "arrow in pieces", "polars"}


def test_flat_tables_of_pandas_have_the_same_fingerprints_without_pyarrow():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ARROW.format(str(SCRIPT))],
        capture_output=True, text=True, check=True, env=os.environ,
    )  # fmt: skip

    texts = {name: forms.popitem()[1] for name, forms in json.loads(done.stdout).items()}
    assert texts == {
        name: text for name, text in GOLDEN.items() if name not in ("table list", "table struct")
    }


def test_a_fingerprint_survives_json(frame):
    before = fingerprint(frame)

    assert msgspec.json.decode(msgspec.json.encode(before), type=Fingerprint) == before


# Equal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pd.Series([1, None], dtype="Int64"), pd.Series([1, None], dtype=object)),
        (pd.Series(["a", None], dtype=object), pd.Series(["a", np.nan], dtype=object)),
        (pd.Series(["a", None], dtype="string"), pd.Series(pd.Categorical(["a", None]))),
        (pd.Series([None, None], dtype=object), pd.Series([np.nan, np.nan])),
        (pd.Series([pd.NaT, pd.NaT]), pd.Series([None, None], dtype="category")),
        (pd.Series([None, pd.NaT], dtype=object), pd.Series([np.nan, pd.NA], dtype=object)),
        (pd.Series(np.array([1, 2], ">i4")), pd.Series([1, 2], dtype="int32")),
        (pd.Series([1.0, 0.0], dtype="Sparse[float64]"), pd.Series([1.0, 0.0])),
        (pd.Series(np.array([5], "M8[s]")), pd.Series(np.array([5_000_000_000], "M8[ns]"))),
        (pd.Series([1.5, 2], dtype=object), pd.Series([1.5, 2.0])),
        (pd.Series([Decimal("1.5"), Decimal("2.25")]), pd.Series([Decimal("1.50"), Decimal("2.25")])),
        (pd.Series([[1, 2], [3]]), pd.Series([np.array([1, 2]), np.array([3])])),
        (pd.Series([1, 2], dtype=pd.ArrowDtype(pa.int64())), pd.Series([1, 2])),
        (pd.Series(pd.Categorical([3, None, 5])), pd.Series([3, None, 5], dtype="Int64")),
    ],
)  # fmt: skip
def test_the_same_values_have_one_fingerprint_in_every_dtype(one, other):
    assert fingerprint(one).text == fingerprint(other).text


def test_what_lies_under_a_null_does_not_count():
    validity = pa.py_buffer(b"\x05")
    hidden = pa.Array.from_buffers(pa.int64(), 3, [validity, pa.py_buffer(np.array([1, 99, 3]).tobytes())])
    text = pa.Array.from_buffers(
        pa.string(),
        3,
        [validity, pa.py_buffer(np.array([0, 1, 3, 4], "i4").tobytes()), pa.py_buffer(b"abbc")],
    )

    assert fingerprint(pa.table({"x": hidden})).text == fingerprint(pa.table({"x": [1, None, 3]})).text
    assert fingerprint(pa.table({"x": text})).text == fingerprint(pa.table({"x": ["a", None, "c"]})).text


def test_every_nan_is_the_same():
    strange = np.array([0x7FF8000000000001, 0xFFF8000000000000, 0x7FF0000000000001], "u8").view("f8")
    plain = np.full(3, np.nan)

    assert fingerprint(strange).text == fingerprint(plain).text
    assert fingerprint(np.append(strange, 1.0)).text == fingerprint(np.append(plain, 1.0)).text


def test_an_index_counts_if_it_has_a_name(frame):
    shifted = frame.set_index(pd.Index([7, 8, 9]))
    named = frame.set_index("name")

    assert fingerprint(shifted).text == fingerprint(frame).text
    assert fingerprint(named).text == fingerprint(frame[["name", "x", "y"]]).text


def test_a_table_in_a_file_has_the_fingerprint_of_the_one_in_memory(tmp_path):
    big = pd.DataFrame({"n": range(150_000), "s": [f"é{n % 9}" if n % 7 else None for n in range(150_000)]})
    wanted = fingerprint(big).text
    pq.write_table(pa.Table.from_pandas(big), tmp_path / "a.parquet", row_group_size=7_777)
    pl.DataFrame(big).write_parquet(tmp_path / "b.parquet")
    pyarrow.feather.write_feather(pa.Table.from_pandas(big), tmp_path / "c.feather", chunksize=999)
    big.to_csv(tmp_path / "d.csv.gz", index=False)
    files = [fingerprint_table_file(path) for path in sorted(tmp_path.iterdir())]

    assert [one.text for one in files[:3]] == [wanted] * 3
    assert files[3].columns[0] == fingerprint(big).columns[0]
    assert fingerprint(ds.dataset(tmp_path / "a.parquet")).text == wanted


def test_an_index_with_a_name_survives_parquet(frame, tmp_path):
    frame.set_index("name").to_parquet(tmp_path / "named.parquet")
    frame.set_index(pd.Index([7, 8, 9])).to_parquet(tmp_path / "nameless.parquet")

    assert (
        fingerprint_table_file(tmp_path / "named.parquet").text == fingerprint(frame.set_index("name")).text
    )
    assert fingerprint_table_file(tmp_path / "nameless.parquet").text == fingerprint(frame).text


def test_nested_columns_are_equal_as_slices_and_in_every_layout():
    values = [[1, None], [], None, [3], [4, 5]]
    whole = pa.array(values)
    pairs = pa.array([[("a", 1)], None, [("b", None), ("c", 2)]], pa.map_(pa.string(), pa.int64()))
    structs = [
        None if one is None else [{"key": key, "value": value} for key, value in one]
        for one in pairs.to_pylist()
    ]

    texts = {
        fingerprint(pa.table({"x": one})).text
        for one in (whole.slice(1), pa.array(values[1:]), whole.cast(pa.large_list(pa.int64())).slice(1))
    }
    assert len(texts) == 1
    assert (
        fingerprint(pa.table({"x": pairs.slice(1)})).text
        == fingerprint(pa.table({"x": pa.array(structs[1:])})).text
    )
    assert (
        fingerprint(pa.table({"x": pa.array([[1, 2], None], pa.list_(pa.int64(), 2))})).text
        == fingerprint(pa.table({"x": [[1, 2], None]})).text
    )


# Different


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (["ab", "c"], ["a", "bc"], "column v changed"),
        ([None, "a"], ["", "a"], "column v changed"),
        ([0.0, 1.0], [-0.0, 1.0], "column v changed"),
        ([1, 2], [1.0, 2.0], "column v: i64 -> f64"),
        ([True, False], [1, 0], "column v: bool -> i64"),
        (["1"], [b"1"], "column v: utf8 -> bytes"),
        ([[1], [2, 3]], [[1, 2], [3]], "column v changed"),
        ([{"a": 1}], [{"b": 1}], "column v: struct<a:i64> -> struct<b:i64>"),
        ([dt.date(2020, 1, 1)], [DAY], "column v: date -> datetime"),
        ([DAY], [DAY.replace(tzinfo=dt.timezone.utc)], "column v: datetime -> instant"),
        ([1, 2], [1, 2, 3], "2 rows -> 3 rows"),
    ],
)  # fmt: skip
def test_what_changed_is_said(one, other, said):
    before, after = (fingerprint(pd.DataFrame({"v": pd.Series(values)})) for values in (one, other))

    assert diff_fingerprints(before, after) == [said]


def test_changes_of_columns_are_told_apart(frame):
    before = fingerprint(frame)

    assert diff_fingerprints(before, fingerprint(frame.assign(y=[1, 2, 4]))) == ["column y changed"]
    assert diff_fingerprints(before, fingerprint(frame.assign(z=1))) == ["column z is new"]
    assert diff_fingerprints(before, fingerprint(frame.drop(columns="x"))) == ["column x is gone"]
    assert diff_fingerprints(before, fingerprint(frame[["y", "x", "name"]])) == [
        "the columns are in another order"
    ]
    assert diff_fingerprints(before, fingerprint(frame[::-1])) == ["same rows, other order"]
    assert diff_fingerprints(before, fingerprint(frame)) == []
    assert diff_fingerprints(before, fingerprint(frame, strength="rows")) == [
        "not comparable: tfp1 (content) and rows1 (rows)"
    ]


def test_validity_cannot_be_mistaken_for_a_value():
    kind = pa.struct([("a", pa.bool_()), ("b", pa.bool_())])
    one = pa.array([{"a": None, "b": True}] + [{"a": True, "b": True}] * 7, kind)
    other = pa.array([{"a": False, "b": None}] + [{"a": True, "b": True}] * 7, kind)

    assert fingerprint(pa.table({"x": one})).text != fingerprint(pa.table({"x": other})).text


def test_two_columns_may_have_one_name():
    before = pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"])
    after = pd.DataFrame([[1, 2], [3, 5]], columns=["a", "a"])

    assert diff_fingerprints(fingerprint(before), fingerprint(after)) == ["column a changed"]


def test_pairs_as_names_are_those_that_parquet_gets(tmp_path):
    frame = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]))
    frame.to_parquet(tmp_path / "pairs.parquet")

    assert [one.name for one in fingerprint(frame).columns] == ["('a', '1')", "('b', '2')"]
    assert fingerprint_table_file(tmp_path / "pairs.parquet").text == fingerprint(frame).text


# Arrays


def test_an_array_is_its_type_its_shape_and_its_values():
    array = np.arange(12, dtype="f8").reshape(3, 4)

    same = (array[::-1][::-1], np.asfortranarray(array), array.astype(">f8"))
    other = (array.T, array.reshape(4, 3), array.astype("f4"), array.reshape(-1), array + 1e-9)
    assert {fingerprint(one).text for one in same} == {fingerprint(array).text}
    assert fingerprint(array).text not in {fingerprint(one).text for one in other}


def test_padding_between_fields_does_not_count():
    kind = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    one, other = (np.frombuffer(bytes([garbage]) * 32, kind).copy() for garbage in (0, 255))
    for array in (one, other):
        array["a"], array["b"] = 1, 2.0

    assert one.tobytes() != other.tobytes()
    assert fingerprint(one).text == fingerprint(other).text


def test_a_set_names_the_part_that_changed():
    x, y = np.zeros((4, 2)), np.arange(4)

    before, after = fingerprint({"x": x, "y": y}), fingerprint({"y": y + 1, "x": x})
    assert fingerprint({"y": y, "x": x}).text == before.text
    assert fingerprint((x, y)).text == fingerprint([x, y]).text != fingerprint((y, x)).text
    assert diff_fingerprints(before, after) == ["part y changed"]


def test_a_sparse_matrix_is_the_same_in_every_format():
    matrix = scipy.sparse.random(40, 30, 0.1, random_state=0)
    stored_zero = scipy.sparse.coo_array(
        (np.append(matrix.data, 0.0), (np.append(matrix.row, 0), np.append(matrix.col, 0))), matrix.shape
    )

    assert len({fingerprint(one).text for one in (matrix, matrix.tocsc(), matrix.tolil(), stored_zero)}) == 1


# Rows in any order


def test_partials_add_up_however_the_table_was_cut(frame):
    parts = [frame[2:], frame[:1], frame[1:2]]

    total = sum(map(RowsPartial.of, parts), RowsPartial())
    assert total.fingerprint() == fingerprint(pl.DataFrame(frame), strength="rows")
    assert total.fingerprint().text != fingerprint(frame.assign(y=[2, 1, 3]), strength="rows").text


def test_a_part_without_a_value_adds_up_too():
    table = pd.DataFrame({"s": ["a", None], "d": [Decimal("1.50"), Decimal("2.2")]})

    assert RowsPartial.of(table[:1]) + RowsPartial.of(table[1:]) == RowsPartial.of(table)


# Weaker


def test_beyond_the_budget_it_is_a_sample_and_says_so():
    frame = pd.DataFrame({"x": np.arange(100_000.0)})
    middle, end = frame.copy(), frame.copy()
    middle.loc[50_000, "x"] = -1
    end.loc[99_999, "x"] = -1

    weak = fingerprint(frame, budget_s=1e-6)
    assert (weak.strength, weak.scheme, weak.rows) == ("stat", "stat1", 100_000)
    assert fingerprint(middle, budget_s=1e-6).text == weak.text != fingerprint(end, budget_s=1e-6).text
    assert (
        weak.text
        == fingerprint(pl.DataFrame(frame), budget_s=1e-6).text
        == fingerprint(frame, strength="stat").text
    )
    assert fingerprint(frame, budget_s=10).strength == "content"
    assert fingerprint(frame, strength="content", budget_s=1e-6).strength == "content"
    assert fingerprint(np.zeros((100_000, 3)), budget_s=1e-6).strength == "stat"
    assert fingerprint((frame, np.zeros(100_000)), budget_s=1e-6).strength == "stat"


def test_within_a_budget_nothing_is_read_that_is_not_in_memory(tmp_path):
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "a.parquet")

    found = fingerprint(ds.dataset(tmp_path / "a.parquet"), budget_s=10)
    assert (found.strength, found.text) == ("name", "name:pyarrow._dataset.FileSystemDataset[a, b]")
    assert fingerprint(scipy.sparse.eye(100_000), budget_s=1e-6).strength == "stat"


# Refused


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (pd.DataFrame({"v": [1, "a"]}), r"column 'v' holds 1 x int, 1 x str.*astype\(str\)"),
        (pd.DataFrame({"v": [[1], {"a": 1}]}), "column 'v' holds 1 x list, 1 x dict"),
        (pd.DataFrame({"v": [object()]}), "column 'v' holds 1 x object"),
        (pd.DataFrame({"v": [2**70]}), "more than 64 bits"),
        (pd.DataFrame({"v": pd.Series(["\ud800"], dtype=object)}), "no valid Unicode"),
        (pd.DataFrame({"v": pd.period_range("2020", periods=2, freq="M")}), "column 'v' is of dtype period"),
        (pl.LazyFrame({"v": [1]}), r"frame\.collect\(\)"),
        (np.ma.masked_array([1, 2]), "masked array"),
        ([1, 2, 3], "numpy.asarray"),
        ([], "empty collection"),
        (object(), "nothing that can be fingerprinted"),
        ("no/such/file", "there is no file or folder"),
    ],
)
def test_what_has_no_fingerprint_is_refused_with_the_remedy(value, said):
    with pytest.raises(UsageError, match=said):
        fingerprint(value)


@pytest.mark.parametrize(
    ("value", "strength"), [(np.zeros(2), "rows"), (np.zeros(2), "pinned"), ("s3://a/b", "content")]
)
def test_a_strength_that_cannot_be_had_is_refused(value, strength):
    with pytest.raises(UsageError, match=r"use strength=|load it"):
        fingerprint(value, strength=strength)
