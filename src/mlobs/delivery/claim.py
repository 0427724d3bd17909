"""The claim on a run: on one host, two senders never deliver the same journal at once."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from mlobs.events import Process
from mlobs.journal import access, locks
from mlobs.journal.process import is_alive, this_process

HAND_OVER_S = 10.0  # a lingering sender finishes the batch in hand within this time
LEASE_S = 60.0  # without locks: a holder that was not heard of for so long is gone


class Holder(msgspec.Struct, frozen=True):
    """Who delivers the run, and whether only because the trainer left things undelivered."""

    process: Process
    is_lingering: bool = False


class Claim:
    """The exclusive right to deliver one run, until it is released or the process ends.

    Where files cannot be locked it is a lease: it belongs to the process that it names, as long as
    that one lives; where nobody here can know, until it has not been renewed for `LEASE_S`.

    Args:
        folder: the run's folder of the delivery state; it is made.
        lock: locks a descriptor, or raises BlockingIOError if another has, OSError if nobody can.
    """

    def __init__(self, folder: Path, *, lock: Callable[[int], None] | None = None) -> None:
        access.make_folder(folder)
        self._path = folder / "claim"
        self._lock = lock or locks.lock
        self._fd: int | None = None
        self._is_locked = False
        self._renewed_at = 0.0
        self.asked: Process | None = None  # the lingering sender that was asked to leave, by `take_over`

    def acquire(self) -> bool:
        """Take the claim if nobody else holds it. Repeating it does nothing.

        Raises:
            OSError: the file cannot be opened now, such as for want of descriptors.
        """
        if self._fd is not None:
            return True
        fd = access.open_file(self._path, os.O_RDWR)
        try:
            self._lock(fd)
            self._is_locked = True
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError:
            self._is_locked = False
            if self._is_leased():
                os.close(fd)
                return False
        self._fd = fd
        self.describe(is_lingering=False)
        return True

    def describe(self, *, is_lingering: bool) -> None:
        """Write down who holds the claim, for those who wait for it; on a full disk nobody reads it."""
        assert self._fd is not None
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
            os.write(self._fd, msgspec.json.encode(Holder(this_process(), is_lingering)))

    def renew(self) -> None:
        """Keep a lease. It is enough to call this every few seconds; it does nothing for a lock.

        Raises:
            OSError: the file is gone.
        """
        now = time.monotonic()
        if self._fd is not None and not self._is_locked and now - self._renewed_at > LEASE_S / 6:
            os.utime(self._path)
            self._renewed_at = now

    def holder(self) -> Holder | None:
        """Read who holds the claim, None if that cannot be told."""
        return holder_of(self._path.parent)

    def take_over(self, program_lives: Callable[[], bool], *, patience_s: float = HAND_OVER_S) -> bool:
        """Acquire the claim, asking a lingering sender to leave it; False if a live program's holds it.

        A sender lingers only from when it has noticed that the program which it serves is gone.
        """
        deadline = time.monotonic() + patience_s
        while not self.acquire():
            holder = self.holder()
            if holder is not None and not holder.is_lingering and program_lives():
                return False
            if holder is not None and holder.is_lingering and holder.process != self.asked:
                self.asked = holder.process
                _ask_to_leave(holder.process)
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def release(self) -> None:
        """Let somebody else deliver the run. Repeating it does nothing."""
        if self._fd is None:
            return
        holder = self.holder()
        if not self._is_locked and holder is not None and holder.process == this_process():
            with contextlib.suppress(OSError):  # then the lease runs out
                os.ftruncate(self._fd, 0)
        os.close(self._fd)
        self._fd = None

    def _is_leased(self) -> bool:
        holder = self.holder()
        if holder is None or holder.process == this_process():
            return False
        lives = is_alive(holder.process)
        return time.time() - self._path.stat().st_mtime < LEASE_S if lives is None else lives


def holder_of(folder: Path) -> Holder | None:
    """Read who holds, or held last, the claim in a run's folder of the delivery state."""
    try:
        return msgspec.json.decode((folder / "claim").read_bytes(), type=Holder)
    except (OSError, msgspec.DecodeError):
        return None  # just being written, or nobody ever held it


def _ask_to_leave(sender: Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has just left; it is another user's
        if is_alive(sender):
            os.kill(sender.pid, signal.SIGTERM)
