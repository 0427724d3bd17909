"""What the shell offers at the tab key: run ids and names of metrics, from the store that is meant.

A person waits at the keyboard: what takes longer than `PATIENCE_S` is broken off, and what was found
by then is offered.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import typer

from mlobs.delivery.start import find_start
from mlobs.errors import MlobsError
from mlobs.journal.format import decode_event, is_metrics
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder, Store
from mlobs.names import SYSTEM_PREFIX
from mlobs.read.location import open_store

PATIENCE_S = 0.2  # beside the start of Python; a tenth of a second more feels stuck
MOST_RUNS = 50  # a shell asks before it shows more than about a hundred
MOST_RECORDS = 2_000  # of one journal: a run that logs a metric does so within its first steps
LATEST = "latest"


def complete_run(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer runs whose id begins so, newest first, with what people call them."""
    deadline = time.monotonic() + PATIENCE_S
    try:
        every = _newest(_store(ctx))
        folders = [folder for folder in every if folder.run_id.startswith(incomplete)][:MOST_RUNS]
        offered = [(folder.run_id, _called(folder, deadline)) for folder in folders]
    except (MlobsError, OSError):
        return []  # the command itself says what is wrong
    is_latest = bool(every) and LATEST.startswith(incomplete)
    return ([(LATEST, "the run that started last")] if is_latest else []) + offered


def complete_metric(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer names of metrics that begin so, those of the newest runs first."""
    deadline = time.monotonic() + PATIENCE_S
    names: dict[str, None] = {}
    try:
        for folder in _newest(_store(ctx))[:MOST_RUNS]:
            names.update(dict.fromkeys(_metrics(folder, deadline)))
            if time.monotonic() > deadline:
                break
    except (MlobsError, OSError):
        return []  # the command itself says what is wrong
    wanted = [name for name in names if name.startswith(incomplete)]
    return [name for name in wanted if incomplete or not name.startswith(SYSTEM_PREFIX)]


def _store(ctx: typer.Context) -> Store:
    return open_store(ctx.params.get("store"))


def _newest(store: Store) -> list[RunFolder]:
    """Runs by name alone, the newest first: an id begins with its time. No run is opened."""
    folder = store.path / "runs"
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [one.name for one in entries if not one.name.startswith(".")]
    return [RunFolder(Path(folder, name)) for name in sorted(names, reverse=True)]


def _called(folder: RunFolder, deadline: float) -> str:
    if time.monotonic() > deadline:
        return ""
    found = find_start(folder)
    return f"{found[1].experiment} / {found[1].name}" if found is not None else ""


def _metrics(folder: RunFolder, deadline: float) -> Iterator[str]:
    for path in folder.journals():
        with contextlib.suppress(OSError), Reader(path) as reader:  # of a run that is removed meanwhile
            for count, (_, _, body) in enumerate(reader.bodies()):
                if count == MOST_RECORDS or time.monotonic() > deadline:
                    break
                if is_metrics(body):
                    yield from getattr(decode_event(body), "values", ())
