"""How a sender replaces itself: a thread that hangs in a vendor's call ends only with its process.

The successor is the same process, by `exec`: its pid and the pipe to the trainer stay what they are.
What it has to know goes through memory that no disk ever holds, because orders contain secrets.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import msgspec

from mlobs.delivery.orders import Hello, OpenRun

FIRST_HOLD_S = 60.0  # a backend that hung is left alone so long, and longer each time that it hangs again
MAX_HOLD_S = 3600.0
_ARGUMENT = "--legacy="


class Held(msgspec.Struct, frozen=True):
    """A lane that hung `hangs` times in a row; it sends nothing until `until` (Unix seconds)."""

    hangs: int
    until: float
    reason: str


class Legacy(msgspec.Struct, frozen=True):
    """What a sender leaves to its successor.

    `unread` are bytes of the pipe that were read and not obeyed; `held` is by the backend's key;
    `leave_at` is when to stop lingering (monotonic clock), None while the trainer lives.
    """

    hello: Hello
    orders: tuple[OpenRun, ...] = ()
    unread: bytes = b""
    held: dict[str, Held] = {}
    leave_at: float | None = None


def hold(earlier: Held | None, reason: str, now: float) -> Held:
    """Hold a lane back that has hung (again); `now` is in Unix seconds."""
    hangs = earlier.hangs + 1 if earlier is not None else 1
    return Held(hangs, now + min(MAX_HOLD_S, FIRST_HOLD_S * 2.0 ** (hangs - 1)), reason)


def can_succeed() -> bool:
    """Tell whether this platform has anonymous memory that outlives `exec` (Linux)."""
    return hasattr(os, "memfd_create")


def succeed(legacy: Legacy) -> NoReturn:
    """Become the successor; nothing of this process's threads is left."""
    fd = os.memfd_create("mlobs-legacy", 0)  # type: ignore[attr-defined,unused-ignore] # not closed on exec
    with os.fdopen(fd, "wb", closefd=False) as memory:
        memory.write(msgspec.msgpack.encode(legacy))
    os.lseek(fd, 0, os.SEEK_SET)
    arguments = [one for one in sys.orig_argv if not one.startswith(_ARGUMENT)]
    os.execv(sys.executable, [*arguments, f"{_ARGUMENT}{fd}"])  # noqa: S606 - our own interpreter and module


def inherited() -> Legacy | None:
    """Read what a predecessor left to this process, None if it has none."""
    named = [one.removeprefix(_ARGUMENT) for one in sys.argv if one.startswith(_ARGUMENT)]
    if not named:
        return None
    with os.fdopen(int(named[0]), "rb") as memory:
        return msgspec.msgpack.decode(memory.read(), type=Legacy)
