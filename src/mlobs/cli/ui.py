"""`mlobs ui`: the vendors' own pages on what the store's runs were sent to."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from mlobs.cli.options import StoreOption
from mlobs.cli.output import print_table
from mlobs.errors import Unavailable, UsageError
from mlobs.read.location import open_store
from mlobs.text import printable

if TYPE_CHECKING:
    from mlobs.viewing.programs import Program

_LOOK_S = 0.5


def ui(
    *,
    backend: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this backend's pages. Repeatable.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open them in the browser.")] = False,
    store: StoreOption = None,
) -> None:
    """Start the pages of MLflow and TensorBoard, until Ctrl-C.

    \b
    mlobs ui
    mlobs ui --backend tensorboard --open

    They show what was sent to the backends of the settings, else to those that the newest runs of the
    store named. Each gets a free port of 127.0.0.1; of a server that runs elsewhere the address is printed.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.config import load_settings, working_directory
    from mlobs.viewing.choice import backends_to_view, viewers
    from mlobs.viewing.programs import Program

    settings = load_settings(cwd=working_directory(), env=os.environ)
    found, without = viewers(backends_to_view(open_store(store), settings, backend or ()))
    for name, why in without.items():
        typer.echo(f"{name}: {printable(why)}", err=True)
    if not found:
        raise UsageError("there are no pages to look at, for the reasons above")
    remote = {name: one.address for name, one in found.items() if one.address is not None}
    silent = 0
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        started = {
            name: stack.enter_context(Program(one)) for name, one in found.items() if one.address is None
        }
        answering = _wait(started)
        addresses = remote | {name: one.address for name, one in answering.items()}
        silent = len(found) - len(addresses)
        _show(addresses, is_opened=open_browser)
        if answering:
            typer.echo("Ctrl-C stops what was started here", err=True)
            _stay(answering)
    if silent:
        raise typer.Exit(1)


def _wait(started: Mapping[str, Program]) -> dict[str, Program]:
    """Wait until each program answers; say why one does not."""
    answering = {}
    if started:
        typer.echo(f"starting {', '.join(started)} ...", err=True)
    for name, program in started.items():
        try:
            program.wait_for_answer()
        except Unavailable as error:
            typer.echo(f"{name}: {printable(str(error))}", err=True)
            continue
        answering[name] = program
    return answering


def _show(addresses: Mapping[str, str], *, is_opened: bool) -> None:
    if not addresses:
        return
    print_table(("backend", "address"), [[name, address] for name, address in addresses.items()])
    sys.stdout.flush()  # into a pipe, too: somebody waits for it
    for address in addresses.values() if is_opened else ():
        typer.launch(address)


def _stay(programs: Mapping[str, Program]) -> None:
    """Wait for Ctrl-C, or until the last program has ended by itself."""
    running = dict(programs)
    while running:
        time.sleep(_LOOK_S)
        for name in [name for name, one in running.items() if not one.is_running()]:
            typer.echo(f"{name} has ended: {printable(running.pop(name).last_words())}", err=True)
