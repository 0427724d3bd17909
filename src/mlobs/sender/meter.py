"""Reading a program's processes and its machine, with psutil and NVML.

psutil is imported with the first reading: whoever measures nothing needs it not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mlobs.sender import gpus
from mlobs.sender.load import MB, Cpu, ProcessKey, Reading, Task, Traffic

_LOOPBACK = ("lo", "lo0", "Loopback Pseudo-Interface 1")


class Failure(NamedTuple):
    """A part of the load that could not be read, and why; `error` is the exception's type."""

    part: str
    error: str
    reason: str


class Meter:
    """Reads the load of one program: the process `pid`, its children and theirs, and the machine.

    The process that measures, and what it starts, is not the program's, though the program started
    it; unless it is the program itself.

    Args:
        pid: the program's process.
        disk: a path on the file system that is looked at.
    """

    def __init__(self, pid: int, disk: Path) -> None:
        self._pid, self._disk = pid, disk
        self._gpus: gpus.Gpus | None = None
        self._has_looked_for_gpus = False

    def read(self) -> tuple[Reading, list[Failure]]:
        """Read everything now; a part that fails leaves the others as they are.

        It takes about 1.4 ms, and 0.12 ms for each process more, mostly to look through the machine's
        list of processes and to read what it says of the program's.

        Raises:
            ProcessLookupError: the program is gone.
        """
        failures: list[Failure] = []

        def attempt(part: str, read: Callable[[], Any]) -> Any:
            try:
                return read()
            except ProcessLookupError:
                raise
            except Exception as error:  # a driver, a file system, a process that ends meanwhile
                failures.append(Failure(part, type(error).__name__, str(error)))
                return None

        before_s = time.monotonic()
        tasks = attempt("processes", self._tasks)
        at_s = (before_s + time.monotonic()) / 2  # a niced process may be put off in the middle
        pids = {pid for pid, _ in tasks or ()}
        levels = attempt("memory", _memory) or {}
        levels |= attempt("disk", self._disk_levels) or {}
        levels |= attempt("gpu", lambda: self._gpu_levels(pids)) or {}
        cpu, traffic = attempt("cpu", _cpu), attempt("network", _traffic)
        return Reading(at_s, tasks, cpu, traffic, levels), failures

    def _tasks(self) -> dict[ProcessKey, Task]:
        """The program's processes; one that ends while it is looked at is left out."""
        import psutil

        try:
            root = psutil.Process(self._pid)
        except psutil.NoSuchProcess as error:
            raise ProcessLookupError(f"there is no process {self._pid} any more") from error
        left_out = {os.getpid()} - {self._pid}
        found: dict[ProcessKey, Task] = {}
        for process in (root, *root.children(recursive=True)):  # parents before their children
            try:
                with process.oneshot():
                    if process.pid in left_out or process.ppid() in left_out:
                        left_out.add(process.pid)
                        continue
                    found[process.pid, process.create_time()] = _task(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def _disk_levels(self) -> dict[str, float]:
        import psutil

        return {"machine_disk_percent": psutil.disk_usage(str(self._disk)).percent}

    def _gpu_levels(self, pids: set[int]) -> dict[str, float]:
        if not self._has_looked_for_gpus:
            self._has_looked_for_gpus = True
            self._gpus = gpus.here()
        return {} if self._gpus is None else self._gpus.levels(pids)


def _task(process: Any) -> Task:
    import psutil

    times = process.cpu_times()
    read_bytes = written_bytes = None
    if hasattr(process, "io_counters"):  # macOS has none
        try:
            counters = process.io_counters()
            read_bytes, written_bytes = counters.read_bytes, counters.write_bytes
        except psutil.AccessDenied:  # a child that became another user's
            pass
    return Task(
        cpu_s=times.user + times.system,
        reaped_s=times.children_user + times.children_system,
        rss_bytes=process.memory_info().rss,
        read_bytes=read_bytes,
        written_bytes=written_bytes,
    )


def _memory() -> dict[str, float]:
    import psutil

    memory = psutil.virtual_memory()
    return {
        "machine_memory_percent": memory.percent,
        "machine_memory_available_mb": memory.available / MB,
    }


def _cpu() -> Cpu:
    """CPU time of the machine; `psutil.cpu_percent` would change what the user's own calls of it say."""
    import psutil

    times = psutil.cpu_times()._asdict()
    idle_s = times["idle"] + times.get("iowait", 0.0)
    guests_s = times.get("guest", 0.0) + times.get("guest_nice", 0.0)  # Linux counts them as user, too
    total_s = sum(times.values()) - guests_s
    return Cpu(total_s - idle_s, total_s)


def _traffic() -> Traffic:
    import psutil

    of_interfaces = psutil.net_io_counters(pernic=True, nowrap=False)
    real = [one for name, one in of_interfaces.items() if name not in _LOOPBACK]
    return Traffic(sum(one.bytes_recv for one in real), sum(one.bytes_sent for one in real))
