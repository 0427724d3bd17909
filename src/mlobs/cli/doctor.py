"""`mlobs doctor`: is everything in place, and if not, what to do."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from mlobs.cli.checks import (
    Check,
    check_backends,
    check_environment,
    check_installation,
    check_runs,
    check_store,
)
from mlobs.cli.options import JsonOption, StoreOption
from mlobs.cli.output import print_json, print_table
from mlobs.config import Settings, load_settings, working_directory
from mlobs.delivery.grid import grid
from mlobs.delivery.registry import known_names, resolve
from mlobs.journal.store import Store

CapabilitiesOption = Annotated[
    bool,
    typer.Option("--capabilities", help="Show instead what becomes of every kind of thing at each backend."),
]


VerifyOption = Annotated[
    bool,
    typer.Option("--verify-env", help="Check instead the files of installed packages; this takes seconds."),
]


def doctor(
    *,
    store: StoreOption = None,
    capabilities: CapabilitiesOption = False,
    verify_env: VerifyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check store, journals and backends.

    \b
    mlobs doctor
    mlobs doctor --capabilities
    mlobs doctor --verify-env
    mlobs doctor --json | jq '.[] | select(.verdict == "wrong")'

    Nothing is sent and nothing is imported from vendors. Exits with 1 if something is wrong.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    settings = load_settings(cwd=working_directory(), env=os.environ, store=store)
    if capabilities:
        _show_grid(settings, as_json=as_json)
        return
    opened = Store(settings.store)
    checks = (
        check_environment()
        if verify_env
        else [
            *check_installation(),
            *check_store(opened, settings.origins["store"]),
            *check_backends(settings),
            *check_runs(opened),
        ]
    )
    if as_json:
        print_json([_document(check) for check in checks])
    else:
        print_table(("what", "verdict", "finding"), [[one.what, one.verdict, one.finding] for one in checks])
    if any(one.verdict == "wrong" for one in checks):
        raise typer.Exit(1)


def _show_grid(settings: Settings, *, as_json: bool) -> None:
    """Print a row for each kind, a column for each backend that is set; if none is, for all known ones."""
    backends = resolve(settings.backends or known_names(), settings.backend_options, travels=False)
    cells = grid({one.name: one.capabilities for one in backends})
    if as_json:
        print_json({kind: {name: cell.words for name, cell in row.items()} for kind, row in cells.items()})
        return
    heads = ("kind", *(one.name for one in backends))
    print_table(heads, [[kind, *(cell.words for cell in row.values())] for kind, row in cells.items()])


def _document(check: Check) -> dict[str, Any]:
    return {"what": check.what, "verdict": check.verdict, "finding": check.finding}
