"""What the benchmarks share: statistics, lines of figures, and processes that are timed from outside."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import mlobs

LOOK_S = 0.05  # how often running processes are looked at; one look costs about 0.1 ms of CPU
AS_USUAL = {"PYTHONDONTWRITEBYTECODE": ""}  # compiled once, as on a user's machine: the cache is kept
GONE_S = 900.0  # a sender that has not ended by then never will


# Statistics


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` % of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def spread(values: Sequence[float]) -> str:
    """Describe the values around their median."""
    middle = median(values)
    return f"{min(values) / middle:.3f}x to {max(values) / middle:.3f}x of the median, {len(values)} values"


# Lines


def heading(title: str) -> None:
    """Say what is measured, on what machine, and how busy others keep it."""
    print(f"\n== {title}")
    print(
        f"   mlobs {mlobs.__version__}, Python {platform.python_version()}, {platform.system()}, "
        f"{os.cpu_count()} cores, {load()}"
    )


def load() -> str:
    """Say how many processes wanted a core, on average over the last minute and the last five."""
    if not hasattr(os, "getloadavg"):
        return "load unknown"
    one, five, _ = os.getloadavg()
    return f"load average {one:.1f} (1 min) {five:.1f} (5 min)"


def show(what: str, figure: float, unit: str, target: float | None = None) -> None:
    """Print a figure, and its target beside it, if it has one; counts have no unit."""
    line = f"   {what:<64} {figure:>12,.{2 if unit else 0}f} {unit:<4}"
    if target is not None:
        line += f" target <= {f'{target:g} {unit}'.strip()}: {'met' if figure <= target else 'MISSED'}"
    print(line.rstrip(), flush=True)


def note(text: str) -> None:
    """Print a line of words."""
    print(f"   {text}", flush=True)


# Places


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder that is empty now and gone afterwards; TMPDIR says where it lies."""
    with tempfile.TemporaryDirectory(prefix="mlobs-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


# Processes


@dataclass(frozen=True)
class Ended:
    """A process that has ended: seconds by the clock and on the CPU, and what it answered."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    code: int
    answer: dict[str, Any]
    errors: str


class Process:
    """A process, timed from its start to its end; its answer is the JSON in its last line, if any."""

    def __init__(self, command: Sequence[str], cwd: Path | None = None, **environment: str) -> None:
        self._out, self._errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed when read
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            stdout=self._out,
            stderr=self._errors,
            env={**os.environ, **AS_USUAL, **environment},
        )
        self.pid = self._process.pid
        self.ended: Ended | None = None

    def has_ended(self) -> bool:
        """Look, without waiting."""
        return self.ended is not None or self._reap(os.WNOHANG)

    def wait(self) -> Ended:
        """Wait for the end. A process that failed is an error here, with what it said."""
        if self.ended is None:
            self._reap(0)
        assert self.ended is not None
        if self.ended.code:
            raise RuntimeError(f"{self._process.args!r} exited with {self.ended.code}:\n{self.ended.errors}")
        return self.ended

    def _reap(self, options: int) -> bool:
        pid, status, usage = os.wait4(self.pid, options)
        if pid == 0:
            return False
        wall_s = time.perf_counter() - self._started
        code = self._process.returncode = os.waitstatus_to_exitcode(status)
        cpu_s, peak_mb = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
        answer = _last_json(_content(self._out))
        self.ended = Ended(wall_s, cpu_s, peak_mb, code, answer, _content(self._errors))
        return True


class Others:
    """How many cores everybody else used, from the start of this to `cores`; NaN if not on Linux."""

    def __init__(self) -> None:
        self._started, self._all_s, self._own_s = time.perf_counter(), _cpu_of_all_s(), time.process_time()

    def cores(self, ours_s: float) -> float:
        """Return the cores, given the CPU seconds of the processes that are not others."""
        own_s = time.process_time() - self._own_s
        others_s = _cpu_of_all_s() - self._all_s - own_s - ours_s
        return max(0.0, others_s) / (time.perf_counter() - self._started) if self._all_s else float("nan")


def part(script: str, *arguments: object) -> list[str]:
    """Make the command that runs one part of a benchmark in a process of its own."""
    return [sys.executable, script, "--part", *map(str, arguments)]


def wait_for_all(processes: Sequence[Process]) -> Senders:
    """Wait until the processes have ended, and then until their senders have."""
    senders = Senders()
    while running := [process.pid for process in processes if not process.has_ended()]:
        senders.look(running)
        time.sleep(LOOK_S)
    senders.wait_until_gone()
    return senders


class Senders:
    """The senders that some processes started. They are found through /proc, so on Linux only."""

    def __init__(self) -> None:
        self.peak_mb: dict[int, float] = {}  # resident memory by pid, pages shared with others included
        self.peak_of_all_mb = 0.0  # of all at one moment, each shared page counted once
        self.cpu_s: dict[int, float] = {}  # user and system time by pid, as it was at the last look

    def look(self, parents: Iterable[int]) -> None:
        """Take note of new senders, and of the memory that all of them have now."""
        for parent in parents:
            for child in _read(f"/proc/{parent}/task/{parent}/children").split():
                if _is_sender(int(child)):
                    self.peak_mb.setdefault(int(child), 0.0)
        alive = self.alive()
        for pid in alive:
            self.peak_mb[pid] = max(self.peak_mb[pid], _mb(f"/proc/{pid}/status", "VmHWM:"))
            self.cpu_s[pid] = max(self.cpu_s.get(pid, 0.0), _cpu_s(pid))
        shares = sum(_mb(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in alive)
        self.peak_of_all_mb = max(self.peak_of_all_mb, shares)

    def alive(self) -> list[int]:
        """Which of them run."""
        return [pid for pid in self.peak_mb if _is_sender(pid)]

    def wait_until_gone(self) -> None:
        """Wait until the last one has ended."""
        deadline = time.monotonic() + GONE_S
        while self.alive():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the senders {self.alive()} still run after {GONE_S:g} s")
            self.look(())
            time.sleep(LOOK_S)


def _is_sender(pid: int) -> bool:
    return "mlobs.sender" in _read(f"/proc/{pid}/cmdline")


def _mb(file: str, field: str) -> float:
    """Find a field in kB in one of the tables of /proc."""
    line = next((line for line in _read(file).splitlines() if line.startswith(field)), "0 0 kB")
    return int(line.split()[1]) / 1024


def _cpu_s(pid: int) -> float:
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12]) if fields else 0  # utime and stime, see proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


def _cpu_of_all_s() -> float:
    """CPU time of all processes since the boot: everything but idle and iowait, see proc(5)."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = _read("/proc/stat").split()[1:8] or ["0"] * 7
    return sum(map(int, (user, nice, system, irq, softirq))) / os.sysconf("SC_CLK_TCK")


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:  # the process has ended, or this is not Linux
        return ""


def _content(file: Any) -> str:
    file.seek(0)
    text: str = file.read().decode("utf-8", "replace")
    file.close()
    return text


def _last_json(text: str) -> dict[str, Any]:
    lines = text.strip().splitlines()
    return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}


def resident_mb() -> float:
    """Return this process's resident memory now."""
    return _mb("/proc/self/smaps_rollup", "Rss:")  # exact, unlike VmRSS, which lags behind
