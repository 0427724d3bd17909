"""The module-level way in: `mlobs.start_run` and `mlobs.track` on a tracker made from the settings."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mlobs.decorator import LogReturn, tracked
from mlobs.run import Run
from mlobs.tracker import Tracker

Function = TypeVar("Function", bound=Callable[..., Any])


def start_run(
    name: str | None = None,
    *,
    experiment: str | None = None,
    params: object = None,
    tags: Mapping[str, object] | None = None,
) -> Run:
    """Open a run on the default tracker (environment, config file, defaults); see `Tracker.start_run`."""
    return _default_tracker().start_run(name, experiment=experiment, params=params, tags=tags)


def track(
    function: Function | None = None,
    *,
    experiment: str | None = None,
    name: str | None = None,
    log_return: LogReturn = "metrics",
) -> Any:
    """Decorate a train function on the default tracker, made at the first call; see `Tracker.track`."""

    def decorate(inner: Function) -> Function:
        return tracked(
            inner, lambda run_name: start_run(run_name, experiment=experiment), name=name, log_return=log_return
        )

    return decorate if function is None else decorate(function)


def _default_tracker() -> Tracker:
    """The tracker of the settings as they are now; a new one only when they changed."""
    return _tracker_for(os.getcwd(), frozenset(item for item in os.environ.items() if item[0].startswith("MLOBS_")))


@functools.lru_cache(maxsize=8)
def _tracker_for(cwd: str, environment: frozenset[tuple[str, str]]) -> Tracker:
    del cwd, environment  # the keys: what the settings are made of
    return Tracker()
