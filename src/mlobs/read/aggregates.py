"""Which of a metric's values stands for the run: the last, the least, or that of another's best step."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from mlobs.errors import UsageError
from mlobs.names import SYSTEM_PREFIX, nearest_names
from mlobs.read.points import Points
from mlobs.read.run_summary import RunSummary

Aggregate: TypeAlias = str | Mapping[str, str]
AGGREGATES = ("last", "first", "min", "max", "mean")
_AT = re.compile(r"at (min|max) (.+)", re.DOTALL)


class Chooser:
    """Chooses a value of each metric of a run.

    Args:
        aggregate: one of `AGGREGATES` for all metrics, or a mapping of metrics to one each; the others are
            then the last. "at max val/acc" is the value at the step at which another metric is best.
        points_of: reads the points of a run; asked only where such a step is wanted.

    Raises:
        UsageError: it is none of that.
    """

    def __init__(self, aggregate: Aggregate, points_of: Callable[[str], Points]) -> None:
        self._default = "last" if isinstance(aggregate, Mapping) else _checked(aggregate)
        of_metrics = aggregate if isinstance(aggregate, Mapping) else {}
        self._of_metrics = {name: _checked(word) for name, word in of_metrics.items()}
        self._points_of = points_of

    def values(self, run: RunSummary, *, system: bool = True) -> dict[str, float]:
        """A value of each metric that has one; `system`: also of those that tell the program's load."""
        chosen: dict[str, float] = {}
        at_best: dict[str, dict[str, float]] = {}  # by what is asked for, such as "at max val/acc"
        for name, summary in run.metrics.items():
            if not system and name.startswith(SYSTEM_PREFIX):
                continue
            word = self._of_metrics.get(name, self._default)
            at = _AT.fullmatch(word)
            if at is None:
                chosen[name] = getattr(summary, word)
                continue
            if word not in at_best:
                at_best[word] = self._at_best(run, at[2], at[1])
            if name in at_best[word]:
                chosen[name] = at_best[word][name]
        return chosen

    def check_names(self, runs: Sequence[RunSummary]) -> None:
        """Refuse a metric that was asked for by name and that none of these runs has, if they have others.

        Raises:
            UsageError: they have metrics, but not this one.
        """
        words = (self._default, *self._of_metrics.values())
        asked = [*self._of_metrics, *(at[2] for at in map(_AT.fullmatch, words) if at is not None)]
        known = list(dict.fromkeys(name for run in runs for name in run.metrics))
        for name in asked if known else ():
            if name not in known:
                raise UsageError(
                    f"aggregate: none of the runs has a metric {name!r} - {nearest_names(name, known)}"
                )

    def _at_best(self, run: RunSummary, metric: str, which: str) -> dict[str, float]:
        """The last value of each metric at the first step where this one is best."""
        if metric not in run.metrics:
            return {}
        points = self._points_of(run.run_id)
        best: float = getattr(run.metrics[metric], which)
        code = points.names.get(metric)
        rows = zip(points.codes, points.steps, points.values, strict=True)
        step = next((step for one, step, value in rows if one == code and value == best), None)
        rows = zip(points.codes, points.steps, points.values, strict=True)
        values = {one: value for one, at, value in rows if at == step}
        return {name: values[one] for name, one in points.names.items() if one in values}


def _checked(word: str) -> str:
    if word not in AGGREGATES and not (isinstance(word, str) and _AT.fullmatch(word)):
        raise UsageError(
            f"aggregate is {word!r}; expected one of {', '.join(AGGREGATES)}, or "
            '"at max METRIC", "at min METRIC": the value at the step where that metric is best'
        )
    return word
