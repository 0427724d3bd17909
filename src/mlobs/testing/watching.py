"""What leaves the process while something is done: files opened for writing, connections, threads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_WRITING = ("os.mkdir", "os.rename", "os.remove", "socket.connect", "socket.bind", "subprocess.Popen")
_touched: list[str] | None = None
_is_hooked = False


@contextmanager
def watched() -> Iterator[list[str]]:
    """Note what files are opened for writing, and what else leaves the process, meanwhile."""
    global _touched, _is_hooked  # noqa: PLW0603 - Python's audit hooks stay for ever: one looks for all
    if not _is_hooked:
        sys.addaudithook(_note)
        _is_hooked = True
    found: list[str] = []
    _touched = found
    try:
        yield found
    finally:
        _touched = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _touched is None:
        return
    is_writing = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if is_writing or event in _WRITING or event in ("sqlite3.connect", "_thread.start_new_thread"):
        _touched.append(f"{event} {arguments[0] if arguments else ''}")
