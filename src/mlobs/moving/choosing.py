"""Which runs are meant."""

from __future__ import annotations

from collections.abc import Iterable

from mlobs.delivery.start import find_start
from mlobs.errors import UsageError
from mlobs.journal.store import RunFolder, Store
from mlobs.read.location import find_runs


def choose(
    store: Store, runs: str | Iterable[str] | None, *, experiment: str | None = None
) -> list[RunFolder]:
    """Return these runs, each once and in the order given, or all of the experiment, or all there are.

    The latter come oldest first.

    Raises:
        UsageError: one is not in the store, or there are none, or both are given.
    """
    if runs is not None and experiment is not None:
        raise UsageError("runs and an experiment were given; give one of them")
    if runs is not None:
        return find_runs(store, runs)
    folders = [folder for folder in store.runs() if experiment is None or _experiment(folder) == experiment]
    if not folders:
        of = "" if experiment is None else f" of experiment {experiment!r}"
        raise UsageError(f"there are no runs{of} in the store {store.path} - `mlobs runs` lists them")
    return folders


def _experiment(folder: RunFolder) -> str | None:
    found = find_start(folder)
    return found[1].experiment if found is not None else None
