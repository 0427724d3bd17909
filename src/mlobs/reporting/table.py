"""The table of runs: all of it in the page as it is, sorted and filtered by the page's script."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlobs import text
from mlobs.names import SYSTEM_PREFIX
from mlobs.read.html import escaped, number
from mlobs.read.record import RunRecord
from mlobs.reporting.colours import DASH_ARRAYS, LIGHT
from mlobs.reporting.markup import scrolled
from mlobs.text import param_text, shortened

_MOST_CHARACTERS = 80  # of a cell; the run's own part has all
_MOST_PARAMS, _MOST_METRICS = 6, 5  # columns that are shown before somebody chooses


@dataclass(frozen=True)
class Column:
    """A column of the table; `of` gives a run's value, None if it has none."""

    key: str
    heading: str
    of: Callable[[RunRecord], Any]
    is_shown: bool = False


def columns_of(records: Sequence[RunRecord]) -> list[Column]:
    """The columns behind the name: facts, params (those that vary first), metrics, tags."""
    params, metrics = varying_params(records), _by_commonness([one.last_metrics for one in records])
    others = [name for name in _by_commonness([one.params for one in records]) if name not in params]
    tags = _by_commonness([one.tags for one in records])
    experiments = {one.experiment for one in records}
    shown = [name for name in metrics if not name.startswith(SYSTEM_PREFIX)][:_MOST_METRICS]
    return [
        Column("status", "status", lambda run: run.status, is_shown=True),
        Column("id", "run id", lambda run: run.run_id),
        Column("experiment", "experiment", lambda run: run.experiment, is_shown=len(experiments) > 1),
        Column("started", "started (UTC)", lambda run: run.started, is_shown=True),
        Column("took", "took", lambda run: run.duration_s, is_shown=True),
        *(_named("params", name, at < _MOST_PARAMS) for at, name in enumerate(params)),
        *(_named("metrics", name, name in shown) for name in metrics),
        *(_named("params", name, False) for name in others),
        *(_named("tags", name, False) for name in tags),
    ]  # fmt: skip


def varying_params(records: Sequence[RunRecord]) -> list[str]:
    """The params that not all runs have with the same value; those that most runs have come first."""
    names = _by_commonness([one.params for one in records])
    return [name for name in names if len({param_text(one.params.get(name, _ABSENT)) for one in records}) > 1]


def table_html(records: Sequence[RunRecord], columns: Sequence[Column]) -> str:
    """The table; the first column chooses the runs that the charts show."""
    heads = "".join(_head(column) for column in columns)
    rows = "".join(_row(at, run, columns) for at, run in enumerate(records))
    return scrolled(
        "Runs",
        '<table id="runs-table"><thead><tr><th scope="col" data-key="name">'
        f'<button type="button" class="sort">run</button></th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table>",
    )


def swatch(run: int) -> str:
    """A short line in the run's colour and dash."""
    dash = DASH_ARRAYS[run // len(LIGHT) % len(DASH_ARRAYS)]
    return (
        f'<svg class="swatch c{run % len(LIGHT)}" viewBox="0 0 22 6" aria-hidden="true">'
        f'<line x1="0" y1="3" x2="22" y2="3" stroke-dasharray="{dash}"/></svg>'
    )


_ABSENT = object()


def _named(group: str, name: str, is_shown: bool) -> Column:  # noqa: FBT001 - one of three values of a column
    return Column(f"{group}.{name}", name, lambda run: _group(run, group).get(name), is_shown=is_shown)


def _group(run: RunRecord, group: str) -> dict[str, Any]:
    groups: dict[str, dict[str, Any]] = {"params": run.params, "metrics": run.last_metrics, "tags": run.tags}
    return groups[group]


def _by_commonness(of_runs: Sequence[dict[str, Any]]) -> list[str]:
    counts = Counter(name for values in of_runs for name in values)
    return sorted(counts, key=lambda name: (name.startswith(SYSTEM_PREFIX), -counts[name]))


def _head(column: Column) -> str:
    group = column.key.partition(".")[0]
    kind = f'<span class="kind">{group[:-1]}</span>' if group in ("params", "metrics", "tags") else ""
    return (
        f'<th scope="col" data-key="{escaped(column.key)}"{_hidden(column)}>'
        f'<button type="button" class="sort">{kind}{escaped(column.heading)}</button></th>'
    )


def _row(at: int, run: RunRecord, columns: Sequence[Column]) -> str:
    cells = "".join(_cell(column, column.of(run)) for column in columns)
    name = escaped(run.name or run.run_id)
    return (
        f'<tr data-run="{at}"><th scope="row" data-sort="{escaped(run.name.lower())}"><label>'
        f'<input type="checkbox" checked aria-label="show {name} in the charts">{swatch(at)}</label>'
        f'<a href="#run-{at}">{name}</a></th>{cells}</tr>'
    )


def _cell(column: Column, value: Any) -> str:
    shown, sort = _shown(column, value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    kind = ' class="n"' if is_number else ""
    if column.key == "status":
        shown = f'<span class="status {escaped(value).lower()}">{shown}</span>'
    return f'<td{kind} data-sort="{escaped(sort)}"{_hidden(column)}>{shown}</td>'


def _shown(column: Column, value: Any) -> tuple[str, str]:
    """What a cell shows, and what it is sorted by: "" comes last either way."""
    if value is None:
        return "", ""
    if column.key == "took":
        return escaped(text.duration(value)), repr(value)
    if hasattr(value, "timestamp"):
        return f"{value:%Y-%m-%d %H:%M:%S}", repr(value.timestamp())
    if isinstance(value, float):
        return number(value), "" if math.isnan(value) else repr(value)
    whole = param_text(value)
    return escaped(shortened(whole, _MOST_CHARACTERS, "the run")), whole[:_MOST_CHARACTERS].lower()


def _hidden(column: Column) -> str:
    return "" if column.is_shown else " hidden"


def chooser_html(columns: Sequence[Column]) -> str:
    """The list by which columns are shown and hidden."""
    return "".join(_choices(columns))


def _choices(columns: Sequence[Column]) -> Iterator[str]:
    for column in columns:
        checked = " checked" if column.is_shown else ""
        group = column.key.partition(".")[0] if "." in column.key else "facts"
        yield (
            f'<label><input type="checkbox" value="{escaped(column.key)}"{checked}>'
            f'{escaped(column.heading)} <span class="kind">{group}</span></label>'
        )
