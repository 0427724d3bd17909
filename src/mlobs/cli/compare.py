"""`mlobs compare`: runs beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlobs.cli.columns import cell, short
from mlobs.cli.options import CsvOption, JsonOption, StoreOption, runs_argument
from mlobs.cli.output import iso, moment, print_csv, print_json, print_lines, print_table, print_title
from mlobs.errors import UsageError
from mlobs.text import duration as in_units
from mlobs.text import printable, shortened

if TYPE_CHECKING:
    import pandas as pd

    from mlobs.comparing import RunComparison

MOST_LINES = 60  # of what differs in one file, for people: a screen or two
MOST_OF_A_LINE = 200  # characters; a generated file may be one line of megabytes
MOST_CHARACTERS = 60  # of a value in a table for people; --json and --csv have all of it


def compare(
    runs: Annotated[list[str], runs_argument("The first leads.")],
    *,
    store: StoreOption = None,
    show_all: Annotated[
        bool, typer.Option("--all", help="Show what is the same, too; what differs is marked.")
    ] = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show what differs between runs: params, metrics, datasets, environment and code.

    \b
    mlobs compare 20240131-1200 latest
    mlobs compare 20240131 20240201 20240202 --all
    mlobs compare 20240131-1200 latest --csv > table.csv

    Params, last metrics and datasets have a column for each run; what went into a run is told by lines, as
    it differs from the first run. --csv has the columns alone. Exits with 0 also if something differs.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.comparing import compare as compare_runs

    if len(runs) < 2:  # noqa: PLR2004 - a comparison
        raise UsageError(
            f"{runs[0]!r} alone was named; expected two or more runs - type: mlobs compare {runs[0]} RUN"
        )
    found = compare_runs(runs, store=store)
    if as_json:
        print_json(_document(found))
    elif as_csv:
        print_csv(["group", "name", "differs", *found.runs.index], _rows(found, show_all=show_all))
    else:
        _print(found, show_all=show_all)


def _rows(found: RunComparison, *, show_all: bool) -> list[list[Any]]:
    from mlobs.comparing import differing_rows

    return [
        [group, name, differs, *map(_recorded, values)]
        for group, frame in found.tables().items()
        for name, differs, values in zip(
            frame.index, differing_rows(frame), frame.itertuples(index=False, name=None), strict=True
        )
        if differs or show_all
    ]


def _recorded(value: Any) -> Any:
    """A value for a table: None where a run has none, for which a recorded None is the word."""
    import pandas as pd

    return None if value is pd.NA else "None" if value is None else value


def _print(found: RunComparison, *, show_all: bool) -> None:
    ids = list(found.runs.index)
    facts = found.runs.itertuples(index=True, name=None)
    columns = [[name, experiment, status, moment(at)] for _, name, experiment, status, at, _ in facts]
    took = ["" if s != s else in_units(s) for s in found.runs["duration_s"].astype("float64")]  # noqa: PLR0124 - NaN
    headings = ["", *ids]
    rows = [
        [title, *values]
        for title, values in zip(
            ("name", "experiment", "status", "started (UTC)"), zip(*columns, strict=True), strict=True
        )
    ]
    print_table(headings, [*rows, ["took", *took]])
    for group in found.tables():
        lines = [row for row in _rows(found, show_all=show_all) if row[0] == group]
        if lines:
            print_title(group)
            marks = [bool(row[2]) and show_all for row in lines]
            cells = [
                [
                    f"{row[1]} *" if mark else row[1],
                    *(
                        cell(value) if group == "metrics" else short(value, MOST_CHARACTERS)
                        for value in row[3:]
                    ),
                ]
                for row, mark in zip(lines, marks, strict=True)
            ]
            print_table(headings, cells, right=() if group != "metrics" else ids, marked=marks)
    for group, of_runs in found.lists().items():
        for run_id, texts in of_runs.items():
            shown = [shortened(printable(line), MOST_OF_A_LINE, "--json") for line in excerpt(texts)]
            print_lines(f"{group}: {run_id} beside {ids[0]}", shown, is_diff=group == "code")
    for line in found.conclusion():
        typer.echo(f"\n{shortened(printable(line), MOST_OF_A_LINE, '--json')}")


def excerpt(lines: Sequence[str]) -> list[str]:
    """Return the first lines of each file of a diff: a generated file must not hide the edit of another."""
    heads = [
        at
        for at, (one, after) in enumerate(pairwise(lines))
        if one.startswith("--- ") and after.startswith("+++ ")
    ]
    shown: list[str] = []
    for start, stop in pairwise([0, *(at for at in heads if at), len(lines)]):
        shown += lines[start : min(stop, start + MOST_LINES)]
        if stop - start > MOST_LINES:
            shown.append(f"... {stop - start - MOST_LINES:,} more lines: mlobs diff shows two runs in full")
    return shown


def _document(found: RunComparison) -> dict[str, Any]:
    import pandas as pd

    from mlobs.comparing import differing_rows

    def table(frame: pd.DataFrame) -> dict[str, Any]:
        rows = zip(frame.index, differing_rows(frame), frame.itertuples(index=False, name=None), strict=True)
        return {
            str(name): {"differs": differs, "values": dict(recorded(frame.columns, values))}
            for name, differs, values in rows
        }

    def recorded(ids: Iterable[str], values: Iterable[Any]) -> Iterator[tuple[str, Any]]:
        return ((run_id, value) for run_id, value in zip(ids, values, strict=True) if value is not pd.NA)

    runs = {
        str(run_id): {
            "name": name,
            "experiment": experiment,
            "status": status,
            "started": iso(at),
            "duration_s": None if took != took else took,  # noqa: PLR0124 - NaN alone differs from itself
        }
        for run_id, name, experiment, status, at, took in found.runs.itertuples(index=True, name=None)
    }
    tables = {name: table(frame) for name, frame in found.tables().items()}
    lists = {name: dict(lines) for name, lines in found.lists().items()}
    return {"runs": runs} | tables | lists | {"unknown": dict(found.unknown)}
