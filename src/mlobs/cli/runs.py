"""`mlobs runs`: the runs of a store, one line each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from mlobs.cli.options import JsonOption, StatusName, StoreOption
from mlobs.cli.output import duration, iso, moment, number, print_json, print_table
from mlobs.errors import UsageError
from mlobs.journal.store import RunFolder, Store
from mlobs.names import SYSTEM_PREFIX
from mlobs.read.location import open_store
from mlobs.read.record import RunRecord, liveness, read_run
from mlobs.text import param_text

DEFAULT_LIMIT = 50  # lines of a table that a person still looks at
MOST_METRICS = 4  # metrics that a table shows by itself: those that most runs have
_FACTS = ("run_id", "experiment", "name", "status", "started", "ended", "reason", "parent_run_id")


def runs(
    *,
    store: StoreOption = None,
    experiment: Annotated[str | None, typer.Option(help="Only runs of this experiment.")] = None,
    status: Annotated[
        StatusName | None, typer.Option(case_sensitive=False, help="Only runs with this status.")
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
        typer.Option(min=0, help=f"At most so many; 0 is all. Default: {DEFAULT_LIMIT}, with --json all."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first.

    \b
    mlobs runs
    mlobs runs --experiment churn --sort loss --limit 5
    mlobs runs --status failed --json | jq -r '.[].run_id'

    KEY is run_id, name, started, ..., or metrics.NAME, params.NAME, tags.NAME; a bare NAME is looked
    for in this order. Runs that lack it come last.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    opened = open_store(store)
    most = (0 if as_json else DEFAULT_LIMIT) if limit is None else limit
    query = _Query(experiment, status.value if status else None, sort, most, is_reversed=reverse)
    found, left_out = _choose(opened, query)
    if as_json:
        print_json([document(record) for record in found])
    elif found:
        _print(found, sort)
    else:
        typer.echo(f"no such runs in {opened.path}", err=True)
    if left_out and not as_json:
        typer.echo(f"{'' if sort else 'up to '}{left_out:,} more - type --limit 0 for all", err=True)


@dataclass(frozen=True)
class _Query:
    experiment: str | None
    status: str | None
    sort: str | None
    limit: int
    is_reversed: bool

    def takes(self, record: RunRecord) -> bool:
        """Tell whether a run is asked for."""
        if self.experiment is not None and record.experiment != self.experiment:
            return False
        return self.status is None or record.status == self.status


def document(record: RunRecord) -> dict[str, Any]:
    """A run as JSON has it."""
    facts = {name: getattr(record, name) for name in _FACTS}
    facts["started"], facts["ended"] = iso(record.started), iso(record.ended)
    return facts | {"params": record.params, "metrics": record.last_metrics, "tags": record.tags}


def _choose(store: Store, query: _Query) -> tuple[list[RunRecord], int]:
    """The chosen runs in order, and how many more there are; reads no more runs than it must.

    Without a sort key the runs behind the limit are not read, so the number may count runs that
    are not asked for.
    """
    folders = list(store.runs())
    if query.sort is None and not query.is_reversed:
        folders.reverse()
    chosen = ((at, record) for at, record in _read(folders) if query.takes(record))
    if query.sort is not None:
        ordered = _sorted([record for _, record in chosen], query.sort, is_reversed=query.is_reversed)
        return ordered[: query.limit or None], max(0, len(ordered) - query.limit) if query.limit else 0
    found: list[RunRecord] = []
    for at, record in chosen:
        if query.limit and len(found) == query.limit:
            return found, len(folders) - at
        found.append(record)
    return found, 0


def _read(folders: Sequence[RunFolder]) -> Iterator[tuple[int, RunRecord]]:
    is_alive = liveness()
    for at, folder in enumerate(folders):
        record = read_run(folder, is_alive)
        if record is not None:
            yield at, record


def _sorted(records: list[RunRecord], key: str, *, is_reversed: bool) -> list[RunRecord]:
    values = [value_of(record, key) for record in records]
    if records and all(value is None for value in values):
        raise UsageError(f"no run has {key!r}; --sort takes {', '.join(_keys(records))}")
    having = [(_rank(value), record) for value, record in zip(values, records, strict=True) if _has(value)]
    lacking = [record for value, record in zip(values, records, strict=True) if not _has(value)]
    having.sort(key=lambda item: item[0], reverse=is_reversed)
    return [record for _, record in having] + lacking


def value_of(record: RunRecord, key: str) -> Any:
    """What a run has under a key, None if nothing."""
    if key in _FACTS:
        return getattr(record, key)
    groups = {"metrics": record.last_metrics, "params": record.params, "tags": record.tags}
    group, _, name = key.partition(".")
    if group in groups and name in groups[group]:
        return groups[group][name]
    return next((values[key] for values in groups.values() if key in values), None)


def _has(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _rank(value: Any) -> tuple[int, Any]:
    """Order numbers before times before text, so that mixed values can be compared at all."""
    if isinstance(value, int | float):
        return 0, value
    return (1, value.timestamp()) if hasattr(value, "timestamp") else (2, param_text(value))


def _keys(records: Sequence[RunRecord]) -> list[str]:
    keys = dict.fromkeys(_FACTS)
    for record in records:
        keys |= dict.fromkeys(f"metrics.{name}" for name in record.last_metrics)
        keys |= dict.fromkeys(f"params.{name}" for name in record.params)
        keys |= dict.fromkeys(f"tags.{name}" for name in record.tags)
    return list(keys)


def _print(records: Sequence[RunRecord], sort: str | None) -> None:
    recorded = (name for record in records for name in record.last_metrics)
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
            record.run_id,
            record.experiment,
            record.name,
            f"{record.status} (stale)" if record.is_stale else record.status,
            moment(record.started),
            duration(record.started, record.ended),
            *(_cell(value_of(record, key)) for key in extra),
            *(_cell(record.last_metrics.get(name)) for name in metrics),
        ]
        for record in records
    ]
    print_table(headings, rows, right=("took", *metrics))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return number(value)
    return moment(value) if hasattr(value, "timestamp") else param_text(value)
