"""`mlobs export`: runs as files that other programs read."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from mlobs.cli.options import (
    AllOption,
    JsonOption,
    StoreOption,
    WholeExperimentOption,
    check_one_choice,
    runs_argument,
)
from mlobs.cli.output import print_json
from mlobs.text import printable


class FormatName(str, Enum):
    """The formats, as an option's choices."""

    PARQUET = "parquet"
    CSV = "csv"
    JSON = "json"
    MLFLOW = "mlflow"


def export(
    runs: Annotated[list[str] | None, runs_argument()] = None,
    *,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="DEST",
            help="A folder; of json, a file. Files that are there are replaced.",
        ),
    ],
    form: Annotated[FormatName, typer.Option("--format", help="What to write.")] = FormatName.PARQUET,
    every: AllOption = False,
    experiment: WholeExperimentOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write runs as files that other programs read.

    \b
    mlobs export latest -o latest.json --format json
    mlobs export --experiment churn -o churn --format csv
    mlobs export --all -o for-mlflow --format mlflow

    parquet and csv: the tables points and runs; json: everything of each run, in one document; mlflow: a
    store that `mlflow ui` opens.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.moving.exporting import export_runs

    check_one_choice(runs, experiment, every=every)
    written = export_runs(runs or None, output, format=form.value, experiment=experiment, store=store)
    if as_json:
        print_json([str(path) for path in written])
    else:
        typer.echo("\n".join(printable(str(path)) for path in written))
