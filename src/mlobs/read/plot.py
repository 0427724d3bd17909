"""Metric curves of one run as a figure of plotly."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from mlobs.errors import MissingPackage, UsageError
from mlobs.moments import date_of
from mlobs.read.points import Points
from mlobs.read.shapes import smoothed_values

Axis: TypeAlias = Literal["step", "time"]
_AXES = ("step", "time")


def plot_metrics(points: Points, keys: tuple[str, ...], *, title: str, x: Axis, smooth: float) -> Any:
    """Return a `plotly.graph_objects.Figure` of metrics, see `RunRecord.plot`."""
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise MissingPackage("plotly", "report") from error
    if x not in _AXES:
        raise UsageError(f"x is {x!r}; expected 'step' or 'time'")
    if not 0 <= smooth < 1:
        raise UsageError(f"smooth is {smooth!r}; expected 0 (as recorded) up to, and without, 1")
    known = tuple(points.last())
    names = keys or known
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"{title} has no metric {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    figure = go.Figure()
    for name in names:
        across, values = _line(points, name, x)
        if smooth:
            values = smoothed_values(values, smooth)
        figure.add_scatter(x=across, y=values, mode="lines", name=plain(name))
    figure.update_layout(title=plain(title), xaxis_title="time (UTC)" if x == "time" else "step")
    return figure


def plain(text: str) -> str:
    """Text that plotly shows as it is: it reads some markup in titles and labels."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _line(points: Points, name: str, x: Axis) -> tuple[list[Any], list[float]]:
    code = points.names[name]
    rows = [row for row, one in enumerate(points.codes) if one == code]
    if x == "step":
        rows.sort(key=points.steps.__getitem__)
        return [points.steps[row] for row in rows], [points.values[row] for row in rows]
    moments = [date_of(points.ats[row]) for row in rows]
    return moments, [points.values[row] for row in rows]
