"""`mlobs sync`: the same lanes over the same journals, in the foreground, for as long as it makes sense."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlobs.backend import Backend
from mlobs.delivery.claim import Claim, holder_of
from mlobs.delivery.lane import Lane
from mlobs.delivery.orders import key_of
from mlobs.delivery.registry import build, resolve, spec_of
from mlobs.delivery.report import BackendReport, report
from mlobs.delivery.start import named_backends
from mlobs.errors import MlobsError
from mlobs.events import Process
from mlobs.journal.store import RunFolder, Store
from mlobs.repro.whole_run import wait_until_whole
from mlobs.sender.descriptors import room_for_runs
from mlobs.sender.endings import close_if_abandoned, has_end, program_lives
from mlobs.sender.host import Host
from mlobs.sender.watchdog import rest, stay_awake

PATIENCE_S = 20.0  # a lane that has only been backing off for so long will not recover while we watch
HANG_TIMEOUT_S = 300.0
LOOK_S = 0.05
PORTION_RUNS = 256  # so many runs at a time: each holds a descriptor


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
    hang_timeout_s: float = HANG_TIMEOUT_S,
    is_own_process: bool = False,
    show: Callable[[str], None] = lambda _line: None,
) -> list[Synced]:
    """Deliver what the runs' backends do not have yet, and return what became of each run.

    A run goes to the backends that it named when it started, or to `only`, which may also name
    others (`options` holds their parameters): that back-fills them. Runs whose process vanished are
    ended as CRASHED first; the snapshot of one that has just ended is waited for. Repeating it sends
    nothing twice.

    A backend that has only been backing off for `patience_s` is given up, and one whose call has not
    returned for `hang_timeout_s`; that call's thread goes on hanging. `is_own_process`: a call that
    keeps every thread from running ends the process.

    Raises:
        UsageError: `only` names a backend that neither a run nor this installation knows.
    """
    runs = list(folders)
    _check_names(runs, only, options or {})
    watch = _Watch(patience_s, hang_timeout_s, show, is_own_process=is_own_process)
    syncing = _Syncing(only, options or {}, watch, show)
    unsettled = sorted(
        (folder for folder in runs if not _is_settled(folder, only)), key=_run_id
    )  # parents first
    portion = min(PORTION_RUNS, room_for_runs())
    for start in range(0, len(unsettled), portion):
        syncing.deliver(unsettled[start : start + portion])
    syncing.host.close(with_trim=True)
    _say_what_else_was_ended(runs, syncing.ended, show)
    return [
        Synced(folder.run_id, _reports(folder, only), syncing.problems.get(folder.run_id, {}))
        for folder in runs
    ]


class _Syncing:
    """The lanes that serve all portions of runs, and what stands in the way of some."""

    def __init__(
        self,
        only: Sequence[str],
        options: Mapping[str, Mapping[str, Any]],
        watch: _Watch,
        show: Callable[[str], None],
    ) -> None:
        self.host = Host(f"sync-{os.getpid()}-{os.urandom(4).hex()}")
        self.problems: dict[str, dict[str, str]] = {}
        self._only, self._options, self._watch, self._show = only, options, watch, show
        self._known: dict[str, Backend] = {}
        self.ended: set[Process] = set()  # lingering senders that left so that these runs could be taken

    def deliver(self, folders: Iterable[RunFolder]) -> None:
        """Deliver these runs as far as possible now, and release them."""
        for folder in folders:
            self._adopt(folder)
        self.host.finish()
        self._watch.wait(self.host)
        self.host.leave()

    def _adopt(self, folder: RunFolder) -> None:
        problems = self.problems.setdefault(folder.run_id, {})
        backends = _backends(folder, self._only, self._options, self._known, problems)
        if not backends:
            return
        try:
            reason = self._take(folder, backends)
        except OSError as error:  # the next run may be in a better state
            reason = f"it cannot be taken: {error}"
        if reason:
            problems |= dict.fromkeys((one.name for one in backends.values()), reason)

    def _take(self, folder: RunFolder, backends: Mapping[str, Backend]) -> str:
        """Hand a run to the lanes, or say why not."""
        wait_until_whole(folder, self._show)
        claim = Claim(folder.delivery)
        is_ours = claim.take_over(partial(program_lives, folder))
        if claim.asked is not None:
            self.ended.add(claim.asked)
        if not is_ours:
            holder = claim.holder()
            pid = holder.process.pid if holder else "unknown"
            return f"its own sender (pid {pid}) is delivering it right now"
        try:
            close_if_abandoned(folder)
        except OSError:
            claim.release()
            raise
        self.host.open(folder, backends, claim)
        return ""


class _Watch:
    """How long it makes sense to wait: until no lane that is left has had an answer for `patience_s`."""

    def __init__(
        self, patience_s: float, hang_timeout_s: float, show: Callable[[str], None], *, is_own_process: bool
    ) -> None:
        self._patience_s, self._hang_timeout_s, self._show = patience_s, hang_timeout_s, show
        self._is_own_process = is_own_process
        self._shown: dict[str, str] = {}
        self._answered_at: dict[str, float] = {}  # by backend; it outlasts a portion of runs

    def wait(self, host: Host) -> None:
        """Wait until everything is sent, or what is left is hopeless."""
        try:
            self._wait(host)
        finally:
            if self._is_own_process:
                rest()

    def _wait(self, host: Host) -> None:
        while not host.is_drained():
            if self._is_own_process:
                stay_awake(self._hang_timeout_s)
            host.hung(self._hang_timeout_s)
            lanes = host.open_lanes()
            hopeless = [name for name, lane in lanes.items() if self._is_hopeless(name, lane)]
            if len(hopeless) == len(lanes):
                return
            time.sleep(LOOK_S)

    def _is_hopeless(self, name: str, lane: Lane) -> bool:
        now = time.monotonic()
        if lane.reason and self._shown.get(name) != lane.reason:
            self._shown[name] = lane.reason
            self._show(f"{name}: {lane.state}: {lane.reason}")
        if lane.state == "delivering" or name not in self._answered_at:
            self._answered_at[name] = now
        return lane.state in ("paused", "hung") or now - self._answered_at[name] > self._patience_s


def _run_id(folder: RunFolder) -> str:
    return folder.run_id


def _is_settled(folder: RunFolder, only: Sequence[str]) -> bool:
    """Tell whether nothing is left to do for a run, without making it one's own: a store has thousands."""
    reports = _reports(folder, only)
    is_sent = all(name in reports and reports[name].is_settled for name in only or reports)
    return is_sent and (not reports or has_end(folder))


