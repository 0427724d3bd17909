"""`mlobs plot`: a metric of runs as a chart in the terminal."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlobs.cli.columns import without_metric
from mlobs.cli.options import (
    CsvOption,
    ExperimentOption,
    JsonOption,
    MetricArgument,
    SinceOption,
    StatusOption,
    StoreOption,
    WhereOption,
    runs_argument,
)
from mlobs.cli.output import iso, print_csv, print_json
from mlobs.errors import MissingPackage, UsageError
from mlobs.journal.store import Store
from mlobs.read.frames import Choice, read_runs
from mlobs.read.location import find_runs, open_store
from mlobs.read.no_runs import no_such_runs
from mlobs.read.run_summary import RunSummary
from mlobs.text import printable

if TYPE_CHECKING:
    import pandas as pd

MOST_RUNS = 8  # curves that a terminal's colours and letters still tell apart
_LEAST = (40, 12)  # characters and lines that a chart needs to be one
_IN_A_PIPE = (100, 25)
_LETTERS = "abcdefgh"  # in a pipe, which has no colours
_COLOURS = (4, 3, 2, 1, 5, 6, 12, 8)  # of the terminal's own palette: readable on light and dark


def plot(  # noqa: PLR0913 - each is an option of its own
    metric: MetricArgument,
    runs: Annotated[list[str] | None, runs_argument(f"Default: the newest {MOST_RUNS}.")] = None,
    *,
    smooth: Annotated[
        float | None,
        typer.Option(help="Smooth: a weight from 0 to below 1 as in TensorBoard, or a number of points."),
    ] = None,
    time: Annotated[bool, typer.Option("--time", help="Beside seconds since the run's start.")] = False,
    log: Annotated[bool, typer.Option("--log", help="A logarithmic axis of values.")] = False,
    width: Annotated[int | None, typer.Option(min=_LEAST[0], help="Characters. Default: all.")] = None,
    height: Annotated[int | None, typer.Option(min=_LEAST[1], help="Lines. Default: most of it.")] = None,
    store: StoreOption = None,
    experiment: ExperimentOption = None,
    status: StatusOption = None,
    where: WhereOption = None,
    since: SinceOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Draw a metric of runs: beside steps, or beside the time since a run's start.

    \b
    mlobs plot loss
    mlobs plot val/loss 20240131-1200 latest --smooth 0.6 --log
    mlobs plot loss --experiment churn --since 1d

    Where there are more points than characters, the least and the greatest of each column are drawn. NaN
    and infinities are not. It needs: pip install 'mlobs[plot]'. --json and --csv print the points.
    """  # noqa: D301 - \b itself is meant: it keeps the lines of the examples apart
    opened = open_store(store)
    choice = Choice.of(
        experiment=experiment, status=status.value if status else None, where=where, since=since
    )
    taken = _taken(opened, runs, choice)
    if not taken:
        raise UsageError(no_such_runs(opened, choice))
    names = _having(taken, metric, is_named=bool(runs))
    axis = "elapsed_s" if time else "step"
    frame = _points(opened, names, metric, smooth, "time" if time else "step")
    if as_json or as_csv:
        _print_points(frame, axis, as_csv=as_csv)
        return
    typer.echo(_chart(frame, names, metric, axis, _size(width, height), is_log=log))


def _taken(store: Store, runs: list[str] | None, choice: Choice) -> list[RunSummary]:
    wanted = {folder.run_id for folder in find_runs(store, runs)} if runs else None
    taken = [one for one in read_runs(store, choice) if wanted is None or one.run_id in wanted]
    without = sorted((wanted or set()) - {one.run_id for one in taken})
    if taken and without:
        typer.echo(f"not drawn, as other runs were asked for: {', '.join(without)}", err=True)
    return taken


def _having(taken: list[RunSummary], metric: str, *, is_named: bool) -> dict[str, str]:
    """The runs to draw: what to call each, by its id."""
    having = [one for one in taken if metric in one.metrics]
    if not having:
        raise without_metric(taken, metric)
    if is_named and len(having) < len(taken):
        without = ", ".join(one.run_id for one in taken if one not in having)
        typer.echo(f"not drawn, for want of {metric!r}: {without}", err=True)
    if not is_named and len(having) > MOST_RUNS:
        count = len(having) - MOST_RUNS
        left_out = "1 older run is" if count == 1 else f"{count:,} older runs are"
        typer.echo(f"{left_out} left out - name the runs to draw", err=True)
        having = having[-MOST_RUNS:]
    return {one.run_id: f"{one.name or one.experiment} {one.run_id}".strip() for one in having}


def _points(
    store: Store, names: dict[str, str], metric: str, smooth: float | None, align: Any
) -> pd.DataFrame:
    from mlobs.read.point_frames import metrics

    frame = metrics(store=store, run_ids=list(names), keys=metric, smooth=smooth, align=align)
    if smooth is not None:
        frame["value"] = frame.pop("smoothed")
    return frame


