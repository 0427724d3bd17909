"""The versions of datasets that the runs of a store have used: one small file each.

    STORE/datasets/NAME-HASH/VERSION-AND-CONTENT.json

A file is written once, under a name that follows from what it says, so processes and hosts need no lock,
and two stores are joined by copying their files together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec.structs import replace

from mlobs.events import Dataset
from mlobs.journal import access
from mlobs.journal.store import Store
from mlobs.names import escape_name
from mlobs.repro.fingerprint_value import Fingerprint
from mlobs.repro.recorded_data import recorded_fingerprint

_FILE_NAME = r"[\w.\-]"
_NAME_CHARACTERS = 60
_VERSION_DIGITS = 10  # of the fingerprint, where nobody named a version
_KEY_BYTES = 16


class DatasetVersion(msgspec.Struct, frozen=True):
    """One version of a dataset, as the run that used it first recorded it.

    `at` is that moment (Unix seconds). `digests` says what each column of a table, or each file of a
    folder, holds. `size_bytes` is that of the data, where it is known. `notes` are those of the fingerprint.
    """

    name: str
    version: str | None
    fingerprint: str
    strength: str
    run_id: str
    at: float
    source: str | None = None
    rows: int | None = None
    size_bytes: int | None = None
    columns: dict[str, str] = {}
    digests: dict[str, str] = {}
    notes: dict[str, str] = {}

    def as_fingerprint(self) -> Fingerprint:
        """The version's fingerprint, with what is known of its parts."""
        event = Dataset(self.at, self.name, self.version, self.fingerprint, self.strength, rows=self.rows)
        return replace(recorded_fingerprint(event, self.digests, self.columns), notes=self.notes)

    @property
    def label(self) -> str:
        """The version that was given, or the beginning of the fingerprint."""
        return self.version or short_version(self.fingerprint)


def short_version(fingerprint: str) -> str:
    """Name a version after what it holds: the first 10 digits of its fingerprint."""
    return fingerprint.rpartition(":")[2][:_VERSION_DIGITS]


def register(
    store: Store, run_id: str, event: Dataset, digests: dict[str, str], size_bytes: int | None = None
) -> DatasetVersion | None:
    """Keep a version of a dataset; return the latest one of the same name and version that holds other data.

    A version that nobody named is its content, so it never holds other data.

    Raises:
        OSError: the store cannot be written.
    """
    mine = DatasetVersion(
        event.name,
        event.version,
        event.fingerprint,
        event.strength,
        run_id,
        event.at,
        event.source,
        event.rows,
        size_bytes,
        event.columns or {},
        digests,
        recorded_fingerprint(event).notes,
    )
    folder = _folder(store, event.name)
    path = folder / f"{_key(mine)}.json"
    if _decoded(path) is None:
        _write(store, path, mine)
    else:
        access.make_young(path)
    if event.version is None:
        return None
    others = [one for one in _read(folder) if one.version == event.version and _differs(one, mine)]
    return max(others, key=lambda one: one.at, default=None)


def versions(store: Store, name: str | None = None) -> list[DatasetVersion]:
    """Return every version of every dataset, or of one, by name and by first use."""
    if name is not None:
        found = list(_read(_folder(store, name)))
    else:
        folders = sorted(store.datasets.iterdir()) if store.datasets.is_dir() else []
        found = [one for folder in folders for one in _read(folder)]
    return sorted(found, key=lambda one: (one.name, one.at))


def version_files(store: Store) -> Iterator[tuple[Path, DatasetVersion]]:
    """Read every version with the file that holds it; a damaged file is passed over."""
    for path in store.datasets.glob("*/[!.]*.json"):
        one = _decoded(path)
        if one is not None:
            yield path, one


def find(store: Store, name: str, fingerprint: str) -> DatasetVersion | None:
    """Return what is known of this content under this name."""
    return next((one for one in versions(store, name) if one.fingerprint == fingerprint), None)


def _differs(one: DatasetVersion, other: DatasetVersion) -> bool:
    """Tell whether two fingerprints of one kind differ; those of different kinds say nothing."""
    kinds = one.fingerprint.partition(":")[0], other.fingerprint.partition(":")[0]
    return kinds[0] == kinds[1] and one.fingerprint != other.fingerprint


def _folder(store: Store, name: str) -> Path:
    return store.datasets / f"{escape_name(name, _FILE_NAME, max_length=_NAME_CHARACTERS)}-{_hash(name)[:8]}"


def _key(one: DatasetVersion) -> str:
    return _hash(msgspec.json.encode([one.version, one.fingerprint]).decode())


def _hash(text: str) -> str:
    from blake3 import blake3

    return blake3(text.encode("utf-8", "surrogatepass")).hexdigest(_KEY_BYTES)


def _write(store: Store, path: Path, one: DatasetVersion) -> None:
    access.make_folder(store.datasets)
    access.make_folder(path.parent)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}-{os.urandom(4).hex()}")
    with os.fdopen(access.open_file(unfinished, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(msgspec.json.encode(one))
    unfinished.replace(path)


def _read(folder: Path) -> Iterator[DatasetVersion]:
    return (one for path in folder.glob("[!.]*.json") if (one := _decoded(path)) is not None)


def _decoded(path: Path) -> DatasetVersion | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=DatasetVersion)
    except (msgspec.MsgspecError, FileNotFoundError):
        return None  # a disk that was full cut it off, or another process replaces it: the runs say it too