def _check_names(
    folders: Sequence[RunFolder], only: Sequence[str], options: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse a name that neither a run nor this installation knows, before anything is delivered."""
    for name in only:
        if not any(name in named_backends(folder) for folder in folders):
            resolve([name], options)


def _say_what_else_was_ended(
    runs: Sequence[RunFolder], ended: Collection[Process], show: Callable[[str], None]
) -> None:
    """Name the other runs that a sender was still trying to deliver when it left for these ones."""
    taken = {folder.path for folder in runs}
    for folder in Store(runs[0].store).runs() if ended else ():
        holder = holder_of(folder.delivery)
        if folder.path not in taken and holder and holder.process in ended and not _is_settled(folder, ()):
            show(f"{folder.run_id} was to be sent by the same sender, which has left - sync it too")


def _reports(folder: RunFolder, only: Sequence[str]) -> dict[str, BackendReport]:
    return {name: one for name, one in report(folder).items() if not only or name in only}


def _backends(
    folder: RunFolder,
    only: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
    known: dict[str, Backend],
    problems: dict[str, str],
) -> dict[str, Backend]:
    """The backends to deliver a run to, by key; one object for all runs that name the same."""
    specs = named_backends(folder)
    backends: dict[str, Backend] = {}
    for name in only or specs:
        try:
            backend = build(specs[name], options) if name in specs else resolve([name], options)[0]
        except MlobsError as error:
            problems[name] = str(error)
            continue
        key = key_of(spec_of(backend))
        backends[key] = known.setdefault(key, backend)
    return backends
