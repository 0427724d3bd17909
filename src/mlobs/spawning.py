"""Starting the sender's process: its interpreter, its environment, its place behind the training."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from mlobs.journal import access, locks

_SENDER_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "PYTHONWARNINGS": "ignore",  # a trainer's "error" is meant for its own code; MLflow fails under it
}
_BOOTSTRAP = (  # not `-m`: that would put the working directory before the standard library
    "import sys; sys.path[:] = [*sys.path[sys.path[:1] == ['']:], sys.argv[1]]; "
    "import runpy; runpy.run_module('mlobs.sender', run_name='__main__')"
)


def spawn(output: Path) -> subprocess.Popen[bytes]:
    """Start a sender that waits for orders on its standard input, and writes what it has to say to a file.

    It lives in a session of its own: neither the terminal's Ctrl-C nor its end concerns it. The file is
    locked as long as it lives.

    Raises:
        OSError: there is no process, no descriptor or no room left.
    """
    with os.fdopen(access.open_file(output, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        with contextlib.suppress(OSError):  # no locks here
            locks.lock(file.fileno())  # what it starts shares it: git, which ends soon
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own module
            [sys.executable, "-c", _BOOTSTRAP, str(Path(__file__).parent.parent)],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            bufsize=0,
            start_new_session=True,
            env={**os.environ, **_SENDER_ENVIRONMENT},
        )
    _step_back(process.pid)
    return process


def import_path() -> tuple[bytes, ...]:
    """This process's import path, with the script's own folder last.

    There a file may be called like a module of the standard library, which a vendor would then
    import instead.
    """
    if getattr(sys.flags, "safe_path", False):
        return tuple(map(os.fsencode, sys.path))  # it has no such folder
    first, *rest = sys.path or [""]
    return tuple(os.fsencode(os.path.abspath(entry)) for entry in [*rest, first])  # noqa: PTH100 - "" is the working directory


def _step_back(pid: int) -> None:
    """Put a new sender behind the training before its interpreter has begun.

    It does so itself too, but only once it runs: that late, it cost a loop of 2 ms steps on two cores
    some 100 ms at the start, mostly in one step that waited for one of its BLAS threads.
    """
    if not hasattr(os, "setpriority"):
        return
    with contextlib.suppress(OSError):  # it has ended already
        os.setpriority(os.PRIO_PROCESS, pid, 19)
    with contextlib.suppress(OSError):  # no auto-groups here; see `_lower_group_priority` of the sender
        Path(f"/proc/{pid}/autogroup").write_text("19", encoding="ascii")
