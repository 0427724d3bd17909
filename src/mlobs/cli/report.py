"""`mlobs report`: runs as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlobs.cli.options import (
    ExperimentOption,
    JsonOption,
    SinceOption,
    StatusOption,
    StoreOption,
    WhereOption,
    runs_argument,
)
from mlobs.cli.output import print_json
from mlobs.read.frames import Choice
from mlobs.text import size


def report(  # noqa: PLR0913 - each is an option of its own
    runs: Annotated[list[str] | None, runs_argument("Default: the newest.")] = None,
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file; one that is there is replaced.")
    ] = Path("report.html"),
    experiment: ExperimentOption = None,
    status: StatusOption = None,
    where: WhereOption = None,
    since: SinceOption = None,
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
    mlobs report --since 7d --where "metrics['val/acc'].max > 0.9"
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.reporting.report import write

    choice = Choice.of(
        experiment=experiment, status=status.value if status else None, where=where, since=since
    )
    path, chosen = write(runs or None, output, store=store, choice=choice, limit=limit, title=title)
    if as_json:
        print_json({"path": str(path), "size_bytes": path.stat().st_size})
    else:
        typer.echo(f"{path} ({size(path.stat().st_size)})")
    if chosen.is_cut:
        typer.echo(f"it has the newest {limit:,} - type --limit 0 for all runs", err=True)
    if chosen.left_out:
        typer.echo(f"not in it, as other runs were asked for: {', '.join(chosen.left_out)}", err=True)
    if show:
        typer.launch(path.as_uri())
