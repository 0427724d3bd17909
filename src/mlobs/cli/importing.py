"""`mlobs import`: bring the runs of another tracker into the store."""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlobs.cli.options import JsonOption, StoreOption
from mlobs.cli.output import print_json, print_table
from mlobs.text import printable

if TYPE_CHECKING:
    from mlobs.moving.source import Imported


class KindName(str, Enum):
    """What can be imported, as the argument's choices."""

    MLFLOW = "mlflow"
    TENSORBOARD = "tensorboard"
    WANDB = "wandb"
    CSV = "csv"


def import_(
    kind: Annotated[KindName, typer.Argument(metavar="KIND", help="mlflow, tensorboard, wandb or csv.")],
    location: Annotated[
        str,
        typer.Argument(
            metavar="LOCATION",
            help="A tracking URI, a database or mlruns; a log folder; offline run files; a CSV file.",
        ),
    ],
    *,
    experiment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="mlflow: only this experiment; repeatable. Others: the experiment that the runs go to.",
        ),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the runs of another tracker into the store; nothing is changed there.

    \b
    mlobs import mlflow http://localhost:5000 --experiment churn
    mlobs import mlflow mlruns
    mlobs import tensorboard runs
    mlobs import wandb wandb
    mlobs import csv results.csv

    Imported again, runs that have grown get what is new, and nothing is doubled.
    Exits with 1 if a run could not be imported.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.moving.importing import import_runs, importing

    if as_json:
        done = import_runs(kind.value, location, experiment=experiment, store=store)
        print_json([_document(one) for one in done])
    else:
        done = []
        for one in importing(kind.value, location, experiment=experiment, store=store):
            done.append(one)
            if one.outcome == "failed":
                typer.echo(f"{one.run_id}: {printable(one.reason)}", err=True)
        _print(done)
    if any(one.outcome == "failed" for one in done):
        raise typer.Exit(1)


def _document(one: Imported) -> dict[str, Any]:
    names = ("run_id", "name", "outcome", "points", "reason", "left_out")
    return {name: getattr(one, name) for name in names}


def _print(done: list[Imported]) -> None:
    if not done:
        typer.echo("there are no runs", err=True)
        return
    rows = [[one.run_id, one.name, one.outcome, f"{one.points:,}", _remark(one)] for one in done]
    print_table(("run id", "name", "outcome", "points", ""), rows, right=("points",))
    counts = Counter(one.outcome for one in done)
    typer.echo(", ".join(f"{count:,} {outcome}" for outcome, count in counts.items()), err=True)


def _remark(one: Imported) -> str:
    left_out = ", ".join(f"{count:,} {what}" for what, count in sorted(one.left_out.items()))
    return "; ".join(filter(None, (one.reason, f"left out: {left_out}" if left_out else "")))
