"""How many files this process may have open, and how many of them runs may use."""

from __future__ import annotations

import contextlib

try:
    import resource
except ImportError:  # Windows: no such limit
    resource = None  # type: ignore[assignment]

ENOUGH = 1 << 12  # more runs at a time would only cost more to look after
WITHOUT_LIMIT = 1024
_SHARE = 4  # of all descriptors: vendors' connections and the trainer, in a thread of it, need theirs


def raise_limit() -> None:
    """Allow this process as many open files as its user may have: a sweep has thousands of runs."""
    if resource is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with contextlib.suppress(ValueError, OSError):  # macOS has a limit of its own below `hard`
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def room_for_runs() -> int:
    """How many runs may hold a descriptor at a time."""
    soft = WITHOUT_LIMIT if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    is_bounded = resource is not None and soft != resource.RLIM_INFINITY
    return max(1, (min(soft, ENOUGH) if is_bounded else WITHOUT_LIMIT) // _SHARE)
