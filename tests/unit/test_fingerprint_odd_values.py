"""Fingerprints of values that are easily taken for others, or that no canonical form holds."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from mlobs.errors import UsageError
from mlobs.repro.fingerprint import RowsPartial, fingerprint, fingerprint_table_file
from mlobs.repro.model_fingerprint import fingerprint_model

DAY = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - without a zone is the point


def of_objects(*values):
    return fingerprint(pd.DataFrame({"x": pd.Series(list(values), dtype=object)})).text


def of_categories(values, categories):
    return fingerprint(pd.DataFrame({"x": pd.Categorical(values, categories)})).text


# Wrong before: two of one fingerprint, or one of two


@pytest.mark.parametrize(("unit", "factor"), [("25s", 25), ("100ns", 100), ("2W", 2), ("3M", 3), ("10Y", 10)])
def test_times_in_a_multiple_of_a_unit_are_the_times_that_they_are(unit, factor):
    plain = np.array([factor, 2 * factor], f"M8[{unit.lstrip('0123456789')}]")

    assert fingerprint(np.array([1, 2], f"M8[{unit}]")).text == fingerprint(plain).text
    assert fingerprint(np.array([1, 2], f"M8[{unit}]")).text != fingerprint(plain + 1).text


def test_times_that_would_wrap_around_are_refused():
    with pytest.raises(UsageError, match="too far from 1970"):
        fingerprint(np.array([2**62], "M8[h]"))


def test_integers_of_numpy_among_floats_are_told_apart_or_refused():
    assert of_objects(np.int64(3), 0.5) == of_objects(3.0, 0.5)
    with pytest.raises(UsageError, match="integers that no float can be"):
        of_objects(np.int64(2**53 + 1), 0.5)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="a long double is a double here")
@pytest.mark.parametrize("kind", [np.longdouble, np.clongdouble])
def test_objects_of_more_than_double_precision_are_refused(kind):
    with pytest.raises(UsageError, match="wider than"):
        of_objects(kind(1), kind(2))


def test_categories_that_no_row_has_do_not_count():
    assert of_categories([Decimal("1.5")], [Decimal("1.5"), Decimal("1.555")]) == of_objects(Decimal("1.5"))
    assert of_categories([1, 1], [1, "a"]) == of_objects(1, 1)


def test_names_that_are_one_text_are_refused_in_a_set():
    with pytest.raises(UsageError, match="'1'"):
        fingerprint({1: np.ones(1), "1": np.zeros(1)})


def test_rows_of_decimals_with_a_negative_scale_are_those_of_another_scale():
    few = pa.table({"x": pa.array([Decimal(0), Decimal(-200)], pa.decimal128(5, -2))})
    many = pa.table({"x": pa.array([Decimal(0), Decimal(-200)], pa.decimal128(9, 2))})

    assert RowsPartial.of(few) == RowsPartial.of(many)


# What has no canonical form


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([Decimal("Infinity"), Decimal(1)], "infinite"),
        ([Decimal("1E+90"), Decimal(1)], "76 digits"),
        ([Decimal("1E-5000"), Decimal(1)], "76 digits"),
        ([dt.date(2020, 1, 1), DAY], "1 x date"),
        ([DAY, dt.date(2020, 1, 1)], "1 x date"),
        ([dt.time(1, tzinfo=dt.timezone.utc)], "times of day with a zone"),
        ([np.datetime64("20000-01-01", "s"), np.datetime64("2020-01-01", "s")], "astype"),
    ],
)
def test_objects_without_a_canonical_form_are_refused_by_their_column(values, message):
    with pytest.raises(UsageError, match=f"column 'x' .*{message}"):
        of_objects(*values)


def test_zero_is_a_decimal_however_large_its_exponent():
    assert of_objects(Decimal("0E+999999999"), Decimal("1.5")) == of_objects(Decimal(0), Decimal("1.5"))


def test_categories_that_are_no_unicode_are_refused_by_their_column():
    categories = pd.Categorical.from_codes([0, 1], pd.Index(["a", "\ud800"], dtype=object))

    with pytest.raises(UsageError, match=r"column 'x' holds '.*', which is no valid Unicode"):
        fingerprint(pd.DataFrame({"x": categories}))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pl.DataFrame({"x": [object()]}), "column 'x' .*Object"),
        (pl.DataFrame({"x": [1]}, schema={"x": pl.Int128}), "column 'x' .*Int128"),
        (pl.LazyFrame({"x": [1]}), "collect"),
        (pa.array([1]), "pyarrow.table"),
        (pa.table({"x": [1]}).to_reader(), "read_all"),
        (pd.Timestamp("2020"), "DataFrame"),
        (pd.DataFrame({"x": [1]}).groupby("x"), "DataFrame"),
        (pl.col("x"), "DataFrame"),
    ],
)
@pytest.mark.parametrize("strength", ["auto", "stat", "rows"])
def test_what_is_no_table_is_refused_at_every_strength(table, message, strength):
    with pytest.raises(UsageError, match=message):
        fingerprint(table, strength=strength)


# Forms


def test_an_index_of_several_levels_is_the_table_of_its_levels():
    index = pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["n", "s"])

    assert fingerprint(index).text == fingerprint(pd.DataFrame({"n": [1, 2], "s": ["a", "b"]})).text


def test_a_named_range_is_the_same_index_in_arrow_and_in_files(tmp_path):
    frame = pd.DataFrame({"x": [1, 2, 3]}, index=pd.RangeIndex(10, 4, -2, name="id"))
    table = pa.Table.from_pandas(frame)
    frame.to_parquet(tmp_path / "data.parquet")

    found = {fingerprint(one).text for one in (frame, table, frame.reset_index())}

    assert found == {fingerprint_table_file(tmp_path / "data.parquet").text}
    assert fingerprint(table.slice(1)).text == fingerprint(frame[1:].reset_index(drop=True)).text


def test_metadata_of_pandas_that_is_broken_is_no_data():
    table = pa.table({"x": [1]})

    assert fingerprint(table.replace_schema_metadata({"pandas": "{"})).text == fingerprint(table).text


def test_bytes_of_a_fixed_length_are_an_array_of_their_own():
    some = np.array([b"abc", b"ab\0"], "S3").view("V3")

    assert fingerprint(some).text == fingerprint(np.repeat(some, 2)[::2]).text
    assert fingerprint(some).text != fingerprint(some[::-1]).text


def test_records_may_hold_numbers_that_numpy_does_not_know():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    some = np.zeros(2, [("a", "V3"), ("b", bfloat16)])
    other = some.copy()
    other["b"][1] = 1

    assert fingerprint(some).text != fingerprint(other).text


@pytest.mark.skipif(not hasattr(getattr(np, "dtypes", None), "StringDType"), reason="of NumPy 2")
def test_texts_of_any_length_are_the_texts():
    texts = ["a", "bc"]

    assert fingerprint(np.array(texts, np.dtypes.StringDType())).text == fingerprint(np.array(texts)).text


def test_an_array_with_long_rows_is_the_same_in_any_order_in_memory():
    values = np.arange(600_000.0).reshape(2, 3, 100_000)

    assert fingerprint(np.asfortranarray(values)).text == fingerprint(values).text


def test_few_rows_of_many_bytes_are_hashed_once_and_not_row_by_row():
    large = pa.table({"x": pa.array([b"x" * (1 << 26), b"y"])})

    assert "rows1" not in fingerprint(large).notes
    assert "rows1" in fingerprint(large.slice(1)).notes


def test_numbers_of_ml_dtypes_are_one_identity_in_data_and_models():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    names = [name for name in dir(ml_dtypes) if name.startswith(("bfloat", "float", "int", "uint"))]
    kinds = [kind for kind in (getattr(ml_dtypes, name) for name in names) if isinstance(kind, type)]
    assert len(kinds) > 8

    for kind in kinds:
        array = np.arange(256, dtype="u1").view(kind)  # whatever is NaN is among them
        assert fingerprint(array).text[5:37] in fingerprint_model(array).leaves.values(), kind
