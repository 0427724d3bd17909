"""Which store is read, and which of its runs are meant."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from mlobs.errors import StoreError
from mlobs.journal.store import RunFolder, Store

StoreLike: TypeAlias = str | Path | Store | None


def open_store(store: StoreLike = None) -> Store:
    """The store at this path; None is the one that a tracker would use here, which may not exist yet.

    Raises:
        StoreError: the path was given, and there is no folder.
        UsageError: the settings cannot be used; the message says which.
    """
    if isinstance(store, Store):
        return store
    if store is None:
        from mlobs.config import load_settings, working_directory

        return Store(load_settings(cwd=working_directory(), env=os.environ).store)
    path = Path(store).expanduser().absolute()
    if not path.is_dir():
        raise StoreError(
            errno.ENOENT, "there is no store here - give the folder that holds `runs`", str(path)
        )
    return Store(path)


def find_runs(store: StoreLike, runs: str | Iterable[str]) -> list[RunFolder]:
    """The runs of these ids, unique beginnings of ids, or "latest": each once, in the order they are named.

    Raises:
        UsageError: one is not in the store, or means more than one run.
        StoreError: there is no such store.
    """
    opened = open_store(store)
    found = [opened.find(run) for run in ([runs] if isinstance(runs, str) else runs)]
    return list(dict.fromkeys(found))