def _print_points(frame: pd.DataFrame, axis: str, *, as_csv: bool) -> None:
    columns = list(dict.fromkeys(["run_id", "key", "step", axis, "value", "at"]))
    rows = frame[columns].itertuples(index=False, name=None)
    if as_csv:
        print_csv(columns, rows)
        return
    documents = [dict(zip(columns, row, strict=True)) for row in rows]
    print_json([one | {"at": iso(one["at"])} for one in documents])


def _size(width: int | None, height: int | None) -> tuple[int, int]:
    if sys.stdout.isatty():
        columns, lines = shutil.get_terminal_size()
        there = (columns, lines - 3)  # the prompt stays in sight
    else:
        there = _IN_A_PIPE
    return max(_LEAST[0], width or there[0]), max(_LEAST[1], height or there[1])


def _chart(
    frame: pd.DataFrame,
    names: dict[str, str],
    metric: str,
    axis: str,
    size: tuple[int, int],
    *,
    is_log: bool,
) -> str:
    """The chart, and under it a line for each run: a legend inside would lie on the curves."""
    try:
        plotext: Any = import_module("plotext")  # it has no types
    except ImportError as error:
        raise MissingPackage("plotext", "plot") from error
    is_coloured = sys.stdout.isatty()
    figure = _empty(plotext.figure, metric, axis, (size[0], size[1] - len(names)))
    legend: list[str] = []
    steps: list[float] = []
    values: list[float] = []
    for index, (run_id, name) in enumerate(names.items()):
        x, y = _thinned(*_curve(frame, run_id, axis, is_positive=is_log), size[0])
        letter, colour = _LETTERS[index % len(_LETTERS)], _COLOURS[index % len(_COLOURS)]
        is_line = is_coloured or len(names) == 1
        marker = plotext.marker("braille" if is_line else letter, colour if is_coloured else None)
        if x:
            y = [math.log10(value) for value in y] if is_log else y  # its own scale fails with ticks of ours
            steps += [min(x), max(x)]
            values += [min(y), max(y)]
            signal = figure.signal(x, y, marker=marker)
            figure.draw(signal.lines() if is_line else signal)
            sign = typer.style("--", fg=colour) if is_coloured else "--" if is_line else letter
            legend.append(f" {sign} {printable(name)}")
    if not legend:
        raise UsageError(f"metric {metric!r} has no {'positive ' if is_log else ''}finite values to draw")
    most = max(2, min(7, size[0] // 12))
    across = ticks(steps, most, is_whole=axis == "step")
    figure.ruler(0).ticks(across, tick_names(across, is_whole=axis == "step"))
    up = ticks(values, 5)
    figure.ruler(1).ticks(up, tick_names([10**place for place in up] if is_log else up))
    drawn: str = figure.build().string(colorless=not is_coloured)
    return "\n".join([drawn.rstrip("\n"), *legend])


def _empty(figure: Any, metric: str, axis: str, size: tuple[int, int]) -> Any:
    figure.clear()
    figure.theme("colorless")  # the terminal's own colours
    figure.plot_size(size[0], max(_LEAST[1], size[1]))
    figure.title(metric)
    figure.label({"step": "step", "elapsed_s": "seconds since the start"}[axis], axis=0)
    return figure


def ticks(values: Sequence[float], most: int, *, is_whole: bool = False) -> list[float]:
    """Return places from the least to the greatest value, both of them with it; whole ones for steps."""
    low, high = min(values), max(values)
    shares = [at / (most - 1) for at in range(1, most - 1)]
    between = [low * (1 - share) + high * share for share in shares]
    places = {low, *(map(round, between) if is_whole else between), high}
    return sorted(places)


def tick_names(places: Sequence[float], *, is_whole: bool = False) -> list[str]:
    """Return the places as texts, with the digits that tell them apart."""
    if is_whole:
        return [f"{place:.0f}" for place in places]
    names: list[str] = []
    for digits in range(3, 18):
        names = [f"{place:.{digits}g}" for place in places]
        if len(set(names)) == len(names):
            break
    return names


def _curve(frame: pd.DataFrame, run_id: str, axis: str, *, is_positive: bool) -> tuple[Any, Any]:
    import numpy as np

    rows = frame[(frame["run_id"] == run_id) & np.isfinite(frame["value"])]
    rows = rows[rows["value"] > 0] if is_positive else rows
    return rows[axis].to_numpy(float), rows["value"].to_numpy(float)


def _thinned(x: Any, y: Any, columns: int) -> tuple[list[float], list[float]]:
    """Points in the order of `x`; of many, those that reach lowest and highest in each half column."""
    import numpy as np

    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    bins = 2 * columns
    if len(x) > 2 * bins:
        edges = np.linspace(0, len(x), bins + 1).astype(int)
        parts = list(pairwise(edges))
        least = [start + int(np.argmin(y[start:stop])) for start, stop in parts]
        greatest = [start + int(np.argmax(y[start:stop])) for start, stop in parts]
        kept = np.unique([0, *least, *greatest, len(x) - 1])
        x, y = x[kept], y[kept]
    return x.tolist(), y.tolist()
