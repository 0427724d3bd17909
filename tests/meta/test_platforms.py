"""Without the names that only POSIX has, every module still imports, and a run is recorded.

The standard library and the dependencies are imported first: they know their own platform.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import imports, is_standard, modules

# "Availability: Linux", or "Unix", in the library's documentation: macOS, or Windows, has none of them.
LINUX_OS = """
    pidfd_open posix_fallocate posix_fadvise sched_getaffinity sched_setaffinity memfd_create eventfd
    fdatasync
"""
POSIX_OS = """
    fork forkpty register_at_fork nice setsid setpgid getpgid getpgrp killpg wait3 wait4 WNOHANG
    posix_spawn pread preadv pwrite pwritev sendfile sync mkfifo mknod major minor makedev statvfs
    fstatvfs uname getuid geteuid getgid getegid getgroups sched_yield getpriority setpriority getloadavg
    fchmod fchown chown lchown lockf openpty set_blocking get_blocking O_CLOEXEC O_NONBLOCK O_SYNC O_DSYNC
    O_DIRECTORY
"""
POSIX_SIGNAL = """
    SIGHUP SIGKILL SIGQUIT SIGALRM SIGCHLD SIGPIPE SIGUSR1 SIGUSR2 SIGTSTP SIGCONT SIGSTOP alarm setitimer
    pthread_sigmask pthread_kill sigpending sigwait siginterrupt pause
"""
LINUX_ONLY = {"os": LINUX_OS.split(), "select": ["epoll"], "mmap": ["MAP_POPULATE"]}
POSIX_ONLY = {
    "os": LINUX_OS.split() + POSIX_OS.split(),
    "signal": POSIX_SIGNAL.split(),
    "select": ["epoll", "poll"],
    "mmap": ["PROT_READ", "PROT_WRITE", "MAP_SHARED", "MAP_POPULATE"],
    "time": ["tzset", "clock_gettime"],
}
POSIX_ONLY_MODULES = ["fcntl", "resource", "grp", "pwd", "termios", "tty", "pty", "syslog"]
MACOS = ("darwin", LINUX_ONLY, [])
WINDOWS = ("not-posix", POSIX_ONLY, POSIX_ONLY_MODULES)
PLATFORMS = [pytest.param(MACOS, id="macos"), pytest.param(WINDOWS, id="windows")]
NAMES = [
    name for name in modules() if not name.startswith("mlobs.backends.") and not name.endswith("__main__")
]
FOREIGN = sorted(
    {
        one.target
        for name, path in modules().items()
        if name in NAMES
        for one in imports(name, path, modules())
        if one.is_eager and (is_standard(one.target) or one.target in ("msgspec", "typer", "rich"))
    }
    - set(POSIX_ONLY_MODULES)
)
STRIP = f"""
import asyncio, importlib, logging.handlers, shutil, subprocess, tempfile, sys
for name in {FOREIGN!r}:
    importlib.import_module(name)
import pandas
def strip(platform, names_of, modules):
    for module, names in names_of.items():
        for name in names:
            vars(sys.modules[module]).pop(name, None)
    sys.modules.update(dict.fromkeys(modules))
    sys.platform = platform
"""
RECORD = """
import mlobs
from mlobs.journal import files

tracker = mlobs.Tracker("churn", store="store")
with tracker.start_run("baseline", params={"lr": 0.1}) as run:
    for step in range(1000):
        run.log_metric("loss", 1.0 / (step + 1), step=step)
    run.log_text("notes", "x" * 100_000)
    assert isinstance(run._opened.writer._own().file, files.PlainFile), "a mapped file is for Linux alone"
"""
READ = """
import mlobs

[run] = mlobs.runs(store="store").to_dict("records")
assert (run["status"], run["params.lr"], run["metrics.loss"]) == ("FINISHED", 0.1, 0.001), run
assert len(mlobs.metrics(store="store")) == 1000
"""
DELIVER = """
import mlobs
from mlobs.testing import MemoryBackend

tracker = mlobs.Tracker(store="store", delivery="thread", backends=[MemoryBackend()])
with tracker.start_run() as run:
    run.log_metric("loss", 0.5)
assert run.delivery()["memory"].pending == 0, run.delivery()
"""


Platform = tuple[str, dict[str, list[str]], list[str]]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_module_imports(tmp_path: Path, platform: Platform) -> None:
    run_on(platform, tmp_path, f"for name in {NAMES!r}:\n    importlib.import_module(name)\n")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_run_is_recorded_with_written_files_and_read_back(tmp_path: Path, platform: Platform) -> None:
    run_on(platform, tmp_path, RECORD + READ)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_delivery_in_a_thread_goes_through(tmp_path: Path, platform: Platform) -> None:
    run_on(platform, tmp_path, DELIVER)


def run_on(platform: Platform, folder: Path, program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{STRIP}\nstrip(*{platform!r})\n{program}"],
        cwd=folder,
        env={**os.environ, "MLOBS_FINISH_TIMEOUT_S": "5"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode != 0:
        pytest.fail(done.stderr[-3000:])
