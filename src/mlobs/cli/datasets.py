"""`mlobs datasets` and `mlobs fingerprint`: which data, and is it the same?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import structs, to_builtins

from mlobs.cli.options import CsvOption, JsonOption, StoreOption
from mlobs.cli.output import iso, moment, print_csv, print_json, print_table
from mlobs.errors import UsageError
from mlobs.moments import utc
from mlobs.text import printable, size

if TYPE_CHECKING:
    from mlobs.journal.store import Store
    from mlobs.repro.registry import DatasetVersion

_COLUMNS = (
    "name",
    "version",
    "label",
    "strength",
    "rows",
    "size_bytes",
    "at",
    "fingerprint",
    "source",
    "runs",
)


def datasets(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Of this name alone.")] = None,
    *,
    store: StoreOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List the datasets that runs have used: names, versions, fingerprints, and by which runs.

    \b
    mlobs datasets
    mlobs datasets train --json
    mlobs datasets --csv > datasets.csv
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.read.location import open_store
    from mlobs.repro.registry import versions

    place = open_store(store)
    found, users = versions(place, name), _users(place)
    if as_json:
        print_json([_document(one, users[one.name, one.fingerprint]) for one in found])
    elif as_csv:
        rows = (_document(one, users[one.name, one.fingerprint]) for one in found)
        print_csv(_COLUMNS, ([row[name] for name in _COLUMNS[:-1]] + [len(row["runs"])] for row in rows))
    elif not found:
        typer.echo('no dataset yet - in a run, type: run.log_dataset("train", data)', err=True)
    else:
        _print(found, users)


def _document(one: DatasetVersion, users: Sequence[str]) -> dict[str, Any]:
    """A version as JSON has it."""
    return {**structs.asdict(one), "at": iso(utc(one.at)), "label": one.label, "runs": users}


def _print(found: Sequence[DatasetVersion], users: Mapping[tuple[str, str], Sequence[str]]) -> None:
    headings = ("name", "version", "strength", "rows", "size", "runs", "first used", "fingerprint")
    table = [
        [
            one.name,
            one.label,
            one.strength,
            "" if one.rows is None else f"{one.rows:,}",
            "" if one.size_bytes is None else size(one.size_bytes),
            f"{len(users[one.name, one.fingerprint]):,}",
            moment(utc(one.at)),
            one.fingerprint,
        ]
        for one in found
    ]
    print_table(headings, table, right=("rows", "size", "runs"))


def fingerprint(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file or a folder.")],
    *,
    table: Annotated[
        bool,
        typer.Option("--table", help="Of the table in a Parquet, Feather or CSV file, not of its bytes."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the fingerprint of a file, a folder, or a table in a file.

    \b
    mlobs fingerprint data/
    mlobs fingerprint --table train.parquet

    A table's is the same in whatever library, process or file format it is held.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.repro.fingerprint import fingerprint as take
    from mlobs.repro.fingerprint import fingerprint_table_file

    if not path.exists():
        raise UsageError(f"there is no {path} - name a file or a folder")
    found = fingerprint_table_file(path) if table else take(path)
    if as_json:
        document: dict[str, Any] = to_builtins(found)
        print_json(document)
        return
    typer.echo(found.text)
    for column in found.columns:
        typer.echo(f"  {printable(column.name)}  {column.tag}  {column.digest[:16]}")


def _users(place: Store) -> dict[tuple[str, str], list[str]]:
    """The runs that used each content of each name."""
    from mlobs.read.record import liveness, read_run

    users: dict[tuple[str, str], list[str]] = defaultdict(list)
    is_alive = liveness()
    for folder in place.runs():
        record = read_run(folder, is_alive)
        used = {(one.name, one.fingerprint) for one in record.datasets} if record is not None else ()
        for key in used:
            users[key].append(folder.run_id)
    return users
