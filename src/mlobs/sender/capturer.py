"""The snapshot of a program: a thread that captures what its runs are made of, beside delivery.

It is a thread of its own because a disk or a repository may be slow, and delivery goes on meanwhile.
The thread is the sender's, or the program's with `delivery="thread"`.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlobs.delivery.start import find_starts
from mlobs.events import Process, Snapshot
from mlobs.journal.store import RunFolder, Store
from mlobs.journal.writer import Writer
from mlobs.read.record import RunRecord, liveness, read_run

if TYPE_CHECKING:
    from mlobs.repro.capture import Captured

FRESH_S = 10.0  # a sweep starts many runs a second, and each capture takes 0.3 s of a processor

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Latest:
    """What was captured last, of what, and when (monotonic clock)."""

    wanted: tuple[Any, ...]
    at_s: float
    captured: list[Captured]

    def is_fresh(self) -> bool:
        return time.monotonic() - self.at_s < FRESH_S


class Capturer:
    """Captures code and environment of the runs given to `open`, and puts together their recipe at the end.

    What goes wrong is recorded in the run with its reason, or logged; it ends nothing.

    Args:
        program: the process whose runs they are.
    """

    def __init__(self, program: Process) -> None:
        self._program = program
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._writers: dict[Path, Writer] = {}  # of the thread alone
        self._unsettled: dict[Path, tuple[RunFolder, str]] = {}  # with the level
        self._unrecorded: set[Path] = (
            set()
        )  # of these, and of those that have ended, what is still to be done
        self._settled: set[Path] = set()  # roots and children whose recipe is recorded, if it is known
        self._children: deque[RunFolder] = deque()  # which have ended and wait for the run around them
        self._first: dict[Path, str] = {}  # by store: the first run that was captured
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._latest: _Latest | None = None

    def open(self, folder: RunFolder, level: str) -> None:
        """Capture the program for this run; `level` is "auto" or "full"."""
        self._unsettled[folder.path] = (folder, level)
        self._unrecorded.add(folder.path)
        self._first.setdefault(folder.store, folder.run_id)
        self._do(partial(self._capture, folder, level))

    def ended(self, folder: RunFolder) -> None:
        """Put together what the run was made of: it has ended. A child's waits for the run around it."""
        if (open_run := self._unsettled.pop(folder.path, None)) is not None:
            self._do(partial(self._settle, *open_run))
        elif self._first and not self._unsettled:  # the run around it has ended before it
            self._do(partial(self._settle_late, folder))
        else:
            self._children.append(folder)

    def end_all(self) -> None:
        """Do so for all runs; nothing more comes from the program."""
        for folder, _ in list(self._unsettled.values()):
            self.ended(folder)
        if self._first or self._children:
            self._do(self._settle_the_rest)
        self._tasks.put(None)

    def wants(self, run: Path) -> bool:
        """Tell whether the snapshot of the run in this folder is not yet recorded."""
        return run in self._unrecorded

    def is_done(self) -> bool:
        """Tell, after `end_all`, whether everything is recorded."""
        return self._thread is None or not self._thread.is_alive()

    def stop(self, wait_s: float) -> None:
        """Begin nothing more; what is in hand may take so long, and is given up then."""
        self._is_stopping = True
        self._join(wait_s)

    def finish(self, wait_s: float) -> None:
        """Finish all that is to be done, within this time."""
        self.end_all()
        self._join(wait_s)

    def _join(self, wait_s: float) -> None:
        self._tasks.put(None)
        if self._thread is not None:
            self._thread.join(wait_s)

    def _do(self, task: Callable[[], None]) -> None:
        self._tasks.put(task)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="mlobs-snapshot", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None and not self._is_stopping:
            _attempt(task)
        for writer in self._writers.values():
            writer.close()

    def _capture(self, folder: RunFolder, level: str) -> None:
        from mlobs.repro.capture import CODE, ENVIRONMENT, capture, record

        self._settled.discard(folder.path)  # of an attempt before
        run = read_run(folder, liveness())
        if run is None or run.latest is None:
            return
        if _is_captured(run, CODE) and _is_captured(run, ENVIRONMENT):
            return
        entry = _entry(run)
        wanted = (folder.store, entry.get("target"), entry.get("cwd"), level)
        if self._latest is not None and self._latest.wanted == wanted and self._latest.is_fresh():
            record(self._latest.captured, self._writer(folder))
            return
        captured = []
        for one in capture(Store(folder.store), run.latest, entry, is_full=level == "full"):
            record([one], self._writer(folder))
            captured.append(one)
        self._latest = _Latest(wanted, time.monotonic(), captured)

    def _settle(self, folder: RunFolder, level: str) -> None:
        from mlobs.repro.recipe import recipe_tags

        try:
            run = read_run(folder, liveness())
            if run is not None and self._capture_modules(folder, run, level):
                run = read_run(folder, liveness())
            if run is None:
                return
            self._settle_children(run)
            if (tags := recipe_tags(run)) is not None:  # the last word, also of the runs below
                self._writer(folder).append(tags)
            self._settled.add(folder.path)
        finally:
            self._unrecorded.discard(folder.path)
            writer = self._writers.pop(folder.path, None)
            if writer is not None:
                writer.close()

    def _settle_children(self, root: RunRecord) -> None:
        """Name the recipes of the runs below one that has ended: its snapshot is theirs."""
        for _ in range(len(self._children)):
            _attempt(partial(self._settle_child, self._children.popleft(), root))

    def _settle_child(self, folder: RunFolder, root: RunRecord) -> None:
        from mlobs.repro.recipe import is_below

        run = read_run(folder, liveness())
        if run is None or not is_below(run, root):
            self._children.append(folder)
        else:
            self._name(run, root)

    def _settle_late(self, folder: RunFolder) -> None:
        """Name the recipe of a run that has ended after the one around it; others wait for the end."""
        from mlobs.repro.parts import root_of
        from mlobs.repro.recipe import is_named

        run = read_run(folder, liveness())
        if run is None or run.parent_run_id is None:
            return
        root = root_of(run)
        is_own = run.latest is not None and run.latest.process == self._program
        is_final = root.folder.path in self._settled or (root.end is not None and is_named(root))
        if is_final and (is_own or run.end is not None):
            self._name(run, root)
        else:
            self._children.append(folder)

    def _settle_the_rest(self) -> None:
        """Name the recipes of runs of which nobody said that they ended.

        They are runs of a program that was killed, and those that other processes opened below its runs. Runs
        come in the order of their starts, so those below a run come after it.
        """
        for store, first in self._first.items():
            after = takewhile(lambda one: one.run_id != first, reversed(list(Store(store).runs())))  # noqa: B023 - used up in this round
            self._children.extend(after)
        for _ in range(len(self._children)):
            folder = self._children.popleft()
            if folder.path not in self._settled:
                _attempt(partial(self._settle_if_below, folder))

    def _settle_if_below(self, folder: RunFolder) -> None:
        starts = find_starts(folder)
        if starts and starts[-1][1].parent_run_id is not None:
            self._settle_late(folder)

    def _name(self, run: RunRecord, root: RunRecord) -> None:
        """Record the recipe of a run below another."""
        from mlobs.repro.recipe import recipe_tags

        tags = recipe_tags(run, root)
        if tags is not None and not tags.values.items() <= run.tags.items():
            with contextlib.closing(Writer(run.folder.path, run.run_id, mapped=False)) as writer:
                writer.append(tags)
        self._settled.add(run.folder.path)

    def _capture_modules(self, folder: RunFolder, run: RunRecord, level: str) -> bool:
        """Capture what the modules tell that were loaded by the end; tell whether there was anything."""
        from msgspec import convert

        from mlobs.repro.capture import capture_modules, record
        from mlobs.repro.code_root import CodeRoot
        from mlobs.repro.parts import code_parts

        modules = run.snapshots.get("modules")
        if modules is None or run.latest is None:
            return False
        parts = [one for one in code_parts(run).values() if one.missing is None and one.at >= run.latest.at]
        roots = [convert(one.facts, CodeRoot) for one in parts]
        captured = capture_modules(
            Store(folder.store), run.latest, _entry(run), modules.facts, roots, is_full=level == "full"
        )
        record(captured, self._writer(folder))
        return bool(captured)

    def _writer(self, folder: RunFolder) -> Writer:
        if folder.path not in self._writers:
            self._writers[folder.path] = Writer(folder.path, folder.run_id, mapped=False)
        return self._writers[folder.path]


def _attempt(task: Callable[[], None]) -> None:
    try:
        task()
    except Exception:
        _log.exception("a part of the snapshot is lost")


def _is_captured(record: RunRecord, part: str) -> bool:
    """An earlier sender of this very attempt has captured it."""
    found = record.snapshots.get(part)
    return found is not None and record.latest is not None and found.at >= record.latest.at


def _entry(record: RunRecord) -> dict[str, Any]:
    from mlobs.repro.entry import ENTRY

    return record.snapshots.get(ENTRY, Snapshot(0.0, ENTRY, {})).facts
