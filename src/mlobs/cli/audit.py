"""`mlobs audit`: do the backends hold what was recorded?"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlobs.cli.options import JsonOption, RunArgument, StoreOption
from mlobs.cli.output import print_json, print_table, print_title
from mlobs.errors import MlobsError, UsageError
from mlobs.read.location import open_store
from mlobs.text import printable

if TYPE_CHECKING:
    from mlobs.journal.store import RunFolder
    from mlobs.read.audit import Audit

_COUNTS = ("sent", "stored", "missing", "merged", "duplicates", "unknown", "pending")


def audit(
    run: RunArgument,
    *,
    backend: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Ask this backend alone. Repeatable. Default: all of the run's."),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what was recorded with what each backend gives back.

    \b
    mlobs audit latest
    mlobs audit 20240131-1200 --backend appinsights

    Metric values are counted: sent, stored, missing, merged, stored twice, and never sent. Params,
    tags, artifacts and the end are compared, too. What a backend has not answered for yet is pending.
    Exits with 1 if a backend lacks something, holds something else, or could not be asked.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    from mlobs.delivery.report import report

    folder = open_store(store).find(run)
    names = backend or list(report(folder, most=0))
    if not names:
        raise UsageError(
            f"{folder.run_id} names no backend - type: mlobs sync {folder.run_id} --backend NAME"
        )
    found, problems, unreadable = _ask(folder, names, are_named=bool(backend))
    if as_json:
        audits = [asdict(one) | {"agrees": one.agrees} for one in found]
        print_json(
            {"run_id": folder.run_id, "audits": audits, "problems": problems, "unreadable": unreadable}
        )
    else:
        _print(found, problems, unreadable)
    if problems or not all(one.agrees for one in found):
        raise typer.Exit(1)


def _ask(
    folder: RunFolder, names: list[str], *, are_named: bool
) -> tuple[list[Audit], dict[str, str], list[str]]:
    """Ask each backend: what was found, by name why one could not be asked, and those without a way back."""
    found: list[Audit] = []
    problems: dict[str, str] = {}
    unreadable: list[str] = []
    for name in names:
        try:
            one = _audit(folder, name, is_named=are_named)
        except MlobsError as error:
            problems[name] = str(error)
            continue
        if one is None:
            unreadable.append(name)
        else:
            found.append(one)
    return found, problems, unreadable


def _audit(folder: RunFolder, name: str, *, is_named: bool) -> Audit | None:
    """Compare; None: the backend has no way back, and nobody asked for it by name."""
    from mlobs.config import load_settings
    from mlobs.delivery.registry import build, resolve
    from mlobs.delivery.start import named_backends
    from mlobs.read.audit import audit as compare
    from mlobs.read.audit import can_be_read

    options: Any = load_settings(cwd=Path.cwd(), env=os.environ).backend_options
    spec = named_backends(folder).get(name)
    made = build(spec, options) if spec is not None else resolve([name], options)[0]
    try:
        return compare(folder, made) if is_named or can_be_read(made) else None
    finally:
        made.close()


def _print(found: list[Audit], problems: dict[str, str], unreadable: list[str]) -> None:
    if found:
        rows = [
            [one.backend, *(f"{getattr(one, name):,}" for name in _COUNTS), "yes" if one.agrees else "no"]
            for one in found
        ]
        print_table(("backend", *_COUNTS, "agrees"), rows, right=_COUNTS)
    for one in found:
        if one.differences:
            print_title(f"{one.backend}: what differs")
            for line in one.differences:
                typer.echo(printable(line))
        if one.unread:
            typer.echo(f"\n{one.backend}: not read back, so not compared: {', '.join(one.unread)}")
    for name in unreadable:
        typer.echo(f"{name}: it has no way back, so it is not compared")
    for name, problem in problems.items():
        typer.echo(f"{name}: {printable(problem)}", err=True)
