"""The events that begin a run: one for each attempt."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mlobs.events import BackendSpec, Event, RunStarted
from mlobs.journal.process import is_alive
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder


def find_start(folder: RunFolder) -> tuple[str, RunStarted] | None:
    """Return the writer that opened the run and its first event, None if that is not (yet) there.

    Of a run that was gone on with it is the earliest attempt that is here.
    """
    return next(iter(find_starts(folder)), None)


def find_starts(folder: RunFolder) -> list[tuple[str, RunStarted]]:
    """Return the opener and the first event of each attempt, the earliest first."""
    found = ((path.stem, first_event(path)) for path in folder.journals())
    starts = [(writer, event) for writer, event in found if isinstance(event, RunStarted)]
    return sorted(starts, key=lambda item: (item[1].attempt, item[1].at, item[0]))


def named_backends(folder: RunFolder) -> dict[str, BackendSpec]:
    """Return the backends that the run's attempts named, by name; the latest word about one counts."""
    return {spec.name: spec for _, start in find_starts(folder) for spec in start.backends}


def opener_lives(folder: RunFolder) -> bool | None:
    """Tell whether the process that opened the run last still lives; None where nobody here can know.

    That is so while its start is not here, and if it runs on another host.
    """
    starts = find_starts(folder)
    return is_alive(starts[-1][1].process) if starts else None


def first_event(path: Path) -> Event | None:
    """Read the first event of a journal file, None if there is none yet, or the run was removed just now."""
    with contextlib.suppress(FileNotFoundError), Reader(path) as reader:
        return next((event for _, _, event in reader.events()), None)
    return None
