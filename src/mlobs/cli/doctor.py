"""`mlobs doctor`: is everything in place, and if not, what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from mlobs.cli.checks import Check, check_backends, check_installation, check_runs, check_store
from mlobs.cli.options import JsonOption, StoreOption
from mlobs.cli.output import print_json, print_table
from mlobs.config import load_settings
from mlobs.journal.store import Store


def doctor(*, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Check store, journals and backends.

    \b
    mlobs doctor
    mlobs doctor --json | jq '.[] | select(.verdict == "wrong")'

    Nothing is sent and nothing is imported from vendors. Exits with 1 if something is wrong.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    settings = load_settings(cwd=Path.cwd(), env=os.environ, store=store)
    opened = Store(settings.store)
    checks = [
        *check_installation(),
        *check_store(opened, settings.origins["store"]),
        *check_backends(settings),
        *check_runs(opened),
    ]
    if as_json:
        print_json([_document(check) for check in checks])
    else:
        print_table(("what", "verdict", "finding"), [[one.what, one.verdict, one.finding] for one in checks])
    if any(one.verdict == "wrong" for one in checks):
        raise typer.Exit(1)


def _document(check: Check) -> dict[str, Any]:
    return {"what": check.what, "verdict": check.verdict, "finding": check.finding}
