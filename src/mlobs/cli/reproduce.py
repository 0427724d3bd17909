"""`mlobs reproduce` and `mlobs verify`: is it the same model again?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from msgspec import to_builtins

from mlobs.cli.completion import complete_run
from mlobs.cli.options import JsonOption, RunArgument, StoreOption
from mlobs.cli.output import print_json
from mlobs.errors import UsageError
from mlobs.text import printable

if TYPE_CHECKING:
    from mlobs.repro.report import ReproReport

RtolOption = Annotated[float, typer.Option(min=0, help="How far apart values may be, relatively.")]
AtolOption = Annotated[float, typer.Option(min=0, help="How far apart values may be, absolutely.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit with 1 for equivalent, too.")]


def reproduce(  # noqa: PLR0913 - each is an option, and has its default
    run: RunArgument,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND", help="Start this instead of what was recorded."),
    ] = None,
    *,
    env: Annotated[
        Literal["auto", "recreate", "current"],
        typer.Option(help="Make the environment again, take this one, or decide by whether it is the same."),
    ] = "auto",
    data: Annotated[
        Literal["check", "skip"], typer.Option(help="Whether datasets are compared before the run.")
    ] = "check",
    repeat: Annotated[int, typer.Option(min=1, help="Run it at most so often.")] = 2,
    rtol: RtolOption = 1e-6,
    atol: AtolOption = 0.0,
    tolerance: Annotated[
        list[str] | None, typer.Option(metavar="METRIC=RTOL", help="Of a single metric. Repeatable.")
    ] = None,
    dest: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where it is done again; kept whatever comes of it.")
    ] = None,
    link: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Data in the old folder that git ignores. Repeatable."),
    ] = None,
    check_only: Annotated[bool, typer.Option("--check-only", help="Check all, and run nothing.")] = False,
    strict: StrictOption = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a program again from its record, and say whether the result is the same.

    \b
    mlobs reproduce latest
    mlobs reproduce 20240131-1200 --env recreate --rtol 1e-4
    mlobs reproduce latest -- python train.py --token "$TOKEN"

    Restores the code, makes the environment again, checks the data, starts the same program, and compares
    params, data, every metric value and every model. No backend hears of it.

    Exits with 0 if it is identical or equivalent, 1 different, 2 the inputs differ or it cannot be done
    as typed, 3 the program is not deterministic, 4 nobody can tell.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.repro.reproduce import reproduce as do_again

    report = do_again(
        run,
        store=store,
        env=env,
        data=data,
        repeat=repeat,
        rtol=rtol,
        atol=atol,
        tolerances=_tolerances(tolerance or ()),
        dest=dest,
        command=command or (),
        link=link or (),
        check_only=check_only,
        tell=lambda text: typer.echo(f"mlobs: {printable(text)}", err=True),
    )
    _say(report, is_strict=strict, as_json=as_json)


def verify(
    run: RunArgument,
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="OTHER",
            help="Another run; left out, the latest with the same recipe.",
            autocompletion=complete_run,
        ),
    ] = None,
    *,
    rtol: RtolOption = 1e-6,
    atol: AtolOption = 0.0,
    strict: StrictOption = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two recorded runs: the same recipe, the same model? Nothing is run.

    \b
    mlobs verify latest
    mlobs verify 20240131-1200 20240201-0900 --strict

    Runs with the same recipe on the same machine and other results are not deterministic.
    Exits as `mlobs reproduce` does.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.repro.verify import verify as compare

    _say(compare(run, other, store=store, rtol=rtol, atol=atol), is_strict=strict, as_json=as_json)


def _say(report: ReproReport, *, is_strict: bool, as_json: bool) -> None:
    code = 1 if is_strict and report.verdict == "equivalent" else report.exit_code
    if as_json:
        document: dict[str, Any] = to_builtins(report)
        print_json(document | {"exit_code": code, "is_ready": report.is_ready})
    else:
        for line in str(report).splitlines():
            typer.echo(printable(line))
    raise typer.Exit(code)


def _tolerances(given: Sequence[str]) -> dict[str, float]:
    found = {}
    for one in given:
        name, _, value = one.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            name = ""
        if not name:
            raise UsageError(f"--tolerance {one!r}; expected METRIC=RTOL - type: --tolerance val/loss=1e-4")
    return found
