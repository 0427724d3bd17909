"""`mlobs watch`: the running runs and their last values, as they go on."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Annotated, Any, TypeAlias

import typer

from mlobs.cli.options import CsvOption, ExperimentOption, StoreOption, one_form
from mlobs.cli.output import iso, moment, number, print_csv
from mlobs.read.live import LiveRun, LiveRuns, age_s
from mlobs.read.location import open_store
from mlobs.read.run_summary import RunSummary
from mlobs.text import duration, json_bytes, printable

EVERY_S = 2.0
MOST_METRICS = 6
_Running: TypeAlias = Sequence[LiveRun]
_Ended: TypeAlias = Sequence[RunSummary]
_COLUMNS = ("at", "run_id", "experiment", "name", "status", "step", "metric", "value")


def watch(
    *,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = EVERY_S,
    times: Annotated[int, typer.Option(min=0, help="Look so often, then leave; 0: until Ctrl-C.")] = 0,
    store: StoreOption = None,
    experiment: ExperimentOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", callback=one_form, help="One JSON document a line, one line a look.")
    ] = False,
    as_csv: CsvOption = False,
) -> None:
    """Show the runs that are running, with their last values, until Ctrl-C.

    \b
    mlobs watch
    mlobs watch --experiment churn --every 10
    mlobs watch --times 1 --json | jq '.running[].metrics.loss'

    On a terminal it is a table that is drawn anew; else a line for each run at each look.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    live = LiveRuns(open_store(store), experiment)
    with contextlib.suppress(KeyboardInterrupt):
        if sys.stdout.isatty() and not (as_json or as_csv):
            _draw(live, every, times)
        else:
            if as_csv:
                print_csv(_COLUMNS, ())
            _print(live, every, times, _json if as_json else _csv if as_csv else _text)


def _print(live: LiveRuns, every_s: float, times: int, show: Callable[[_Running, _Ended], None]) -> None:
    looks = 0
    while True:
        running, ended = live.look()
        show(running, ended)
        if not running and not ended and not looks:
            typer.echo("no run is running", err=True)
        sys.stdout.flush()
        looks += 1
        if looks == times:
            return
        time.sleep(every_s)


def _json(running: _Running, ended: _Ended) -> None:
    typer.echo(json_bytes(_document(running, ended), indent=None))


def _csv(running: _Running, ended: _Ended) -> None:
    """A row for each value of each run that is running, and one for each that has ended."""
    at = datetime.now(timezone.utc)
    rows: list[list[Any]] = []
    for one in running:
        run = [at, *_facts(one.summary)]
        rows += [[*run, one.steps[name], name, value] for name, value in one.last.items()]
        rows += [] if one.last else [[*run, None, None, None]]
    rows += [[at, *_facts(run), None, None, None] for run in ended]
    print_csv(None, rows)


def _facts(run: RunSummary) -> list[str]:
    return [run.run_id, run.experiment, run.name, run.status]


def _text(running: _Running, ended: _Ended) -> None:
    for line in [*map(_line, running), *map(_end_line, ended)]:
        typer.echo(line)


def _draw(live: LiveRuns, every_s: float, times: int) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    looks = 0
    with Live(auto_refresh=False) as screen:
        while True:
            running, ended = live.look()
            for one in ended:
                screen.console.print(Text(_end_line(one)))  # stays above the table
            note = f"{len(running)} running at {_now()} - Ctrl-C leaves"
            screen.update(Group(_table(running), Text(note, style="dim")), refresh=True)
            looks += 1
            if looks == times:
                return
            time.sleep(every_s)


def _table(running: Sequence[LiveRun]) -> Any:
    from rich.table import Table
    from rich.text import Text

    counts = Counter(name for one in running for name in one.last)
    metrics = [name for name, _ in counts.most_common(MOST_METRICS)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("run id", "name", "runs for", "silent for", "step", *metrics):
        table.add_column(Text(heading), justify="left" if heading in ("run id", "name") else "right")
    for one in running:
        values = [number(one.last[name]) if name in one.last else "" for name in metrics]
        cells = (one.summary.run_id, one.summary.name, _runs_for(one), duration(age_s(one)))
        step = "" if one.step is None else str(one.step)
        table.add_row(*(Text(printable(text)) for text in (*cells, step, *values)))
    return table


def _line(one: LiveRun) -> str:
    values = "  ".join(f"{name}={number(value)}" for name, value in list(one.last.items())[:MOST_METRICS])
    step = "" if one.step is None else f"  step {one.step}"
    return printable(f"{_now()}  {one.summary.run_id}  {one.summary.name}  {_runs_for(one)}{step}  {values}")


def _end_line(run: RunSummary) -> str:
    return printable(f"{_now()}  {run.run_id}  {run.name}  has ended: {run.status} {run.reason}".rstrip())


def _document(running: _Running, ended: _Ended) -> dict[str, Any]:
    return {
        "at": iso(datetime.now(timezone.utc)),
        "running": [
            {
                "run_id": one.summary.run_id,
                "experiment": one.summary.experiment,
                "name": one.summary.name,
                "runs_for_s": _runs_for_s(one),
                "silent_for_s": age_s(one),
                "step": one.step,
                "metrics": one.last,
            }
            for one in running
        ],
        "ended": [{"run_id": one.run_id, "status": one.status, "reason": one.reason} for one in ended],
    }


def _runs_for_s(one: LiveRun) -> float:
    return max(0.0, time.time() - (one.summary.started_at or time.time()))


def _runs_for(one: LiveRun) -> str:
    return duration(_runs_for_s(one))


def _now() -> str:
    return moment(datetime.now(timezone.utc))
