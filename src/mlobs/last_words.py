"""How an end is recorded: as the run's, or as that of a process which took part in it."""

from __future__ import annotations

import os
import platform
from time import time

from mlobs.events import Log, RunFinished
from mlobs.program import Ending
from mlobs.secrets import Redaction
from mlobs.values import text_of


def finished(ending: Ending, unrecorded: int) -> RunFinished:
    """The event of an ending whose words came from anywhere, such as an exception about a file's name."""
    public = Redaction(environment=os.environ).text
    trace = None if ending.traceback is None else public(text_of(ending.traceback))
    reason = public(text_of(ending.reason))
    return RunFinished(time(), ending.status, reason, trace, ending.exit_code, unrecorded)


def failed_here(ending: Ending, rank: int) -> Log:
    """What went wrong in a process that does not end the run."""
    public = Redaction(environment=os.environ).text
    trace = None if ending.traceback is None else public(text_of(ending.traceback))
    who = f"rank {rank}, " if rank else ""
    words = f"{who}pid {os.getpid()} on {platform.node()} left the run: {ending.status}"
    reason = public(text_of(ending.reason))
    return Log(time(), f"{words}, {reason}" if reason else words, "ERROR", "mlobs", exception=trace)
