"""The current run, and the module-level calls that go to it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mlobs.program import program
from mlobs.troubles import Troubles

if TYPE_CHECKING:
    from mlobs.run import Run

_current: ContextVar[Run | None] = ContextVar("mlobs_current_run", default=None)
_troubles = Troubles()


def enter(run: Run) -> Run | None:
    """Make the run current here, and return the one that was."""
    earlier = _current.get()
    _current.set(run)
    return earlier


def leave(run: Run, earlier: Run | None) -> None:
    """Make the earlier run current again, if this one still is."""
    if _current.get() is run:
        _current.set(earlier)


def current_run() -> Run | None:
    """The run that module-level calls go to here, or None.

    That is the run opened last in this context; in a thread started without a copied context, the
    process's one open run.
    """
    run = _current.get()
    if run is not None and run.is_open:
        return run
    still_open = [one for one in program().runs.values() if one.is_open and not one.parent_id]
    return still_open[0] if len(still_open) == 1 else None  # type: ignore[return-value]


def _on_current(call: str) -> Any:
    """Make the module-level function of a method of `Run`."""

    def function(*args: Any, **kwargs: Any) -> None:
        run = current_run()
        if run is None:
            key = args[0] if args and isinstance(args[0], str) else ""
            _troubles.report(f"mlobs.{call}", key, LookupError(_no_run()))
        else:
            getattr(run, call)(*args, **kwargs)

    function.__name__ = function.__qualname__ = call
    function.__doc__ = f"Call `Run.{call}` on the current run; with none, warn once and record nothing."
    return function


def _no_run() -> str:
    if len(program().runs) > 1:
        return "several runs are open and none is current here - call it on the Run object"
    return "no run is open - type: with mlobs.start_run(): ..."


log_metric = _on_current("log_metric")
log_metrics = _on_current("log_metrics")
log_param = _on_current("log_param")
log_params = _on_current("log_params")
set_tag = _on_current("set_tag")
set_tags = _on_current("set_tags")
log_text = _on_current("log_text")
log_dict = _on_current("log_dict")
log_artifact = _on_current("log_artifact")
log_artifacts = _on_current("log_artifacts")
