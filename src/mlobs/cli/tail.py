"""`mlobs tail`: the end of a run's log, and what is added to it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable
from typing import Annotated

import typer
from msgspec.structs import asdict

from mlobs.cli.options import CsvOption, RunArgument, StoreOption, one_form
from mlobs.cli.output import iso, print_csv
from mlobs.events import Log
from mlobs.moments import utc
from mlobs.read.location import open_store
from mlobs.read.log_tail import LogTail
from mlobs.read.record import load_run
from mlobs.text import json_bytes, log_line, printable

DEFAULT_LINES = 10  # as tail(1)
LOOK_S = 0.25
_COLUMNS = ("at", "level", "logger", "stream", "message", "exception")
_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


def tail(
    run: RunArgument,
    *,
    lines: Annotated[
        int, typer.Option("-n", "--lines", min=0, help="So many of the last lines; 0 is all.")
    ] = DEFAULT_LINES,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with what is added, until the run ends or Ctrl-C.")
    ] = False,
    store: StoreOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", callback=one_form, help="One JSON document a line.")
    ] = False,
    as_csv: CsvOption = False,
) -> None:
    """Print the end of a run's log: what it logged and, if that was captured too, what it printed.

    \b
    mlobs tail latest
    mlobs tail latest -f
    mlobs tail 20240131-1200 -n 0 | grep -i nan

    A run has a log if its tracker has capture_logs=True, or MLOBS_CAPTURE_LOGS=true is set.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    log = LogTail(open_store(store).find(run))
    show = _json if as_json else _csv if as_csv else _text
    found = log.read()
    if not found and not follow:
        typer.echo("no log was recorded - type: MLOBS_CAPTURE_LOGS=true before the training", err=True)
    if as_csv:
        print_csv(_COLUMNS, ())
    show(found[-lines:])  # [-0:] is all
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(log, show)
            record = load_run(run, store=store)
            typer.echo(f"{record.run_id} has ended: {record.status} {record.reason}".rstrip(), err=True)


def _follow(log: LogTail, show: Callable[[Iterable[Log]], None]) -> None:
    has_ended = False
    while not has_ended:
        time.sleep(LOOK_S)
        has_ended = log.has_ended()  # before the look: what came before the end is printed
        show(log.read())
        sys.stdout.flush()


def _json(lines: Iterable[Log]) -> None:
    for line in lines:
        typer.echo(json_bytes(asdict(line) | {"at": iso(utc(line.at))}, indent=None))


def _csv(lines: Iterable[Log]) -> None:
    print_csv(None, ([utc(line.at), *(getattr(line, name) for name in _COLUMNS[1:])] for line in lines))


def _text(lines: Iterable[Log]) -> None:
    for line in lines:
        for text in log_line(line).splitlines():
            typer.echo(_styled(printable(text), line.level))


def _styled(text: str, level: str) -> str:
    return typer.style(text, fg=_STYLES.get(level)) if sys.stdout.isatty() else text
