"""`mlobs sync`: the same lanes over the same journals, in the foreground, for as long as it makes sense."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from mlobs.backend import Backend
from mlobs.delivery.claim import Claim
from mlobs.delivery.registry import build, resolve, spec_of
from mlobs.delivery.report import BackendReport, report
from mlobs.delivery.start import find_start
from mlobs.errors import MlobsError
from mlobs.journal.store import RunFolder
from mlobs.sender.endings import close_if_abandoned, program_lives
from mlobs.sender.host import Host

PATIENCE_S = 20.0  # a lane that has only been backing off for so long will not recover while we watch
LOOK_S = 0.05


@dataclass(frozen=True)
class Synced:
    """What became of one run: the report of each backend that was asked for, and why one was left out."""

    run_id: str
    reports: Mapping[str, BackendReport]
    problems: Mapping[str, str]

    @property
    def is_settled(self) -> bool:
        """Each of these backends has answered for every event."""
        return not self.problems and all(one.is_settled for one in self.reports.values())


def sync(
    folders: Iterable[RunFolder],
    *,
    only: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    patience_s: float = PATIENCE_S,
    show: Callable[[str], None] = lambda _line: None,
) -> list[Synced]:
    """Deliver what the runs' backends do not have yet, and return what became of each run.

    A run goes to the backends that it named when it started, or to `only`, which may also name
    others (`options` holds their parameters): that back-fills them. Runs whose process vanished are
    ended as CRASHED first. Repeating it sends nothing twice.
    """
    host = Host(f"sync-{os.getpid()}-{secrets.token_hex(4)}")
    known: dict[str, Backend] = {}
    problems: dict[str, dict[str, str]] = {}
    runs = list(folders)
    for folder in runs:
        problems[folder.run_id] = {}
        backends = _backends(folder, only, options or {}, known, problems[folder.run_id])
        if not backends:
            continue
        claim = Claim(folder.delivery)
        if not claim.take_over(partial(program_lives, folder)):
            holder = claim.holder()
            pid = holder.process.pid if holder else "unknown"
            problems[folder.run_id] |= dict.fromkeys(
                (one.name for one in backends.values()),
                f"its own sender (pid {pid}) is delivering it right now",
            )
            continue
        close_if_abandoned(folder)
        host.adopt(folder, claim, backends)
    host.finish()
    _wait(host, patience_s, show)
    host.close(with_trim=True)
    return [Synced(folder.run_id, _reports(folder, only), problems[folder.run_id]) for folder in runs]


def _reports(folder: RunFolder, only: Sequence[str]) -> dict[str, BackendReport]:
    return {name: one for name, one in report(folder).items() if not only or name in only}


def _wait(host: Host, patience_s: float, show: Callable[[str], None]) -> None:
    """Wait until everything is sent, or no lane that is left has had an answer for `patience_s`."""
    shown: dict[str, str] = {}
    answered_at = time.monotonic()
    while not host.is_drained():
        lanes = host.open_lanes()
        for name, lane in lanes.items():
            if lane.reason and shown.get(name) != lane.reason:
                shown[name] = lane.reason
                show(f"{name}: {lane.state}: {lane.reason}")
        states = {lane.state for lane in lanes.values()}
        if "delivering" in states:
            answered_at = time.monotonic()
        if states == {"paused"} or time.monotonic() - answered_at > patience_s:
            return
        time.sleep(LOOK_S)


def _backends(
    folder: RunFolder,
    only: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
    known: dict[str, Backend],
    problems: dict[str, str],
) -> dict[str, Backend]:
    """The backends to deliver a run to, by key; one object for all runs that name the same."""
    found = find_start(folder)
    specs = {spec.name: spec for spec in found[1].backends} if found else {}
    backends: dict[str, Backend] = {}
    for name in only or specs:
        try:
            backend = build(specs[name], options) if name in specs else resolve([name], options)[0]
        except MlobsError as error:
            problems[name] = str(error)
            continue
        key = msgspec.json.encode(spec_of(backend)).decode()
        backends[key] = known.setdefault(key, backend)
    return backends
