"""The sender as a process: it obeys the trainer, outlives it, and says its last word."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from mlobs.backend import Backend
from mlobs.delivery.lane import describe
from mlobs.delivery.orders import Flush, Hello, OpenRun, Order, from_line, key_of
from mlobs.delivery.registry import build
from mlobs.delivery.state import LaneChanged, StateWriter
from mlobs.events import BackendSpec
from mlobs.journal.store import RunFolder, Store
from mlobs.sender.descriptors import raise_limit
from mlobs.sender.host import Host
from mlobs.sender.lifeline import LifeLine

FSYNC_S = 5.0  # what a power cut may cost at most
DRAIN_LOOK_S = 0.05

_log = logging.getLogger(__name__)


def main() -> int:
    """Run the sender until the trainer is gone and all is delivered, or it may linger no longer."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    _lower_group_priority()
    raise_limit()
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    stream = os.fdopen(os.dup(sys.stdin.fileno()), "rb")  # Python aborts if a thread still reads sys.stdin
    first = stream.readline()
    hello = from_line(first) if first.endswith(b"\n") else None
    if not isinstance(hello, Hello):
        return 0  # the trainer died before it said a word
    if hello.sys_path:
        sys.path[:] = map(os.fsdecode, hello.sys_path)
    return _Sender(hello, stream).run()


class _Sender:
    """The trainer's orders, the trainer's death, and what is to be done about either."""

    def __init__(self, hello: Hello, stream: BinaryIO) -> None:
        self._hello = hello
        self._host = Host(hello.sender_id, is_durable=True)
        self._output: Path | None = None
        self._is_told_to_leave = False
        self._complained: set[str] = set()
        signal.signal(signal.SIGTERM, self._leave)
        self._line = LifeLine(stream, hello.trainer)

    def run(self) -> int:
        fsync_at = time.monotonic() + FSYNC_S
        while not self._line.is_cut and not self._is_told_to_leave:
            for order in self._line.orders(wait_s=FSYNC_S / 5):
                self._attempt(partial(self._obey, order))
            self._attempt(self._host.claim_waiting)
            if time.monotonic() >= fsync_at:
                fsync_at = time.monotonic() + FSYNC_S
                self._attempt(self._host.keep_on_disk)
        if not self._is_told_to_leave:
            self._settle_the_rest()
        is_clean = self._host.close(with_trim=not self._is_told_to_leave)
        logging.shutdown()
        if not is_clean:
            os._exit(1)  # a vendor's call hangs in a thread that cannot be stopped
        _remove_if_empty(self._output)
        return 0

    def _settle_the_rest(self) -> None:
        """Write the ends that the trainer could not, and send what is left, as long as it allowed."""
        for act in (self._host.end_abandoned, self._host.keep_on_disk, self._host.announce_lingering):
            self._attempt(act)
        self._host.finish()
        deadline = time.monotonic() + self._hello.linger_s
        while not self._host.is_drained() and not self._is_told_to_leave and time.monotonic() < deadline:
            time.sleep(DRAIN_LOOK_S)

    def _obey(self, order: Order) -> None:
        match order:
            case OpenRun():
                self._open(order)
            case Flush():
                self._host.flush()
            case Hello():
                self._hello = order  # another of its trackers lets it linger longer

    def _open(self, order: OpenRun) -> None:
        folder = RunFolder(Path(os.fsdecode(order.folder)))
        self._output = Store(folder.store).senders / f"{self._hello.sender_id}.log"
        backends: dict[str, Backend] = {}
        for spec in order.backends:
            try:
                backends[key_of(spec)] = build(spec)
            except (
                Exception,
                SystemExit,
            ) as error:  # a third party's import and constructor raise whatever they like
                _log.exception("backend %s cannot be built", spec.name)
                self._attempt(partial(self._say_unbuilt, folder, spec, error))
        self._host.open(folder, backends)

    def _say_unbuilt(self, folder: RunFolder, spec: BackendSpec, error: BaseException) -> None:
        writer = StateWriter(folder.delivery, f"{self._hello.sender_id}-setup")
        writer.append(LaneChanged(time.time(), spec.name, "paused", describe(error)))

    def _attempt(self, act: Callable[[], object]) -> None:
        """Act; an error is logged once per wording: it must not end what the other runs need."""
        try:
            act()
        except Exception as error:
            if (complaint := describe(error)) not in self._complained:
                self._complained.add(complaint)
                _log.exception("the sender goes on")

    def _leave(self, *_: object) -> None:
        self._is_told_to_leave = True


def _remove_if_empty(output: Path | None) -> None:
    with contextlib.suppress(OSError):  # it stays: there is no harm in that
        if output is not None and output.stat().st_size == 0:
            output.unlink()


def _lower_group_priority() -> None:
    """Step back in the scheduler's auto-group too.

    A process with a session of its own has an auto-group of its own, and `nice` counts only inside
    of it: without this, a niced sender would get as much of the machine as the training.
    """
    with contextlib.suppress(OSError):  # not Linux, or a kernel without auto-groups: `nice` is enough
        Path("/proc/self/autogroup").write_text("19", encoding="ascii")
