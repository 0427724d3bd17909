"""What is said where no run was chosen: a slip in a condition chooses none, and nothing else tells of it."""

from __future__ import annotations

from mlobs.journal.store import Store
from mlobs.names import nearest_names
from mlobs.read.frames import read_runs
from mlobs.read.where import names_in


def no_such_runs(store: Store, where: str | None) -> str:
    """Say that no run was chosen, and which name of the condition no run of the store has."""
    every = list(read_runs(store))
    if not every:
        return f"there are no runs in {store.path} yet"
    for group, name in names_in(where) if where is not None else ():
        known = dict.fromkeys(one for run in every for one in getattr(run, group))
        if name not in known:
            return (
                f"no such runs in {store.path}: none has {group}.{name}; {nearest_names(name, list(known))}"
            )
    return f"no such runs in {store.path}"
