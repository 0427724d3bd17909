"""Tables that are read piece by piece, in bounded memory: files, datasets of Arrow and of Hugging Face."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mlobs.errors import UsageError
from mlobs.repro.arrow_columns import arrow, source_of_chunked, tag_of
from mlobs.repro.canonical import CHUNK
from mlobs.repro.fingerprint_value import Fingerprint
from mlobs.repro.frames import library_of, note_of, places_of, range_of
from mlobs.repro.rows import RowsPartial
from mlobs.repro.tables import ColumnHash, column_of, table_of

_CSV_BLOCK_BYTES = 1 << 24  # pyarrow tells the types from the first block


def is_stream(value: object) -> bool:
    """Tell whether it is a dataset of Arrow or of Hugging Face."""
    library = library_of(value)
    return (library == "pyarrow" and hasattr(value, "to_batches") and hasattr(value, "scanner")) or (
        library == "datasets" and hasattr(value, "with_format")
    )


def fingerprint_of_stream(dataset: Any, *, rows_only: bool = False) -> Fingerprint:
    """The fingerprint of all rows of a dataset, in its own order, as of a table that is in memory.

    Raises:
        UsageError: a column has no canonical form, or the dataset has no length.
    """
    if library_of(dataset) == "pyarrow":
        return _of_batches(dataset.schema, dataset.to_batches(batch_size=CHUNK), rows_only=rows_only)
    if not hasattr(dataset, "num_rows") or not isinstance(dataset.num_rows, int):
        raise UsageError(
            "an iterable dataset of Hugging Face has no one content - load one split, and pass it"
        )
    tables = dataset.with_format("arrow").iter(batch_size=CHUNK)
    batches = (batch for table in tables for batch in table.to_batches())
    return _of_batches(dataset.features.arrow_schema, batches, rows_only=rows_only)


def fingerprint_table_file(path: str | Path) -> Fingerprint:
    """The tfp1 of the table in a file, as of one in memory, without ever having all of it there.

    The suffix tells the format: Parquet (.parquet, .pq), Feather and Arrow (.feather, .arrow, .ipc), and CSV
    (.csv, .tsv, also .gz, .bz2), whose types are those that pyarrow tells from the first 16 MiB.

    Raises:
        UsageError: there is no such file, or it is not of its format, or of an unknown one.
        MissingPackage: pyarrow.
    """
    path = Path(path)
    pa = arrow()
    if not path.is_file():
        raise UsageError(f"{path} is no file - name a Parquet, Feather, Arrow or CSV file")
    try:
        with pa.OSFile(str(path)) as file:
            schema, batches = _opened(file, path)
            found = _of_batches(schema, batches)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path} cannot be read as the table that its suffix says: {error}") from error
    return Fingerprint(
        found.text, "content", found.rows, path.stat().st_size, found.columns, notes=found.notes
    )


def _opened(file: Any, path: Path) -> tuple[Any, Iterable[Any]]:
    suffixes = [one.lower() for one in path.suffixes]
    kind = next((one for one in reversed(suffixes) if one not in (".gz", ".bz2")), "")
    if kind in (".parquet", ".pq"):
        import pyarrow.parquet as pq

        parquet = pq.ParquetFile(file)
        return parquet.schema_arrow, parquet.iter_batches(CHUNK)
    if kind in (".feather", ".arrow", ".ipc"):
        from pyarrow import ipc

        reader = ipc.open_file(file)
        return reader.schema, (reader.get_batch(at) for at in range(reader.num_record_batches))
    if kind in (".csv", ".tsv"):
        from pyarrow import csv

        packed = {".gz": "gzip", ".bz2": "bz2"}.get(suffixes[-1])
        text = arrow().CompressedInputStream(file, packed) if packed else file
        rows = csv.open_csv(
            text,
            read_options=csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
            parse_options=csv.ParseOptions(delimiter="\t" if kind == ".tsv" else ","),
        )
        return rows.schema, rows
    raise UsageError(
        f"{path} has the suffix {kind or 'of no format'!r} - expected .parquet, .feather, .arrow or .csv"
    )


def _of_batches(schema: Any, batches: Iterable[Any], *, rows_only: bool = False) -> Fingerprint:
    """Hash windows of `CHUNK` rows from row 0 on, however the batches are cut."""
    places = places_of(schema)
    fields = [schema.field(at) for at in places]
    hashes = [ColumnHash(field.name, tag_of(field.type, f"column {field.name!r}")) for field in fields]
    rows = RowsPartial()
    for window in _windows(schema, batches):
        sources = [source_of_chunked(schema.names[at], window.column(at)) for at in places]
        if rows_only:
            rows += RowsPartial.of_sources(sources, window.num_rows)
            continue
        for one, source in zip(hashes, sources, strict=True):
            one.add(source.rows, source.chunk(0, source.rows))
        rows += RowsPartial(window.num_rows)
    if rows_only:
        return rows.fingerprint()
    columns = tuple(map(column_of, range_of(schema, rows.n))) + tuple(one.column() for one in hashes)
    notes = {field.name: note for field in fields if (note := note_of(field.type))}
    return Fingerprint(table_of(columns, rows.n), "content", rows.n, columns=columns, notes=notes)


def _windows(schema: Any, batches: Iterable[Any]) -> Iterator[Any]:
    pa = arrow()
    waiting: list[Any] = []
    for batch in batches:
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) < CHUNK:
            continue
        table = pa.Table.from_batches(waiting, schema)
        whole = table.num_rows - table.num_rows % CHUNK
        yield from (table.slice(start, CHUNK) for start in range(0, whole, CHUNK))
        waiting = table.slice(whole).to_batches()
    if any(one.num_rows for one in waiting):
        yield pa.Table.from_batches(waiting, schema)
