"""What two readings of a program and its machine say about the time between them. Pure numbers.

Counters of the operating system only ever grow, so a load is the difference of two readings. What a
reading lacks, because the platform has no such counter or it could not be read, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from mlobs.names import SYSTEM_PREFIX

MB = 1e6  # bytes, as everywhere in mlobs

ProcessKey: TypeAlias = tuple[int, float]  # pid and start time: a pid alone is reused


class Task(NamedTuple):
    """One process of the program; its counters since it began.

    `reaped_s` is the CPU time of its children that have ended and were waited for, theirs included.
    `read_bytes` and `written_bytes` are what reached the disk; they too take in such children.
    """

    cpu_s: float
    reaped_s: float
    rss_bytes: int
    read_bytes: int | None = None
    written_bytes: int | None = None


class Traffic(NamedTuple):
    """Bytes through the machine's network interfaces, without the loopback, since it started."""

    received_bytes: int
    sent_bytes: int


class Cpu(NamedTuple):
    """CPU time of all cores since the machine started, in seconds: at work, and in all."""

    busy_s: float
    total_s: float


@dataclass(frozen=True)
class Reading:
    """Counters and levels at one moment; `at_s` is of a monotonic clock.

    `levels` are values that need no earlier reading, by their name without `system/`.
    """

    at_s: float
    tasks: Mapping[ProcessKey, Task] | None = None
    cpu: Cpu | None = None
    traffic: Traffic | None = None
    levels: Mapping[str, float] = field(default_factory=dict)


def values_between(before: Reading, after: Reading) -> dict[str, float]:
    """The metrics of the time between two readings, under `system/`."""
    found: dict[str, float] = {}
    seconds = max(after.at_s - before.at_s, 1e-3)
    if after.tasks is not None:
        found["memory_rss_mb"] = sum(task.rss_bytes for task in after.tasks.values()) / MB
        found["processes"] = float(len(after.tasks))
    if before.tasks is not None and after.tasks is not None:
        found["cpu_percent"] = 100.0 * cpu_s_between(before.tasks, after.tasks) / seconds
        found |= _disk(before.tasks, after.tasks, seconds)
    if before.cpu is not None and after.cpu is not None and after.cpu.total_s > before.cpu.total_s:
        busy_s = max(0.0, after.cpu.busy_s - before.cpu.busy_s)
        found["machine_cpu_percent"] = min(100.0, 100.0 * busy_s / (after.cpu.total_s - before.cpu.total_s))
    if before.traffic is not None and after.traffic is not None:
        received, sent = (max(0, new - old) for old, new in zip(before.traffic, after.traffic, strict=True))
        found["machine_network_received_mb_per_s"] = received / MB / seconds
        found["machine_network_sent_mb_per_s"] = sent / MB / seconds
    return {SYSTEM_PREFIX + name: value for name, value in {**found, **after.levels}.items()}


def cpu_s_between(before: Mapping[ProcessKey, Task], after: Mapping[ProcessKey, Task]) -> float:
    """Seconds of CPU that the program used between two readings of its processes.

    A child that came and went in between is in what its parent reaped. One that was there before and
    was reaped since is too, with all its life: what was counted of it is taken off again.
    """
    own_s = sum(task.cpu_s - _of(before, key).cpu_s for key, task in after.items())
    reaped_s = sum(task.reaped_s - _of(before, key).reaped_s for key, task in after.items())
    gone_s = sum(task.cpu_s + task.reaped_s for key, task in before.items() if key not in after)
    return max(0.0, own_s) + max(0.0, reaped_s - gone_s)


def _disk(
    before: Mapping[ProcessKey, Task], after: Mapping[ProcessKey, Task], seconds: float
) -> dict[str, float]:
    found = {}
    for name, column in (("disk_read_mb_per_s", "read_bytes"), ("disk_write_mb_per_s", "written_bytes")):
        counts = [(key, getattr(task, column)) for key, task in after.items()]
        if any(count is not None for _, count in counts):
            new = sum(count - (getattr(_of(before, key), column) or 0) for key, count in counts if count)
            gone = sum(getattr(task, column) or 0 for key, task in before.items() if key not in after)
            found[name] = max(0, new - gone) / MB / seconds
    return found


_NOTHING = Task(0.0, 0.0, 0, 0, 0)


def _of(tasks: Mapping[ProcessKey, Task], key: ProcessKey) -> Task:
    """The earlier counters of a process; it had none if it began since."""
    return tasks.get(key, _NOTHING)
