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
from mlobs.journal.process import is_alive, this_process

try:
    import fcntl
except ImportError:  # Windows: no advisory locks; an overlap is harmless for idempotent backends
    fcntl = None  # type: ignore[assignment]

HAND_OVER_S = 10.0  # a lingering sender finishes the batch in hand within this time


class Holder(msgspec.Struct, frozen=True):
    """Who delivers the run, and whether only because the trainer left things undelivered."""

    process: Process
    is_lingering: bool = False


class Claim:
    """The exclusive right to deliver one run, until it is released or the process ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._path = folder / "claim"
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Take the claim if nobody else on this host holds it. Repeating it does nothing."""
        if self._fd is not None:
            return True
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError:
            pass  # a file system without locks: an overlap is harmless for idempotent backends
        self._fd = fd
        self.describe(is_lingering=False)
        return True

    def describe(self, *, is_lingering: bool) -> None:
        """Write down who holds the claim, for those who wait for it."""
        assert self._fd is not None
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.write(self._fd, msgspec.json.encode(Holder(this_process(), is_lingering)))

    def holder(self) -> Holder | None:
        """Read who holds the claim, None if that cannot be told."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Holder)
        except (OSError, msgspec.DecodeError):
            return None  # just being written, or nobody ever held it

    def take_over(self, program_lives: Callable[[], bool], *, patience_s: float = HAND_OVER_S) -> bool:
        """Acquire the claim, asking a lingering sender to leave it; False if a live program's holds it.

        A sender lingers only from when it has noticed that the program which it serves is gone.
        """
        deadline = time.monotonic() + patience_s
        asked: int | None = None
        while not self.acquire():
            holder = self.holder()
            if holder is not None and not holder.is_lingering and program_lives():
                return False
            if holder is not None and holder.is_lingering and holder.process.pid != asked:
                asked = holder.process.pid
                _ask_to_leave(holder.process)
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def release(self) -> None:
        """Let somebody else deliver the run. Repeating it does nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _ask_to_leave(sender: Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has just left; it is another user's
        if is_alive(sender):
            os.kill(sender.pid, signal.SIGTERM)
