"""The sender as a process: it obeys the trainer, outlives it, and says its last word."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NoReturn

from mlobs.backend import Backend
from mlobs.delivery.lane import describe
from mlobs.delivery.orders import Flush, Hello, OpenRun, Order, RunEnded, from_line, key_of
from mlobs.delivery.registry import build
from mlobs.delivery.state import LaneChanged, StateWriter
from mlobs.events import BackendSpec
from mlobs.journal.store import RunFolder, Store
from mlobs.sender.adoption import adopt
from mlobs.sender.capturer import Capturer
from mlobs.sender.descriptors import raise_limit
from mlobs.sender.host import Host
from mlobs.sender.lifeline import LifeLine, first_line
from mlobs.sender.masking import Masking
from mlobs.sender.sampler import Sampler
from mlobs.sender.succession import Legacy, can_succeed, hold, inherited, succeed
from mlobs.sender.vitals import BEAT_S
from mlobs.sender.watchdog import rest, stay_awake

FSYNC_S = 5.0  # what a power cut may cost at most
DRAIN_LOOK_S = 0.05
LAST_CAPTURE_S = 1.0  # for what is left to capture, where it may linger no longer

_log = logging.getLogger(__name__)


def main() -> int:
    """Run the sender until the trainer is gone and all is delivered, or it may linger no longer."""
    sys.stderr, sys.stdout = Masking(sys.stderr), Masking(sys.stdout)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    _lower_group_priority()
    raise_limit()
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    pipe = os.dup(sys.stdin.fileno())  # Python aborts if a thread still reads sys.stdin
    legacy = inherited() or _first_words(pipe)
    if legacy is None:
        return 0  # the trainer died before it said a word
    if legacy.hello.sys_path:
        sys.path[:] = map(os.fsdecode, legacy.hello.sys_path)
    return _Sender(legacy, pipe).run()


def _first_words(pipe: int) -> Legacy | None:
    """What a sender that has no predecessor begins with."""
    line, unread = first_line(pipe)
    hello = from_line(line) if line.endswith(b"\n") else None
    return Legacy(hello, unread=unread) if isinstance(hello, Hello) else None


class _Sender:
    """The trainer's orders, the trainer's death, and what is to be done about either."""

    def __init__(self, legacy: Legacy, pipe: int) -> None:
        self._hello, self._leave_at = legacy.hello, legacy.leave_at
        self._orders: dict[bytes, OpenRun] = {}
        self._served: dict[str, tuple[BackendSpec, Backend]] = {}  # by key
        self._seen: set[Path] = set()  # runs of this program, and adopted ones
        self._held = dict(legacy.held)
        self._host = Host(legacy.hello.sender_id, is_durable=True, held=legacy.held)
        self._sampler = Sampler(legacy.hello.trainer)
        self._capturer = Capturer(legacy.hello.trainer)
        self._output: Path | None = None
        self._is_told_to_leave = False
        self._complained: set[str] = set()
        signal.signal(signal.SIGTERM, self._leave)
        for order in legacy.orders:
            self._attempt(partial(self._obey, order))
        self._line = LifeLine(pipe, legacy.hello.trainer, legacy.unread)

    def run(self) -> int:
        fsync_at = time.monotonic() + FSYNC_S
        beat_at = time.monotonic() + BEAT_S
        while not self._line.is_cut and not self._is_told_to_leave:
            for order in self._line.orders(wait_s=FSYNC_S / 5):
                self._attempt(partial(self._obey, order))
            self._attempt(self._host.claim_waiting)
            self._mind_hung_calls()
            self._sampler.note_hung()
            if time.monotonic() >= fsync_at:
                fsync_at = time.monotonic() + FSYNC_S
                self._attempt(self._host.keep_on_disk)
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + BEAT_S
                self._attempt(self._host.beat)
                self._attempt(self._adopt)
        self._sampler.stop()
        if not self._is_told_to_leave:
            self._settle_the_rest()
        self._capturer.stop(LAST_CAPTURE_S)
        stay_awake(self._hello.hang_timeout_s)
        is_clean = self._host.close(with_trim=not self._is_told_to_leave)
        rest()
        logging.shutdown()
        if not is_clean:
            os._exit(1)  # a vendor's call hangs in a thread that cannot be stopped
        _remove_if_empty(self._output)
        return 0

    def _settle_the_rest(self) -> None:
        """Write the ends that the trainer could not, and send what is left, as long as it allowed."""
        if self._leave_at is None:
            self._leave_at = time.monotonic() + self._hello.linger_s
        self._attempt(self._host.end_abandoned)
        self._attempt(self._host.announce_lingering)
        self._capturer.end_all()
        while not self._capturer.is_done() and self._may_linger():
            self._mind_hung_calls()
            time.sleep(DRAIN_LOOK_S)
        self._host.finish()
        while not self._attempt(self._host.keep_on_disk) and self._may_linger():
            self._mind_hung_calls()
        while self._may_linger():
            if self._host.is_drained() and not self._attempt(self._adopt):
                return
            self._mind_hung_calls()
            time.sleep(DRAIN_LOOK_S)

    def _may_linger(self) -> bool:
        return not self._is_told_to_leave and time.monotonic() < (self._leave_at or 0.0)

    def _mind_hung_calls(self) -> None:
        """Leave a call that does not return to a successor, which holds its lane back.

        A call that keeps even this thread from running ends the process; the trainer starts another
        when it needs one.
        """
        patience_s = self._hello.hang_timeout_s
        stay_awake(patience_s)
        hung = self._host.hung(patience_s)
        if hung and can_succeed():
            self._make_way(hung)

    def _make_way(self, hung: Mapping[str, str]) -> NoReturn:
        now = time.time()
        orders = [one for one in self._orders.values() if self._is_needed(_folder_of(one).path)]
        held = {key: one for key, one in self._held.items() if one.until > now}
        for key, reason in hung.items():
            held[key] = hold(None if self._host.has_returned(key) else self._held.get(key), reason, now)
        self._host.close()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a word that comes from now on is not lost on `exec`
        if self._is_told_to_leave:
            os._exit(0)
        _log.error("a successor goes on without what hangs")
        try:
            succeed(Legacy(self._hello, tuple(orders), self._line.hand_over(), held, self._leave_at))
        except OSError:  # no memory or no descriptor is left
            _log.exception("there is no successor")
            os._exit(1)  # the trainer starts another sender when it needs one

    def _is_needed(self, run: Path) -> bool:
        return self._host.holds(run) or self._capturer.wants(run)

    def _obey(self, order: Order) -> None:
        match order:
            case OpenRun():
                self._open(order)
            case Flush():
                self._host.flush()
            case RunEnded():
                self._capturer.ended(_folder_of(order))
            case Hello():
                self._hello = order  # another of its trackers lets it linger longer

    def _open(self, order: OpenRun) -> None:
        folder = _folder_of(order)
        self._orders[order.folder] = order
        self._seen.add(folder.path)
        self._output = Store(folder.store).senders / f"{self._hello.sender_id}.log"
        backends: dict[str, Backend] = {}
        for spec in order.backends:
            try:
                backends[key_of(spec)] = backend = build(spec)
                self._served.setdefault(key_of(spec), (spec, backend))
            except (
                Exception,
                SystemExit,
            ) as error:  # a third party's import and constructor raise whatever they like
                _log.exception("backend %s cannot be built", spec.name)
                self._attempt(partial(self._say_unbuilt, folder, spec, error))
        if order.backends or order.sample_every_s is not None:
            self._host.open(folder, backends)
        if order.sample_every_s is not None:
            self._sampler.open(folder, order.sample_every_s)
        if order.repro != "off":
            self._capturer.open(folder, order.repro)

    def _adopt(self) -> bool:
        """Take one more run that an earlier program's sender had to leave, if there is one."""
        stores = {RunFolder(path).store for path in self._seen}
        for store in stores:
            adopted = adopt(Store(store), self._seen, self._served)
            if adopted is not None:
                folder, backends, claim = adopted
                self._seen.add(folder.path)
                self._host.open(folder, backends, claim)
                _log.info("run %s was left undelivered, and is adopted", folder.run_id)
                return True
        return False

    def _say_unbuilt(self, folder: RunFolder, spec: BackendSpec, error: BaseException) -> None:
        writer = StateWriter(folder.delivery, f"{self._hello.sender_id}-setup")
        writer.append(LaneChanged(time.time(), spec.name, "paused", describe(error)))

    def _attempt(self, act: Callable[[], object]) -> bool:
        """Act; an error is logged once per wording and is False: it must not end what other runs need."""
        try:
            return bool(act())
        except Exception as error:
            if (complaint := describe(error)) not in self._complained:
                self._complained.add(complaint)
                _log.exception("the sender goes on")
            return False

    def _leave(self, *_: object) -> None:
        self._is_told_to_leave = True


def _folder_of(order: OpenRun | RunEnded) -> RunFolder:
    return RunFolder(Path(os.fsdecode(order.folder)))


def _remove_if_empty(output: Path | None) -> None:
    with contextlib.suppress(OSError):  # it stays: there is no harm in that
        if output is not None and output.stat().st_size == 0:
            output.unlink()


def _lower_group_priority() -> None:
    """Step back in the scheduler's auto-group too.

    A process with a session of its own has an auto-group of its own, and `nice` counts only inside
    of it: without this, a niced sender would get as much of the machine as the training. A group that is
    not its own, such as that of a shell's session, is left alone.
    """
    if not hasattr(os, "getsid") or os.getsid(0) != os.getpid():
        return
    with contextlib.suppress(OSError):  # not Linux, or a kernel without auto-groups: `nice` is enough
        Path("/proc/self/autogroup").write_text("19", encoding="ascii")
