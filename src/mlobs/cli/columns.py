"""What a run has under a key that somebody typed: a fact, a metric, a param or a tag."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mlobs.cli.output import moment, number
from mlobs.errors import UsageError
from mlobs.names import SYSTEM_PREFIX, nearest_names
from mlobs.read.aggregates import AGGREGATES
from mlobs.read.run_summary import RunSummary
from mlobs.text import param_text, shortened

FACTS = ("run_id", "experiment", "name", "status", "started", "ended", "reason", "parent_run_id")
_MORE_FACTS = ("duration_s",)


def value_of(run: RunSummary, key: str) -> Any:
    """What a run has under a key, None if nothing."""
    if key in FACTS or key in _MORE_FACTS:
        return getattr(run, key)
    group, _, name = key.partition(".")
    if group == "metrics" and (found := _of_metric(run, name)) is not None:
        return found
    groups = {"params": run.params, "tags": run.tags}
    if group in groups and name in groups[group]:
        return groups[group][name]
    if (found := _of_metric(run, key)) is not None:
        return found
    return next((values[key] for values in groups.values() if key in values), None)


def _of_metric(run: RunSummary, name: str) -> float | None:
    if name in run.metrics:
        return run.metrics[name].last
    stem, _, aggregate = name.rpartition(".")
    if stem in run.metrics and aggregate in AGGREGATES:
        value: float = getattr(run.metrics[stem], aggregate)
        return value
    return None


def keys_of(found: Sequence[RunSummary]) -> list[str]:
    """Every key that any of the runs has something under."""
    keys = dict.fromkeys(FACTS)
    for group in ("metrics", "params", "tags"):
        for run in found:
            keys |= dict.fromkeys(f"{group}.{name}" for name in getattr(run, group))
    return list(keys)


def sort_runs(found: Sequence[RunSummary], key: str, *, is_reversed: bool) -> list[RunSummary]:
    """Runs by what they have under a key, smallest first; those that lack it come last.

    Raises:
        UsageError: none of them has it.
    """
    values = [value_of(run, key) for run in found]
    if found and all(value is None for value in values):
        raise UsageError(f"no run has {key!r}; --sort takes {', '.join(keys_of(found))}")
    having = [(_rank(value), run) for value, run in zip(values, found, strict=True) if _has(value)]
    lacking = [run for value, run in zip(values, found, strict=True) if not _has(value)]
    having.sort(key=lambda item: item[0], reverse=is_reversed)
    return [run for _, run in having] + lacking


def without_metric(runs: Sequence[RunSummary], metric: str) -> UsageError:
    """The error that none of the chosen runs has the metric."""
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    known = [name for name in names if not name.startswith(SYSTEM_PREFIX) or metric.startswith(SYSTEM_PREFIX)]
    return UsageError(f"no such run has a metric {metric!r}; {nearest_names(metric, known)}")


def cell(value: Any) -> str:
    """A value in a table for people."""
    if value is None:
        return ""
    if isinstance(value, float):
        return number(value)
    return moment(value) if hasattr(value, "timestamp") else param_text(value)


def short(value: Any, most: int) -> str:
    """A param in a table for people, in at most so many characters."""
    return "" if value is None else shortened(param_text(value), most, "--json")


def _has(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _rank(value: Any) -> tuple[int, Any]:
    """Order numbers before times before text, so that mixed values can be compared at all."""
    if isinstance(value, int | float):
        return 0, value
    return (1, value.timestamp()) if hasattr(value, "timestamp") else (2, param_text(value))
