"""The last resort: a call in C that keeps every thread of this process from running, its main one too."""

from __future__ import annotations

import faulthandler

_STDERR = 2  # by its number: what stands in `sys.stderr` need not be a file
LEAST_S = 10.0  # the main thread is away for seconds when it writes to a slow disk
MOST_S = 1e6  # there is a longest time that `faulthandler` takes; who waits for ever has none


def stay_awake(hang_timeout_s: float) -> None:
    """End this process, with its threads' tracebacks, if this is not called again in twice the time."""
    faulthandler.dump_traceback_later(min(MOST_S, max(LEAST_S, 2 * hang_timeout_s)), exit=True, file=_STDERR)


def rest() -> None:
    """Let the process live until the next call of `stay_awake`."""
    faulthandler.cancel_dump_traceback_later()
