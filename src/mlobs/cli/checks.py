"""The checks of `mlobs doctor`. Each finding says what is so, and what to type if it is wrong."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from mlobs.config import Settings
from mlobs.delivery.registry import missing_package, resolve
from mlobs.delivery.report import report
from mlobs.errors import StoreError, UsageError
from mlobs.journal.files import can_map, file_system
from mlobs.journal.store import Store
from mlobs.read.record import liveness, read_run
from mlobs.text import size
from mlobs.version import __version__

LITTLE_SPACE_BYTES = 200_000_000  # below this a run of a few hours with images fills the disk
_EXTRA = re.compile(r"^([A-Za-z0-9._-]+).*extra == ['\"]([\w-]+)['\"]")
_NOT_FOR_USERS = {"dev", "all"}


@dataclass(frozen=True)
class Check:
    """One finding. "note" is nothing wrong, but something to know."""

    what: str
    verdict: Literal["ok", "note", "wrong"]
    finding: str


def check_installation() -> Iterator[Check]:
    """Versions of Python, mlobs and of what its extras bring."""
    yield Check("python", "ok", f"{platform.python_version()} on {platform.platform()} ({sys.executable})")
    yield Check("mlobs", "ok", __version__)
    for extra, packages in _extras().items():
        versions = {name: _version(name) for name in packages}
        missing = [name for name, version in versions.items() if version is None]
        if missing:
            finding = f"{', '.join(missing)} not installed - if wanted: pip install 'mlobs[{extra}]'"
            yield Check(f"extra {extra}", "note", finding)
        else:
            yield Check(f"extra {extra}", "ok", ", ".join(f"{name} {one}" for name, one in versions.items()))


def check_store(store: Store, origin: str) -> Iterator[Check]:
    """Whether runs can be recorded, and how; makes no store where there is none."""
    yield _check_writable(store, origin)
    place = _existing(store.path)
    kind = file_system(place)
    if can_map(place):
        yield Check("journal", "ok", f"memory-mapped: {kind} reserves space, so a full disk is an error")
    else:
        reason = (
            f"{kind} is not known to reserve space" if sys.platform == "linux" else f"this is {sys.platform}"
        )
        yield Check("journal", "ok", f"written record by record: {reason}")
    free = shutil.disk_usage(place).free
    if free < LITTLE_SPACE_BYTES:
        yield Check("disk", "wrong", f"{size(free)} free at {place} - free some, or set MLOBS_STORE")
    else:
        yield Check("disk", "ok", f"{size(free)} free at {place}")


def check_backends(settings: Settings) -> Iterator[Check]:
    """Whether the backends that are set can be made, and their packages are here."""
    if not settings.backends:
        yield Check("backends", "ok", "none is set: the local store alone")
    for name in settings.backends:
        try:
            backend = resolve([name], settings.backend_options)[0]
        except UsageError as error:
            yield Check(f"backend {name}", "wrong", str(error))
            continue
        missing = missing_package(backend)
        if missing is not None:
            yield Check(f"backend {name}", "wrong", str(missing))
        else:
            yield Check(
                f"backend {name}", "ok", f"{type(backend).__qualname__}, by {settings.origins['backends']}"
            )


def check_environment() -> list[Check]:
    """Are the files of the installed packages those that were installed?"""
    from mlobs.repro.tampering import verify_files

    found = verify_files()
    if not found:
        return [Check("packages", "ok", "every installed file is the one that its package brought")]
    return [
        Check(f"package {one.package}", "wrong", f"{one.path} {one.reason} - reinstall it") for one in found
    ]


def check_runs(store: Store) -> Iterator[Check]:
    """What the store holds, what of it is damaged, and what waits for delivery."""
    statuses: Counter[str] = Counter()
    damaged: list[str] = []
    pending: Counter[str] = Counter()
    is_alive = liveness()
    for folder in store.runs():
        record = read_run(folder, is_alive)
        if record is None:
            continue
        statuses[record.status] += 1
        if record.damage:
            damaged.append(record.run_id)
        pending.update(name for name, one in report(folder).items() if one.pending)
    yield _counted(statuses)
    if damaged:
        yield Check("damage", "wrong", f"{_some(damaged)} - mlobs show says where; all else of them was read")
    if pending:
        waiting = ", ".join(f"{count:,} for {name}" for name, count in pending.items())
        yield Check("delivery", "note", f"runs that wait: {waiting} - type: mlobs sync --store {store.path}")


def _counted(statuses: Mapping[str, int]) -> Check:
    words = ", ".join(f"{count:,} {status}" for status, count in sorted(statuses.items()))
    return Check("runs", "note" if statuses.get("CRASHED") else "ok", words or "none yet")


def _check_writable(store: Store, origin: str) -> Check:
    if not store.path.exists():
        place = _existing(store.path)
        if place.is_dir() and os.access(place, os.W_OK):
            return Check("store", "ok", f"{store.path} will be made by the first run ({origin})")
        return Check(
            "store", "wrong", f"{store.path} cannot be made: {place} is not writable - set MLOBS_STORE"
        )
    try:
        store.create()
    except StoreError as error:
        return Check("store", "wrong", f"{store.path} ({origin}): {error.strerror}")
    return Check("store", "ok", f"{store.path} is writable ({origin})")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names):,} runs, such as {names[0]}"


def _extras() -> dict[str, list[str]]:
    """The packages of each extra that is for users."""
    extras: dict[str, list[str]] = {}
    try:
        requirements: Sequence[str] = metadata.requires("mlobs") or ()
    except metadata.PackageNotFoundError:
        return extras  # run from its source without being installed
    for requirement in requirements:
        found = _EXTRA.match(requirement)
        if found and found[2] not in _NOT_FOR_USERS and "python_version" not in requirement:
            extras.setdefault(found[2], []).append(found[1])
    return extras


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
