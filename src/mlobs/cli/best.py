"""`mlobs best`: the runs where a metric was best."""

from __future__ import annotations

import math
import re
from enum import Enum
from typing import Annotated

import typer

from mlobs.cli.columns import short, without_metric
from mlobs.cli.options import (
    CsvOption,
    ExperimentOption,
    JsonOption,
    MetricArgument,
    SinceOption,
    StatusOption,
    StoreOption,
    WhereOption,
)
from mlobs.cli.output import iso, moment, number, print_csv, print_json, print_table
from mlobs.cli.runs import document
from mlobs.errors import UsageError
from mlobs.journal.store import Store
from mlobs.read.frames import Choice, read_runs
from mlobs.read.location import open_store
from mlobs.read.no_runs import no_such_runs
from mlobs.read.point_cache import PointReader
from mlobs.read.record import liveness
from mlobs.read.run_summary import RunSummary
from mlobs.text import param_text

DEFAULT_LIMIT = 10
MOST_PARAMS, MOST_CHARACTERS = 4, 30  # beside the rest of a line, what fits on a screen
_LESS_IS_BETTER = re.compile(
    r"loss|err|mse|rmse|mae|perplexity|ppl|nll|cost|regret|divergence|distance", re.IGNORECASE
)


class Mode(str, Enum):
    """What is better."""

    MIN = "min"
    MAX = "max"


def best(  # noqa: PLR0913 - each is an option of its own
    metric: MetricArgument,
    *,
    mode: Annotated[
        Mode | None,
        typer.Option(help="What is better. Default: min if the name tells of a loss or an error, else max."),
    ] = None,
    store: StoreOption = None,
    experiment: ExperimentOption = None,
    status: StatusOption = None,
    where: WhereOption = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many runs; 0 is all.")] = DEFAULT_LIMIT,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List the runs where a metric was best, at any step of them; the best comes first.

    \b
    mlobs best val/acc
    mlobs best val/loss --mode min --experiment churn --limit 3
    mlobs best val/acc --limit 1 --json | jq -r '.[0].run_id'

    NaN is never best.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    opened = open_store(store)
    which = mode or (Mode.MIN if _LESS_IS_BETTER.search(metric) else Mode.MAX)
    choice = Choice.of(
        experiment=experiment, status=status.value if status else None, where=where, since=since
    )
    chosen = list(read_runs(opened, choice))
    if not chosen:
        raise UsageError(no_such_runs(opened, choice))
    ranked = _ranked(chosen, metric, which)
    rows = [(run, value, _step_of(opened, run, metric, value)) for run, value in ranked[: limit or None]]
    if as_json:
        print_json([document(run) | {"metric": metric, "best": value, "step": at} for run, value, at in rows])
    elif as_csv:
        headings = ["run_id", "experiment", "name", "status", "started", metric, "step"]
        print_csv(
            headings,
            ([r.run_id, r.experiment, r.name, r.status, iso(r.started), value, at] for r, value, at in rows),
        )
    elif not ranked:
        typer.echo(f"every value of {metric!r} is NaN, and NaN is never best", err=True)
    else:
        _print(rows, metric, which)


def _ranked(runs: list[RunSummary], metric: str, which: Mode) -> list[tuple[RunSummary, float]]:
    having = [
        (run, float(getattr(run.metrics[metric], which.value))) for run in runs if metric in run.metrics
    ]
    if not having:
        raise without_metric(runs, metric)
    numbers = [item for item in having if not math.isnan(item[1])]
    return sorted(numbers, key=lambda item: item[1], reverse=which is Mode.MAX)


def _step_of(store: Store, run: RunSummary, metric: str, value: float) -> int | None:
    """The first step of the value; None if the run is gone by now."""
    found = PointReader(liveness()).points(store.run(run.run_id))
    if found is None or metric not in found[0].names:
        return None
    points, code = found[0], found[0].names[metric]
    rows = zip(points.codes, points.steps, points.values, strict=True)
    return next((step for one, step, there in rows if one == code and there == value), None)


def _print(rows: list[tuple[RunSummary, float, int | None]], metric: str, which: Mode) -> None:
    params = dict.fromkeys(name for run, _, _ in rows for name in run.params)
    varied = [name for name in params if len({param_text(run.params.get(name)) for run, _, _ in rows}) > 1]
    shown = varied[:MOST_PARAMS]  # those that differ may tell why one is better
    title = f"{metric} ({which.value})"
    table = [
        [
            run.run_id,
            run.experiment,
            run.name,
            run.status,
            moment(run.started),
            number(value),
            "" if step is None else str(step),
            *(short(run.params.get(name), MOST_CHARACTERS) for name in shown),
        ]
        for run, value, step in rows
    ]
    headings = ["run id", "experiment", "name", "status", "started (UTC)", title, "step", *shown]
    print_table(headings, table, right=(title, "step"))
