"""All commands under one name, and the edge where errors become one line and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mlobs.cli.audit import audit
from mlobs.cli.best import best
from mlobs.cli.code import diff, restore
from mlobs.cli.compare import compare
from mlobs.cli.config import config
from mlobs.cli.datasets import datasets, fingerprint
from mlobs.cli.doctor import doctor
from mlobs.cli.exporting import export
from mlobs.cli.importing import import_
from mlobs.cli.launch import run
from mlobs.cli.plot import plot
from mlobs.cli.remove import gc, rm
from mlobs.cli.repair import repair
from mlobs.cli.replaying import replay
from mlobs.cli.report import report
from mlobs.cli.reproduce import reproduce, verify
from mlobs.cli.runs import runs
from mlobs.cli.show import show
from mlobs.cli.sync import sync
from mlobs.cli.tail import tail
from mlobs.cli.ui import ui
from mlobs.cli.watch import watch
from mlobs.errors import MlobsError

CANNOT = 2  # the same code as for an unknown option


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error that mlobs raises on purpose is said in one line.

        A reader that closes the pipe early (`| head`) has what it wanted.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            _let_go_of_stdout()
            raise typer.Exit(0) from error
        except MlobsError as error:
            typer.echo(f"mlobs: {one_line(error)}", err=True)
            raise typer.Exit(CANNOT) from error
        return result


def _let_go_of_stdout() -> None:
    """Let what is still buffered for a closed pipe go nowhere, so that the exit does not complain."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line(error: MlobsError) -> str:
    """Say an error in one line, with the path that it is about."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return " ".join(text.split())


app = typer.Typer(
    cls=_Commands,
    name="mlobs",
    help="Look at recorded runs, deliver what is pending, check the installation.",
    epilog="Exit codes: 0 all is well, 1 something is wrong or still pending, 2 cannot be done as typed.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    if value:
        from mlobs.version import __version__

        typer.echo(f"mlobs {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Look at recorded runs, deliver what is pending, check the installation."""
    del version


for _command in (
    *(runs, show, compare, best, plot, watch, tail, report, ui),
    *(run, reproduce, verify, diff, restore, datasets, fingerprint),
    *(export, replay, sync, audit, repair, rm, gc, config, doctor),
):
    app.command()(_command)
app.command("import")(import_)
