"""`mlobs report`: runs as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlobs.cli.options import ExperimentOption, JsonOption, StoreOption, runs_argument
from mlobs.cli.output import print_json
from mlobs.text import size


def report(
    runs: Annotated[list[str] | None, runs_argument("Default: the newest.")] = None,
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file; one that is there is replaced.")
    ] = Path("report.html"),
    experiment: ExperimentOption = None,
    limit: Annotated[
        int,
        typer.Option(
            min=0, help="Without RUN: the newest so many; 0 is all. Default: 50.", show_default=False
        ),
    ] = 50,
    title: Annotated[str | None, typer.Option(help="The page's title. Default: the experiment.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write runs into one HTML file that opens without a network.

    \b
    mlobs report
    mlobs report 20240131-1200 latest -o two.html --open
    mlobs report --experiment churn --limit 20
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.reporting.report import write

    path, chosen = write(runs or None, output, store=store, experiment=experiment, limit=limit, title=title)
    if as_json:
        print_json({"path": str(path), "size_bytes": path.stat().st_size})
    else:
        typer.echo(f"{path} ({size(path.stat().st_size)})")
    if chosen.is_cut:
        typer.echo(f"it has the newest {limit:,} - type --limit 0 for all runs", err=True)
    if show:
        typer.launch(path.as_uri())
