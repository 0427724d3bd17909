"""`mlobs sync`: deliver what backends do not have yet."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from mlobs.cli.completion import complete_run
from mlobs.cli.options import JsonOption, StoreOption
from mlobs.cli.output import print_json
from mlobs.cli.show import delivery_document, print_delivery
from mlobs.errors import UsageError
from mlobs.journal.store import RunFolder
from mlobs.read.location import open_store
from mlobs.text import printable

if TYPE_CHECKING:
    from mlobs.sender.foreground import Synced


def sync(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="Ids, beginnings of ids, or latest. Default: all.",
            autocompletion=complete_run,
        ),
    ] = None,
    *,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Deliver to this backend alone, also if the run did not name it. Repeatable."
        ),
    ] = None,
    restart: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Deliver the named runs to this backend from the beginning, "
            "such as when its own run was deleted. Repeatable.",
        ),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deliver what backends do not have yet.

    \b
    mlobs sync
    mlobs sync latest
    mlobs sync 20240131-1200 --backend tensorboard      back-fill a backend that was added later
    mlobs sync 20240131-1200 --restart mlflow           its run was deleted there: make it anew

    Nothing is sent twice. Secrets and options of backends come from the environment and the
    configuration file.
    Exits with 1 if something is still pending.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    opened = open_store(store)
    folders = [opened.find(run) for run in runs] if runs else list(opened.runs())
    if restart:
        _forget(folders if runs else [], restart)
    deliver(folders, only=backend or (), as_json=as_json)


def _forget(folders: Sequence[RunFolder], backends: Sequence[str]) -> None:
    from mlobs.sender.restart import forget

    if not folders:
        raise UsageError("--restart delivers whole runs again - name them: mlobs sync RUN --restart NAME")
    for folder in folders:
        for name in backends:
            if problem := forget(folder, name):
                raise UsageError(f"{folder.run_id}: {problem} - try again when its program has ended")


def deliver(
    folders: Sequence[RunFolder],
    *,
    only: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    as_json: bool = False,
) -> None:
    """Deliver what the runs' backends lack, print what each has, and exit with 1 if one still lacks it.

    `options` holds the parameters of backends by their names, beside those of the settings.
    """
    from mlobs.config import load_settings
    from mlobs.sender import foreground

    settings = load_settings(cwd=Path.cwd(), env=os.environ)
    done = foreground.sync(
        folders,
        only=only,
        options={**settings.backend_options, **(options or {})},
        hang_timeout_s=settings.hang_timeout_s,
        is_own_process=True,
        show=lambda line: typer.echo(printable(line), err=True),
    )
    if as_json:
        print_json([_document(one) for one in done])
    else:
        _print(done)
    if any(report.state == "hung" for one in done for report in one.reports.values()):
        _leave_at_once()
    if not all(one.is_settled for one in done):
        raise typer.Exit(1)


def _leave_at_once() -> NoReturn:
    """Leave without the interpreter's clean-up, which may wait for the threads of a call that hangs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _document(one: Synced) -> dict[str, object]:
    return {
        "run_id": one.run_id,
        "is_settled": one.is_settled,
        "problems": one.problems,
        "delivery": delivery_document(one.reports),
    }


def _print(done: Sequence[Synced]) -> None:
    without = [one.run_id for one in done if not one.reports and not one.problems]
    for one in done:
        print_delivery(one.run_id, one.reports)
        for name, problem in one.problems.items():
            typer.echo(f"{one.run_id}: {name}: {printable(problem)}", err=True)
    if without:
        named = without[0] if len(without) == 1 else f"{len(without):,} runs"
        typer.echo(f"{named} named no backend - type --backend NAME to send to one", err=True)
