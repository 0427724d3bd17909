"""The current run: the one that module-level calls go to."""

from __future__ import annotations

from contextvars import ContextVar

from mlobs.program import OpenRun, program

_current: ContextVar[OpenRun | None] = ContextVar("mlobs_current_run", default=None)


def enter(run: OpenRun) -> OpenRun | None:
    """Make the run current here, and return the one that was."""
    earlier = _current.get()
    _current.set(run)
    return earlier


def leave(run: OpenRun, earlier: OpenRun | None) -> None:
    """Make the earlier run current again, if this one still is."""
    if _current.get() is run:
        _current.set(earlier)


def current() -> OpenRun | None:
    """The run that module-level calls go to here, or None.

    That is the run opened last in this context; in a thread started without a copied context, the
    process's one open run.
    """
    run = _current.get()
    if run is not None and run.is_open:
        return run
    still_open = [one for one in program().runs.values() if one.is_open and not one.parent_id]
    return still_open[0] if len(still_open) == 1 else None
