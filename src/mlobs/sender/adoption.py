"""Runs that an earlier sender had to leave undelivered: the next one of the store adopts them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path

from mlobs.backend import Backend
from mlobs.delivery.claim import Claim
from mlobs.delivery.orders import key_of
from mlobs.delivery.registry import public_spec
from mlobs.delivery.report import report
from mlobs.delivery.start import find_start
from mlobs.errors import UsageError
from mlobs.events import BackendSpec
from mlobs.journal.store import RunFolder, Store
from mlobs.sender.endings import close_if_abandoned, program_lives

NEWEST = 200  # runs that are looked at; older ones wait for `mlobs sync`


def adopt(
    store: Store, known: Collection[Path], backends: Mapping[str, tuple[BackendSpec, Backend]]
) -> tuple[RunFolder, dict[str, Backend], Claim] | None:
    """Find a run to deliver besides one's own, claim it, and say to which backends it goes.

    Its program is gone, an earlier sender had begun it (so it was not recorded to stay offline), and it
    named the same backend with the same parameters, `backends` by key, that is served here anyway.
    """
    for folder in _newest_first(store):
        if folder.path in known or not (folder.delivery / "claim").exists() or program_lives(folder):
            continue
        shared = _shared(folder, backends)
        reports = report(folder, most=0)
        if all(reports[name].is_settled for name in shared):
            continue
        claim = Claim(folder.delivery)
        if not claim.acquire():
            continue
        try:
            close_if_abandoned(folder)
        except OSError:
            claim.release()
            raise
        return folder, {key_of(spec): backend for spec, backend in shared.values()}, claim
    return None


def _newest_first(store: Store) -> Iterator[RunFolder]:
    return islice(reversed(list(store.runs())), NEWEST)


def _shared(
    folder: RunFolder, backends: Mapping[str, tuple[BackendSpec, Backend]]
) -> dict[str, tuple[BackendSpec, Backend]]:
    """Those of the backends that the run named too, by name."""
    found = find_start(folder)
    if found is None:
        return {}
    shared: dict[str, tuple[BackendSpec, Backend]] = {}
    for spec, backend in backends.values():
        try:
            is_named = public_spec(spec) in found[1].backends
        except UsageError:
            is_named = False  # its module has vanished since
        if is_named:
            shared[spec.name] = spec, backend
    return shared
