"""Whatever the table: equal data has equal fingerprints in every library, and any change shows."""

import io
import math
from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from mlobs.repro.fingerprint import RowsPartial, diff_fingerprints, fingerprint

VALUES = {
    "i": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "u": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "f": (pa.float64(), st.floats(width=64)),
    "g": (pa.float32(), st.floats(width=32)),
    "b": (pa.bool_(), st.booleans()),
    "s": (pa.string(), st.text(max_size=20)),
    "y": (pa.binary(), st.binary(max_size=20)),
    "d": (pa.date32(), st.dates()),
    "t": (pa.timestamp("us"), st.datetimes()),
    "z": (pa.timestamp("us", "UTC"), st.datetimes()),
    "l": (pa.list_(pa.int64()), st.lists(st.none() | st.integers(-9, 9), max_size=4)),
    "r": (
        pa.struct([("x", pa.int8()), ("y", pa.string())]),
        st.fixed_dictionaries({"x": st.none() | st.integers(-9, 9), "y": st.text(max_size=3)}),
    ),
}  # fmt: skip


@st.composite
def tables(draw, *, least=0, kinds=tuple(VALUES)):
    names = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4, unique=True))
    rows = draw(st.integers(least, 12))
    columns = {name: st.lists(st.none() | VALUES[name][1], min_size=rows, max_size=rows) for name in names}
    return pa.table({name: pa.array(draw(values), VALUES[name][0]) for name, values in columns.items()})


def through_parquet(table):
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=3)
    return pq.read_table(io.BytesIO(file.getvalue()))


def in_pieces(table, cuts):
    edges = sorted({0, table.num_rows, *(cut % (table.num_rows + 1) for cut in cuts)})
    return [table.slice(start, stop - start) for start, stop in pairwise(edges)]


CUTS = st.lists(st.integers(0, 100), max_size=5)


@settings(deadline=None, max_examples=60)
@given(tables(), CUTS)
def test_a_table_is_the_same_in_every_library_and_however_it_is_cut(table, cuts):
    wanted = fingerprint(table)

    forms = {
        "polars": pl.from_arrow(table),
        "parquet": through_parquet(table),
        "pieces": pa.concat_tables(in_pieces(table, cuts)) if cuts and table.num_rows else table,
        "slice": pa.concat_tables([table, table]).combine_chunks().slice(table.num_rows),
        "arrow dtypes": table.to_pandas(types_mapper=pd.ArrowDtype),
    }
    assert {name: fingerprint(one).text for name, one in forms.items()} == dict.fromkeys(forms, wanted.text)


@settings(deadline=None, max_examples=60)
@given(tables(kinds=("f", "g", "s", "y", "d", "t", "z")))
def test_a_table_of_pandas_is_the_same_as_that_of_arrow(table):
    assert diff_fingerprints(fingerprint(table), fingerprint(table.to_pandas(date_as_object=True))) == []


@settings(deadline=None, max_examples=60)
@given(tables(least=1), st.data())
def test_a_change_of_one_cell_shows_and_names_the_column(table, data):
    at, row = data.draw(st.integers(0, table.num_columns - 1)), data.draw(st.integers(0, table.num_rows - 1))
    name, column = table.column_names[at], table.column(at)
    before = column[row].as_py()
    other = data.draw((st.none() | VALUES[name][1]).filter(lambda value: not same(value, before)))
    values = [*column.slice(0, row).to_pylist(), other, *column.slice(row + 1).to_pylist()]
    changed = table.set_column(at, name, pa.array(values, column.type))

    said = diff_fingerprints(fingerprint(table), fingerprint(changed))
    assert len(said) == 1
    assert said[0].startswith(f"column {name}")
    assert RowsPartial.of(changed) != RowsPartial.of(table)


def same(one, other):
    """Equal as data: times by instant, floats by bits but for NaN, which is a missing value."""
    if isinstance(one, float | None) and isinstance(other, float | None):
        one, other = (math.nan if value is None else value for value in (one, other))
        return (math.isnan(one) and math.isnan(other)) or np.float64(one).tobytes() == np.float64(
            other
        ).tobytes()
    if hasattr(other, "tzinfo") and other.tzinfo is not None and one is not None:
        return one == other.replace(tzinfo=None)
    return one == other


@settings(deadline=None, max_examples=60)
@given(tables(), CUTS, st.randoms())
def test_partials_of_any_parts_in_any_order_add_up(table, cuts, random):
    order = list(range(table.num_rows))
    random.shuffle(order)
    pieces = in_pieces(table.take(order), cuts) if table.num_rows else [table]
    random.shuffle(pieces)

    assert sum(map(RowsPartial.of, pieces), RowsPartial()) == RowsPartial.of(table)
