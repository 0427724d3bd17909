"""Runs a program for as long as its standard input stays open: `python guard.py PROGRAM...`.

The other end of that pipe is held by the process that wanted the program. However that one ends, by
Ctrl-C or `kill -9`, the pipe closes, and the program ends with all processes that it started. This
file is run by its path and imports nothing of mlobs, so that it is there in some 20 ms.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

PATIENCE_S = 5.0  # that a program has to end by itself
REST_S = 0.3  # that its workers have, once it has ended


def main() -> int:
    """Run the program and return its exit code; end it once nobody wants it any more."""
    program = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 - given
    threading.Thread(target=_end_with_the_pipe, args=(program,), daemon=True).start()
    code = program.wait()
    _signal(program, signal.SIGTERM)  # what it started and left behind
    time.sleep(REST_S)
    _end_for_good(program)
    return code


def _end_with_the_pipe(program: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 1):
        pass  # nothing is ever written there: this waits for the end
    _signal(program, signal.SIGTERM)
    time.sleep(PATIENCE_S)
    _end_for_good(program)


def _end_for_good(program: "subprocess.Popen[bytes]") -> None:
    _signal(program, getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows knows but one


def _signal(program: "subprocess.Popen[bytes]", number: int) -> None:
    """Send a signal to the program and all that it started; Windows reaches the program alone."""
    if not hasattr(os, "killpg"):
        program.terminate()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):  # all have ended; macOS says it so
        os.killpg(program.pid, number)


if __name__ == "__main__":
    sys.exit(main())
