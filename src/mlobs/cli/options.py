"""Options that several commands take, spelled and explained once."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


def _one_form(ctx: typer.Context, value: bool) -> bool:  # noqa: FBT001 - typer calls it with the option's value
    """Refuse the second of --json and --csv; the options before it are in the context already."""
    if value and (ctx.params.get("as_json") or ctx.params.get("as_csv")):
        raise typer.BadParameter("--json and --csv exclude each other - type one of them")
    return value


StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="FOLDER", help="The store. Default: MLOBS_STORE, else the nearest .mlobs upwards."
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", callback=_one_form, help='Print one JSON document (NaN is the string "NaN").'),
]
CsvOption = Annotated[
    bool,
    typer.Option("--csv", callback=_one_form, help="Print CSV: times are ISO 8601 in UTC, numbers exact."),
]
ExperimentOption = Annotated[str | None, typer.Option(help="Only runs of this experiment.")]
WhereOption = Annotated[
    str | None,
    typer.Option(metavar="CONDITION", help="Only runs that fulfil it, such as: params.lr < 0.1"),
]
SinceOption = Annotated[
    str | None,
    typer.Option(metavar="WHEN", help='Only runs started since: "7d", "12h", or ISO 8601 (UTC).'),
]


class StatusName(str, Enum):
    """The statuses, as an option's choices."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"
    CRASHED = "CRASHED"
