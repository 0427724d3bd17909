"""Where the console prints: this process's standard error, or the terminal of the program's.

The sender has no terminal: it lives in a session of its own, and its output is a file. So it opens
the program's own standard error, by its number in /proc, each time that it prints, if that is a
terminal. A file or a pipe is left alone: what two processes write there would be mixed up.
"""

from __future__ import annotations

import os
import platform
import select
import stat
import sys
import time
from pathlib import Path
from typing import Protocol

from mlobs.errors import Unavailable
from mlobs.events import Process

NOWHERE = "printed nowhere: the program's standard error is no terminal that can be reached"
PLAIN_WIDTH = 120  # columns where there is no terminal to ask
TAKES_S = 5.0  # a terminal that takes nothing for so long was stopped
_STARTED = 19  # field of /proc/PID/stat behind the ")", see proc(5): starttime
_STDERR = 2


class Screen(Protocol):
    """Something to print on; `is_terminal` tells whether it shows colours."""

    is_terminal: bool
    width: int

    def show(self, text: str) -> str:
        """Print the text, and return "", or why it cannot be printed here.

        Raises:
            Unavailable: not now.
        """
        ...


def of(process: Process) -> Screen | None:
    """Find where a run of this process is printed, None if nowhere.

    In the process itself that is `sys.stderr`; anywhere else its terminal, and if it has none or is
    gone, this process's own: somebody who types `mlobs sync` reads there.
    """
    if _is_this(process):
        return None if sys.stderr is None else OwnScreen()
    if _is_there(process) and (width := _terminal_width(process.pid)):
        return Terminal(process.pid, width)
    return OwnScreen() if _own_is_terminal() else None


class OwnScreen:
    """`sys.stderr` of this process, whatever stands there, such as a notebook's."""

    def __init__(self) -> None:
        self.is_terminal = _own_is_terminal()
        self.width = _width(_STDERR) if self.is_terminal else PLAIN_WIDTH

    def show(self, text: str) -> str:
        """Print the text, and return "", or why it cannot be printed."""
        try:
            sys.stderr.write(_over_the_line(text) if self.is_terminal and text else text)
            sys.stderr.flush()
        except (OSError, ValueError) as error:  # gone, or closed
            return f"printed nowhere: {error}"
        return ""


class Terminal:
    """The terminal that another process's standard error is."""

    is_terminal = True

    def __init__(self, pid: int, width: int) -> None:
        self._pid, self.width = pid, width

    def show(self, text: str) -> str:
        """Print the text, and return "", or why it cannot be printed.

        Raises:
            Unavailable: the terminal takes nothing now.
        """
        if not text:
            return ""
        try:
            fd = _open(self._pid)
        except OSError as error:
            return f"printed nowhere: {error}"
        try:
            _write(fd, _over_the_line(text).encode("utf-8", "replace"))
        except BlockingIOError as error:
            raise Unavailable("the terminal takes nothing - was it stopped with Ctrl-S?") from error
        except OSError as error:  # its window was closed
            return f"printed nowhere: {error}"
        finally:
            os.close(fd)
        return ""


def _write(fd: int, content: bytes) -> None:
    """Write everything, waiting for a terminal that is slow."""
    deadline = time.monotonic() + TAKES_S
    while content:
        try:
            content = content[os.write(fd, content) :]
            deadline = time.monotonic() + TAKES_S
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            select.select([], [fd], [], TAKES_S)


def _over_the_line(text: str) -> str:
    """Begin at the left: a progress bar is written over, and drawn again by its next update."""
    return f"\r\x1b[K{text}"


def _is_this(process: Process) -> bool:
    return process.pid == os.getpid() and process.host == _host() and _started(process) == process.started


def _is_there(process: Process) -> bool:
    """Tell whether this very process runs here; where that cannot be told (no /proc), it does not."""
    return process.started > 0 and process.host == _host() and _started(process) == process.started


def _host() -> str:
    return platform.node() or "localhost"


def _started(process: Process) -> int:
    try:
        content = Path(f"/proc/{process.pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(content.rpartition(b")")[2].split()[_STARTED])


def _open(pid: int) -> int:
    """Open a terminal anew, so that not waiting for it concerns nobody else; it does not become ours."""
    return os.open(f"/proc/{pid}/fd/{_STDERR}", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)


def _terminal_width(pid: int) -> int:
    """The columns of a process's terminal, 0 if it has none.

    A pipe is not opened: whoever reads it waits until the last one who has it open is gone.
    """
    try:
        if not stat.S_ISCHR(Path(f"/proc/{pid}/fd/{_STDERR}").stat().st_mode):
            return 0
        fd = _open(pid)
    except OSError:
        return 0  # it is somebody else's process, or has just ended
    try:
        return _width(fd) if os.isatty(fd) else 0
    finally:
        os.close(fd)


def _own_is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # None or somebody's own class; closed
        return False


def _width(fd: int) -> int:
    try:
        return os.get_terminal_size(fd).columns or PLAIN_WIDTH
    except (OSError, ValueError):
        return PLAIN_WIDTH
