"""The lanes of one program: which runs go to which backends, and when everything has gone."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

from mlobs.backend import Backend
from mlobs.delivery.claim import Claim
from mlobs.delivery.lane import Lane
from mlobs.journal.store import RunFolder
from mlobs.sender.endings import close_if_abandoned, trim
from mlobs.sender.lanes import LaneThread

JOIN_S = 5.0  # a lane that is asked to stop has this long to finish its batch

KEPT_RUNS = 64  # complete runs are kept open for late events of other writers; each holds a descriptor

_log = logging.getLogger(__name__)


class Host:
    """Runs one lane thread per backend. All methods are called from one thread.

    A backend is known by a key: the same key is the same backend, and one lane, whatever runs and
    trackers name it.
    """

    def __init__(self, sender_id: str) -> None:
        self._sender_id = sender_id
        self._lanes: dict[str, LaneThread] = {}
        self._claims: dict[Path, Claim] = {}
        self._on_disk: dict[Path, int] = {}
        self._unclaimed: dict[Path, tuple[RunFolder, tuple[str, ...]]] = {}
        self._keys: dict[Path, tuple[str, ...]] = {}

    def open(self, folder: RunFolder, backends: Mapping[str, Backend]) -> None:
        """Deliver a run to these backends, as soon as no other sender on this host does."""
        for key, backend in backends.items():
            if key not in self._lanes:
                self._lanes[key] = LaneThread(backend, f"{self._sender_id}.{len(self._lanes)}")
        self._unclaimed[folder.path] = (folder, tuple(backends))
        self.claim_waiting()

    def claim_waiting(self) -> bool:
        """Take the runs that another sender has left meanwhile; True when there are none left to take."""
        for path, (folder, keys) in list(self._unclaimed.items()):
            claim = self._claims.setdefault(path, Claim(folder.delivery))
            if claim.acquire():
                del self._unclaimed[path]
                self._keys[path] = keys
                for key in keys:
                    self._lanes[key].add(folder)
        self._let_go_of_complete_runs()
        return not self._unclaimed

    def _let_go_of_complete_runs(self) -> None:
        """Release the oldest runs whose end every backend has: a sweep has thousands."""
        for path in list(self._keys)[:-KEPT_RUNS]:
            lanes = [self._lanes[key] for key in self._keys[path]]
            if all(lane.is_complete(path.name) for lane in lanes):
                for lane in lanes:
                    lane.drop(path.name)
                del self._keys[path]
                self._claims.pop(path).release()

    def adopt(self, folder: RunFolder, claim: Claim, backends: Mapping[str, Backend]) -> None:
        """Deliver a run whose claim the caller has acquired; the host releases it."""
        self._claims[folder.path] = claim
        self.open(folder, backends)

    def flush(self) -> None:
        """Send what there is at once, without gathering larger batches."""
        for lane in self._lanes.values():
            lane.flush()

    def keep_on_disk(self) -> None:
        """Force what the runs' writers have recorded so far onto the disk itself (fsync)."""
        for path in self._claims:
            for journal in RunFolder(path).journals():
                changed_at = journal.stat().st_mtime_ns  # a mapped page's first change after an fsync counts
                if self._on_disk.get(journal) != changed_at:
                    _fsync(journal)
                    self._on_disk[journal] = changed_at

    def end_abandoned(self) -> None:
        """Record the end of the runs whose process is gone and did not."""
        for path in self._claims:
            if close_if_abandoned(RunFolder(path)):
                _log.info("run %s: its process vanished", path.name)

    def finish(self) -> None:
        """Nothing more will be recorded: send the rest."""
        for lane in self._lanes.values():
            lane.finish()

    def is_drained(self) -> bool:
        """Tell, after `finish`, whether everything has been sent."""
        return self.claim_waiting() and all(lane.is_drained() for lane in self._lanes.values())

    def open_lanes(self) -> dict[str, Lane]:
        """After `finish`: the lanes that still have something to send, by their backend's name."""
        return {lane.name: lane.lane() for lane in self._lanes.values() if not lane.is_drained()}

    def announce_lingering(self) -> None:
        """Let others who want these runs know that they may ask for them."""
        for path, claim in self._claims.items():
            if path not in self._unclaimed:
                claim.describe(is_lingering=True)

    def forget(self) -> None:
        """After a fork, in the child: let go of the inherited claims, which stay the parent's."""
        for claim in self._claims.values():
            claim.release()

    def close(self, wait_s: float = JOIN_S, *, with_trim: bool = False) -> bool:
        """Stop the lanes after their batch in hand and release the runs; False if one takes longer."""
        for lane in self._lanes.values():
            lane.stop()
        deadline = time.monotonic() + wait_s
        stopped = [lane.join(max(0.0, deadline - time.monotonic())) for lane in self._lanes.values()]
        for path, claim in self._claims.items():
            if with_trim and path not in self._unclaimed:
                trim(RunFolder(path))
            claim.release()
        return all(stopped)


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
