"""What is said where no run was chosen: a slip in a condition chooses none, and nothing else tells of it."""

from __future__ import annotations

from mlobs.journal.store import Store
from mlobs.names import nearest_names
from mlobs.read.frames import Choice, read_runs
from mlobs.read.where import names_in


def no_such_runs(store: Store, choice: Choice) -> str:
    """Say that no run was chosen, and which experiment or name of the condition no run of the store has."""
    every = list(read_runs(store))
    if not every:
        return f"there are no runs in {store.path} yet"
    experiments = list(dict.fromkeys(run.experiment for run in every))
    if choice.experiment is not None and choice.experiment not in experiments:
        close = nearest_names(choice.experiment, experiments)
        return f"there are no runs of experiment {choice.experiment!r} in {store.path}; {close}"
    for group, name in names_in(choice.condition) if choice.condition is not None else ():
        known = dict.fromkeys(one for run in every for one in getattr(run, group))
        if name not in known:
            return (
                f"no such runs in {store.path}: none has {group}.{name}; {nearest_names(name, list(known))}"
            )
    return f"no such runs in {store.path}"
