"""A sender's signs of life: that the program lives, and what delivering costs."""

from __future__ import annotations

import os
import sys
import time

from mlobs.delivery.state import Vitals

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

BEAT_S = 60.0  # 40 bytes a minute and run; a reader on another host waits ten of them before it doubts
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, see getrusage(2)


def vitals() -> Vitals:
    """What this process can say of itself now."""
    times = os.times()
    return Vitals(
        at=time.time(),
        cpu_s=times.user + times.system,
        peak_bytes=0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT,
        niceness=os.nice(0) if hasattr(os, "nice") else 0,
    )
