"""Who a writer is, and whether that very process still lives."""

from __future__ import annotations

import functools
import hashlib
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
    """Tell whether the process still runs; None where this host cannot know (it ran elsewhere).

    The same boot is the same machine, whatever it is called. Another boot of a machine of this name
    is this machine, started anew, only if its id agrees: two machines may share a name and a store.
    """
    here = here or this_process()
    boot, namespace, machine = _parts(process)
    boot_here, namespace_here, machine_here = _parts(here)
    if boot != boot_here:
        is_this_machine = process.host == here.host and machine != "" and machine == machine_here
        return False if is_this_machine else None
    if not boot and process.host != here.host:
        return None  # no boot ids on this platform: only the name tells
    if namespace != namespace_here:
        return None  # a container of its own: its pids mean nothing here
    return _is_running(process)


def is_data_worker() -> bool:
    """Tell whether this process is a worker of PyTorch's DataLoader, which loads data and records nothing.

    PyTorch is not imported for that: in such a worker it is.
    """
    ask = getattr(sys.modules.get("torch.utils.data"), "get_worker_info", None)
    return ask is not None and ask() is not None


def _parts(process: Process) -> tuple[str, str, str]:
    boot, namespace, machine = [*process.boot_id.split("/"), "", ""][:3]
    return boot, namespace, machine


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
    """Name this boot, pid namespace and machine as "BOOT/NAMESPACE/MACHINE", "" where there is no boot id."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return ""
    return f"{boot}/{namespace}/{_machine_id()}"


def _machine_id() -> str:
    """A hash of the machine's id, which itself is confidential (machine-id(5)); "" if it has none."""
    try:
        content = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        return ""
    return hashlib.blake2b(content, digest_size=6, person=b"mlobs").hexdigest() if content else ""
