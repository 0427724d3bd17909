"""Files of a store that nothing needs any more: found first, deleted only where that is asked for.

Runs may be written meanwhile. A file younger than `YOUNG_S` is never touched: whoever keeps a content
that is there already makes it young again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlobs.errors import StoreError
from mlobs.events import Dataset
from mlobs.journal.format import decode_event
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder, Store
from mlobs.repro.registry import version_files
from mlobs.upkeep.removal import REMOVED, own_bytes

YOUNG_S = 3600.0  # between keeping a content and naming it in a run lie seconds, on a slow disk minutes
OLD_LOG_S = 7 * 86400.0  # who asks why something was not delivered does so within days
_DATASET = b"dataset"


@dataclass(frozen=True)
class Garbage:
    """A file, or a folder, that nothing needs; `size_bytes` is what its end gives back to the disk."""

    path: Path
    kind: str
    size_bytes: int


@dataclass(frozen=True)
class Found:
    """All that was found, and why something was not looked for, if so."""

    garbage: tuple[Garbage, ...]
    remarks: tuple[str, ...] = ()


def find_garbage(store: Store, now: float) -> Found:
    """Find what nothing needs, `now` being the time in Unix seconds; the store stays as it is.

    - a snapshot that no run links to, and captures that were broken off
    - a version of a dataset that no run of this store uses
    - raw content whose final form stands beside it, and files that were never finished
    - output of senders that was not written to for a week
    - runs whose removal was broken off, and what was cached of runs that are gone
    """
    folders = list(store.runs())
    datasets, remarks = _datasets(store, folders)
    found = [*_snapshots(store), *datasets, *_removed(store), *_caches(store, folders), *_logs(store, now)]
    for folder in folders:
        found += _spools(folder)
    return Found(tuple(one for one in found if _is_old(one.path, now)), remarks)


def delete(garbage: Iterable[Garbage], now: float) -> list[Garbage]:
    """Delete, and return what was deleted; what has become young or linked meanwhile stays.

    Raises:
        StoreError: the store cannot be written.
    """
    return [one for one in garbage if _delete(one, now)]


def _delete(one: Garbage, now: float) -> bool:
    try:
        if not _is_old(one.path, now):
            return False
        if one.path.is_dir():
            shutil.rmtree(one.path)
        elif one.kind == "snapshot" and one.path.stat().st_nlink > 1:
            return False
        else:
            one.path.unlink()
    except FileNotFoundError:
        return False  # somebody else cleans up
    except OSError as error:
        raise StoreError.of(error, one.path, "the file cannot be deleted") from error
    return True


def _is_old(path: Path, now: float, age_s: float = YOUNG_S) -> bool:
    try:
        return now - path.stat().st_mtime > age_s
    except OSError:
        return False  # it is gone


def _snapshots(store: Store) -> Iterator[Garbage]:
    """Runs hold links to what lies here, or copies where the disk has no links: none ever reads it here."""
    for path in _entries(store.snapshots):
        if path.is_dir():
            yield Garbage(path, "unfinished", own_bytes(path))
        elif path.name.startswith("."):
            yield from _file(path, "unfinished")
        else:
            yield from _file(path, "snapshot", most_links=1)


def _datasets(store: Store, folders: Iterable[RunFolder]) -> tuple[list[Garbage], tuple[str, ...]]:
    unfinished = [
        one
        for folder in _entries(store.datasets)
        for path in folder.glob(".*")
        if path.is_file()
        for one in _file(path, "unfinished")
    ]
    versions = list(version_files(store))
    if not versions:
        return unfinished, ()
    used: set[tuple[str, str | None, str]] = set()
    for folder in folders:
        if not os.access(folder.path, os.R_OK | os.X_OK):
            return unfinished, (f"versions of datasets all stay: {folder.path} may not be read",)
        for path in folder.journals():
            try:
                with Reader(path) as reader:
                    used.update(_used(reader))
                    is_damaged = bool(reader.damage)
            except OSError:
                is_damaged = True
            if is_damaged:
                return unfinished, (f"versions of datasets all stay: {path} cannot be read as a whole",)
    unused = [
        found
        for path, one in versions
        if (one.name, one.version, one.fingerprint) not in used
        for found in _file(path, "dataset")
    ]
    return unused + unfinished, ()


def _used(reader: Reader) -> Iterator[tuple[str, str | None, str]]:
    for start, _, body in reader.bodies():
        if start and _DATASET in body[:16]:
            event = decode_event(body)
            if isinstance(event, Dataset):
                yield event.name, event.version, event.fingerprint


def _spools(folder: RunFolder) -> Iterator[Garbage]:
    """Raw content that a sender died before deleting, and files that it was in the middle of."""
    names = {path.name: path for path in _entries(folder.path / "blobs")}
    for name, path in names.items():
        stem, _, ending = name.partition(".")
        if ending and ending != "final":
            yield from _file(path, "unfinished")
        elif ending and stem in names:
            yield from _file(names[stem], "raw content")


def _removed(store: Store) -> Iterator[Garbage]:
    runs = store.path / "runs"
    return (Garbage(path, "removed run", own_bytes(path)) for path in runs.glob(f"{REMOVED}*"))


def _caches(store: Store, folders: Iterable[RunFolder]) -> Iterator[Garbage]:
    """What readers keep of a run's points lies under the run's id; they make it anew where it is missing.

    A name that begins with a dot is of a file whose author died while writing it.
    """
    there = {folder.run_id for folder in folders}
    broken_off = [path for path in _entries(store.cache) if path.name.startswith(".")]
    for path in [*broken_off, *_entries(store.cache / "points")]:
        if path.name not in there:
            yield from [Garbage(path, "cache", own_bytes(path))] if path.is_dir() else _file(path, "cache")


def _logs(store: Store, now: float) -> Iterator[Garbage]:
    for path in store.senders.glob("*.log"):
        if _is_old(path, now, OLD_LOG_S):
            yield from _file(path, "log")


def _file(path: Path, kind: str, *, most_links: int | None = None) -> Iterator[Garbage]:
    """The file as garbage, unless it is gone by now or has more names than that."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return  # a sender, or another clean-up, was faster
    if most_links is None or about.st_nlink <= most_links:
        yield Garbage(path, kind, about.st_size)


def _entries(folder: Path) -> list[Path]:
    """What is in a folder; of one that is gone, or another user's alone, there is nothing to delete."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
