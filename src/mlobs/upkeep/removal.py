"""Runs taken out of the store, each with its child runs. What vendors hold of them stays there."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mlobs.delivery.claim import Claim
from mlobs.delivery.report import report
from mlobs.delivery.start import find_start
from mlobs.errors import StoreError
from mlobs.journal.store import RunFolder, Store
from mlobs.read.record import liveness, read_run

REMOVED = (
    ".removed-"  # a name that no listing of runs shows: it is one already when its files still lie there
)


@dataclass(frozen=True)
class Candidate:
    """A run that may be removed.

    `in_use` says why it should not be now, "" if nothing speaks against it. `holders` are the backends
    that hold something of it, `lacking` those that have not been sent all. `size_bytes` is what its
    files alone take on the disk: what other runs share is not counted.
    """

    folder: RunFolder
    name: str
    status: str
    parent_run_id: str | None
    size_bytes: int
    in_use: str = ""
    holders: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.folder.run_id


def candidates(store: Store, folders: Iterable[RunFolder]) -> list[Candidate]:
    """Look at these runs and at all runs below them, parents first."""
    wanted = list({folder.run_id: folder for folder in folders}.values())
    below = _children(store)
    found: dict[str, RunFolder] = {}
    while wanted:
        folder = wanted.pop(0)
        if folder.run_id not in found:
            found[folder.run_id] = folder
            wanted[:0] = below[folder.run_id]
    return [_candidate(folder) for folder in found.values()]


def remove(one: Candidate) -> None:
    """Remove a run: from the first moment no listing shows it, also if this is broken off.

    Repeating it does nothing. `find_garbage` finds what a removal that was broken off left.

    Raises:
        StoreError: the store cannot be written.
    """
    path = one.folder.path
    aside = path.with_name(f"{REMOVED}{one.run_id}-{os.urandom(3).hex()}")
    try:
        path.rename(aside)
        shutil.rmtree(aside)
    except FileNotFoundError:
        return  # somebody else removes it
    except OSError as error:
        raise StoreError.of(error, path, "the run cannot be removed") from error


def own_bytes(path: Path) -> int:
    """Bytes that a folder's files take, without those that have another name somewhere else."""
    return sum(_own_bytes(Path(folder, name)) for folder, _, names in os.walk(path) for name in names)


def _own_bytes(file: Path) -> int:
    try:
        about = file.stat(follow_symlinks=False)
    except FileNotFoundError:
        return 0  # a sender replaced it meanwhile
    return about.st_size if about.st_nlink == 1 else 0


def _children(store: Store) -> defaultdict[str, list[RunFolder]]:
    children: defaultdict[str, list[RunFolder]] = defaultdict(list)
    for folder in store.runs():
        found = find_start(folder)
        if found is not None and found[1].parent_run_id is not None:
            children[found[1].parent_run_id].append(folder)
    return children


def _candidate(folder: RunFolder) -> Candidate:
    record = read_run(folder, liveness())
    reports = report(folder, most=1)
    status = record.status if record is not None else ""
    return Candidate(
        folder=folder,
        name=record.name if record is not None else "",
        status=status,
        parent_run_id=record.parent_run_id if record is not None else None,
        size_bytes=own_bytes(folder.path),
        in_use="it is running" if status == "RUNNING" else _sender_of(folder),
        holders=tuple(name for name, one in reports.items() if one.delivered or one.lowered),
        lacking=tuple(name for name, one in reports.items() if not one.is_settled),
    )


def _sender_of(folder: RunFolder) -> str:
    """Say whether a sender is at work on a run that has ended."""
    if not folder.delivery.is_dir():
        return ""
    claim = Claim(folder.delivery)
    holder = claim.holder()
    if claim.acquire():
        claim.release()
        return ""
    return f"its sender (pid {holder.process.pid if holder else 'unknown'}) is still delivering it"
