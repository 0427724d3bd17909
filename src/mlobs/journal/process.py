"""Who a writer is, and whether that very process still lives."""

from __future__ import annotations

import functools
import os
import platform
import sys
from pathlib import Path

from mlobs.events import Process

_STATE, _STARTED = 0, 19  # fields of /proc/PID/stat behind the ")", see proc(5): state, starttime


def this_process() -> Process:
    """Describe the calling process, so that readers can tell later whether it still lives."""
    pid = os.getpid()
    fields = _stat_fields(pid)
    started = int(fields[_STARTED]) if fields else 0
    return Process(host=platform.node() or "localhost", pid=pid, boot_id=_boot_id(), started=started)


def is_alive(process: Process, *, here: Process | None = None) -> bool | None:
    """Tell whether the process still runs; None where this host cannot know (it ran elsewhere)."""
    here = here or this_process()
    if process.host != here.host:
        return None
    boot, _, namespace = process.boot_id.partition("/")
    boot_here, _, namespace_here = here.boot_id.partition("/")
    if boot != boot_here:
        return False  # the machine was started anew since
    if namespace != namespace_here:
        return None  # a container of its own: its pids mean nothing here
    return _is_running(process)


def _is_running(process: Process) -> bool | None:
    if sys.platform == "win32":
        return None  # there, `kill` with any signal ends the process
    fields = _stat_fields(process.pid)
    if fields:
        return fields[_STATE] not in "ZX" and int(fields[_STARTED]) == process.started
    if process.started:
        return False  # this host has /proc, and the pid is not in it
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it lives, as somebody else's
    return True


def _stat_fields(pid: int) -> list[str]:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return []  # no such process, or no /proc
    return stat.rpartition(b")")[2].decode("ascii", "replace").split()


@functools.cache
def _boot_id() -> str:
    """Name this boot and pid namespace, "" where the platform has no such thing."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""
