"""Options that several commands take, spelled and explained once."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Any

import typer

from mlobs.cli.completion import complete_metric, complete_run
from mlobs.errors import UsageError

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run's id, the beginning of one, or latest.", autocompletion=complete_run
    ),
]
MetricArgument = Annotated[
    str, typer.Argument(metavar="METRIC", help="A metric's name.", autocompletion=complete_metric)
]


def one_form(ctx: typer.Context, value: bool) -> bool:  # noqa: FBT001 - typer calls it with the option's value
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
    typer.Option("--json", callback=one_form, help='Print one JSON document (NaN is the string "NaN").'),
]
CsvOption = Annotated[
    bool,
    typer.Option("--csv", callback=one_form, help="Print CSV: times are ISO 8601 in UTC, numbers exact."),
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
AllOption = Annotated[bool, typer.Option("--all", help="All runs of the store.")]
WholeExperimentOption = Annotated[
    str | None, typer.Option("--experiment", metavar="NAME", help="All runs of this experiment.")
]


def runs_argument(otherwise: str = "", metavar: str = "RUN") -> Any:
    """An argument for runs; `otherwise` says which they are when none is named."""
    text = f"Ids, beginnings of ids, or latest. {otherwise}".rstrip()
    return typer.Argument(metavar=metavar, help=text, autocompletion=complete_run)


def check_one_choice(runs: Sequence[str] | None, experiment: str | None, *, every: bool) -> None:
    """See that runs are chosen in one way: by name, by experiment, or all.

    Raises:
        UsageError: they are chosen in none, or in several.
    """
    if sum((bool(runs), every, experiment is not None)) != 1:
        raise UsageError("say which runs: give their ids, --experiment NAME, or --all")


class StatusName(str, Enum):
    """The statuses, as an option's choices."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"
    CRASHED = "CRASHED"


StatusOption = Annotated[
    StatusName | None,
    typer.Option("--status", case_sensitive=False, help="Only runs with this status."),
]
