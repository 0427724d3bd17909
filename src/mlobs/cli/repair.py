"""`mlobs repair`: end the runs that nobody will end any more."""

from __future__ import annotations

from typing import Annotated

import typer

from mlobs.cli.completion import complete_run
from mlobs.cli.options import StoreOption
from mlobs.cli.sync import deliver
from mlobs.read.location import open_store
from mlobs.text import printable


def repair(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="Ids, beginnings of ids, or latest. Default: all dead runs.",
            autocompletion=complete_run,
        ),
    ] = None,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="End the named runs though they gave a sign of life just now.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """End runs that are dead, here and in their backends.

    \b
    mlobs repair
    mlobs repair 20240131-1200
    mlobs repair 20240131-1200 --force      its machine is gone, though it was heard of a minute ago

    A run is dead if its process is gone, or if its host gives no sign of life. It ends as CRASHED, at
    its last sign of life. Should it live after all, nothing of it is lost, and its own end counts.
    Exits with 1 if a named run may be running, or a backend does not know the end yet.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.sender import repair as repairing

    opened = open_store(store)
    folders = [opened.find(run) for run in runs] if runs else list(opened.runs())
    done = [repairing.repair(one, is_named=bool(runs), is_forced=force) for one in folders]
    for one in done:
        if runs or not one.had_ended:
            typer.echo(f"{one.folder.run_id}: {printable(one.words)}", err=one.is_refused)
    ended = [one.folder for one in done if one.is_ended and (runs or not one.had_ended)]
    if ended:
        deliver(ended)
    elif not runs and all(one.had_ended for one in done):
        typer.echo(f"every run in {opened.path} has ended")
    if any(one.is_refused for one in done):
        raise typer.Exit(1)
