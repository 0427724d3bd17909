"""`mlobs runs`: the runs of a store, one line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from mlobs.cli.columns import FACTS, cell, keys_of, sort_runs, value_of
from mlobs.cli.options import (
    CsvOption,
    ExperimentOption,
    JsonOption,
    SinceOption,
    StatusOption,
    StoreOption,
    WhereOption,
)
from mlobs.cli.output import duration, iso, moment, print_csv, print_json, print_table
from mlobs.errors import UsageError
from mlobs.journal.store import Store
from mlobs.names import SYSTEM_PREFIX
from mlobs.read.frames import Choice
from mlobs.read.location import open_store
from mlobs.read.no_runs import no_such_runs
from mlobs.read.record import RunRecord
from mlobs.read.run_index import RunIndex
from mlobs.read.run_summary import RunSummary

DEFAULT_LIMIT = 50  # lines of a table that a person still looks at
MOST_METRICS = 4  # metrics that a table shows by itself: those that most runs have


def runs(  # noqa: PLR0913 - each is an option of its own
    *,
    store: StoreOption = None,
    experiment: ExperimentOption = None,
    status: StatusOption = None,
    where: WhereOption = None,
    since: SinceOption = None,
    columns: Annotated[
        str | None, typer.Option(metavar="KEY,KEY...", help="Show these instead, such as params.lr,loss.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Sort by a fact, metric, param or tag, smallest first. Default: newest first."
        ),
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            min=0, help=f"At most so many; 0 is all. Default: {DEFAULT_LIMIT}, with --json or --csv all."
        ),
    ] = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List runs, newest first.

    \b
    mlobs runs
    mlobs runs --experiment churn --sort loss --limit 5
    mlobs runs --since 7d --where "params.lr < 0.1 and metrics['val/acc'].max > 0.9"
    mlobs runs --columns name,params.lr,metrics.loss.min --csv
    mlobs runs --status failed --json | jq -r '.[].run_id'

    KEY is run_id, name, started, ..., or metrics.NAME, params.NAME, tags.NAME; a bare NAME is looked
    for in this order. metrics.NAME.min, .max, .mean and .first are there, too. Runs that lack it come last.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    opened = open_store(store)
    is_data = as_json or as_csv
    most = (0 if is_data else DEFAULT_LIMIT) if limit is None else limit
    choice = Choice.of(
        experiment=experiment, status=status.value if status else None, where=where, since=since
    )
    found, left_out = _choose(opened, _Query(choice, sort, most, is_reversed=reverse))
    shown = _columns(columns, found)
    if as_json:
        print_json([_picked(run, shown) if shown else document(run) for run in found])
    elif as_csv:
        keys = shown or keys_of(found)
        print_csv(keys, ([value_of(run, key) for key in keys] for run in found))
    elif not found:
        typer.echo(no_such_runs(opened, choice), err=True)
    elif shown:
        print_table(shown, [[cell(value_of(run, key)) for key in shown] for run in found])
    else:
        _print(found, sort)
    if left_out and not is_data:
        typer.echo(f"{'' if sort else 'up to '}{left_out:,} more - type --limit 0 for all", err=True)


@dataclass(frozen=True)
class _Query:
    choice: Choice
    sort: str | None
    limit: int
    is_reversed: bool


def document(record: RunSummary | RunRecord) -> dict[str, Any]:
    """A run as JSON has it."""
    facts = {name: getattr(record, name) for name in FACTS}
    facts["started"], facts["ended"] = iso(record.started), iso(record.ended)
    return facts | {"params": record.params, "metrics": record.last_metrics, "tags": record.tags}


def _picked(run: RunSummary, keys: Sequence[str]) -> dict[str, Any]:
    values = {key: value_of(run, key) for key in keys}
    return {key: iso(value) if hasattr(value, "isoformat") else value for key, value in values.items()}


def _columns(text: str | None, found: Sequence[RunSummary]) -> list[str]:
    keys = [key.strip() for key in text.split(",") if key.strip()] if text is not None else []
    unknown = [key for key in keys if found and all(value_of(run, key) is None for run in found)]
    unknown = [key for key in unknown if key not in FACTS]
    if unknown:
        raise UsageError(f"no run has {unknown[0]!r}; --columns takes {', '.join(keys_of(found))}")
    return keys


def _choose(store: Store, query: _Query) -> tuple[list[RunSummary], int]:
    """The chosen runs in order, and how many more there are; reads no more runs than it must.

    Without a sort key the runs behind the limit are not read, so the number may count runs that
    are not asked for.
    """
    with RunIndex(store) as index:
        folders = index.folders()
        if query.sort is None and not query.is_reversed:
            folders.reverse()
        read = ((at, index.summary(folder)) for at, folder in enumerate(folders))
        chosen = ((at, run) for at, run in read if run is not None and query.choice.takes(run))
        if query.sort is not None:
            ordered = sort_runs([run for _, run in chosen], query.sort, is_reversed=query.is_reversed)
            return ordered[: query.limit or None], max(0, len(ordered) - query.limit) if query.limit else 0
        found: list[RunSummary] = []
        for at, run in chosen:
            if query.limit and len(found) == query.limit:
                return found, len(folders) - at
            found.append(run)
        return found, 0


def _print(found: Sequence[RunSummary], sort: str | None) -> None:
    recorded = (name for run in found for name in run.metrics)
    counts = Counter(name for name in recorded if not name.startswith(SYSTEM_PREFIX))
    metrics = [name for name, _ in counts.most_common(MOST_METRICS)]
    shown = {
        "run_id",
        "experiment",
        "name",
        "status",
        "started",
        *metrics,
        *(f"metrics.{name}" for name in metrics),
    }
    extra = [sort] if sort is not None and sort not in shown else []
    headings = ["run id", "experiment", "name", "status", "started (UTC)", "took", *extra, *metrics]
    rows = [
        [
            run.run_id,
            run.experiment,
            run.name,
            f"{run.status} (stale)" if run.is_stale else run.status,
            moment(run.started),
            duration(run.duration_s),
            *(cell(value_of(run, key)) for key in extra),
            *(cell(value_of(run, f"metrics.{name}")) for name in metrics),
        ]
        for run in found
    ]
    print_table(headings, rows, right=("took", *metrics))
