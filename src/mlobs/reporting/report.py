"""`mlobs.report`: runs as one HTML file."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mlobs.errors import StoreError
from mlobs.names import SYSTEM_PREFIX
from mlobs.read.frames import Choice, Where
from mlobs.read.html import escaped
from mlobs.read.location import StoreLike
from mlobs.read.points import Summary
from mlobs.read.record import RunRecord
from mlobs.reporting.choice import Chosen, RunsLike, choose
from mlobs.reporting.colours import DARK, DASHES, LIGHT
from mlobs.reporting.comparing import comparison_html
from mlobs.reporting.curves import Curves, curves_of
from mlobs.reporting.curves import document as curve_document
from mlobs.reporting.details import delivery_html, details_html
from mlobs.reporting.differences import differences
from mlobs.reporting.document import document, plotly_js
from mlobs.reporting.gallery import gallery_html
from mlobs.reporting.matrices import matrices_html
from mlobs.reporting.panels import chart_controls, param_controls, table_controls
from mlobs.reporting.pictures import pictures_of
from mlobs.reporting.table import columns_of, table_html, varying_params
from mlobs.version import __version__

DEFAULT_LIMIT = 50  # runs: as many lines have a colour and a dash of their own


def report(  # noqa: PLR0913 - each is an option of its own
    runs: RunsLike = None,
    path: str | os.PathLike[str] = "report.html",
    *,
    store: StoreLike = None,
    experiment: str | None = None,
    status: str | None = None,
    where: Where = None,
    since: datetime | str | None = None,
    limit: int = DEFAULT_LIMIT,
    title: str | None = None,
) -> Path:
    """Write runs into one HTML file that opens without a network, and return its path.

    `runs` are ids (unique beginnings and "latest" too), records, or a frame with a column `run_id`, in the
    order they are shown; None takes the newest `limit` of the store, and 0 is all. `experiment`, `status`,
    `where` and `since` choose among them as in `mlobs.runs`. A file that is there is replaced, at once.
    Curves are thinned to what a screen shows; each bucket keeps its least and greatest value. 20 runs of 10
    metrics and 10,000 points make about 4 MB.

    Raises:
        UsageError: a run is not there, or there is none, or a condition is not understood.
        MissingPackage: plotly is not installed.
        StoreError: there is no such store, or the file cannot be written.
    """
    choice = Choice.of(experiment=experiment, status=status, where=where, since=since)
    return write(runs, path, store=store, choice=choice, limit=limit, title=title)[0]


def write(
    runs: RunsLike,
    path: str | os.PathLike[str],
    *,
    store: StoreLike = None,
    choice: Choice | None = None,
    limit: int = DEFAULT_LIMIT,
    title: str | None = None,
) -> tuple[Path, Chosen]:
    """Write as `report` does, and return the runs with the path."""
    plotly_js()
    chosen = choose(runs, store=store, choice=choice or Choice(), limit=limit)
    records = chosen.records
    target = Path(path).expanduser().absolute()
    content = _page(chosen, title or _title(records)).encode("utf-8", "backslashreplace")
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):  # where it could not even be begun
            unfinished.unlink()
        raise StoreError(
            error.errno or 0, f"the report cannot be written: {error.strerror}", str(target)
        ) from error
    return target, chosen


def _page(chosen: Chosen, title: str) -> str:
    records = chosen.records
    columns, curves = columns_of(records), curves_of(records)
    summaries = [record.points.summaries() for record in records]
    sections = (
        ("runs", "Runs", table_controls(columns) + table_html(records, columns)),
        ("curves", "Curves", chart_controls(records, curves) if curves.of else ""),
        ("params", "Params and metrics", param_controls() if len(records) > 1 and curves.of else ""),
        ("differences", "What differs", comparison_html(records, differences(records))),
        ("matrices", "Confusion matrices", matrices_html(records)),
        ("images", "Images", gallery_html(records, pictures_of(records))),
        ("delivery", "Delivery", delivery_html(records)),
        ("details", "Each run", details_html(records, summaries)),
    )
    made = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
    number = ("The newest " if chosen.is_cut else "") + f"{len(records):,} run{'s' * (len(records) != 1)}"
    left_out = "; older ones are left out" if chosen.is_cut else ""
    of = escaped(_experiments(records))
    about = f"{number}, {of}{left_out}. Made {made} by mlobs {escaped(__version__)}."
    return document(title, [one for one in sections if one[2]], _data(records, curves, summaries), about)


def _data(
    records: Sequence[RunRecord], curves: Curves, summaries: Sequence[Mapping[str, Summary]]
) -> dict[str, Any]:
    """What the charts draw."""
    starts = [record.started.timestamp() if record.started else 0.0 for record in records]
    of = {
        name: [{"r": run} | curve_document(curve, starts[run]) for run, curve in several]
        for name, several in curves.of.items()
    }
    return {
        "runs": [_run(*one) for one in zip(records, starts, summaries, strict=True)],
        "curves": of,
        "system": [name for name in of if name.startswith(SYSTEM_PREFIX)],
        "varying": varying_params(records),
        "light": LIGHT,
        "dark": DARK,
        "dashes": DASHES,
    }


def _run(record: RunRecord, start: float, summaries: Mapping[str, Summary]) -> dict[str, Any]:
    return {
        "id": record.run_id,
        "name": record.name or record.run_id,
        "start": round(start * 1000),
        "params": {name: _plain(value) for name, value in record.params.items()},
        "metrics": {
            name: [_plain(one.last), _plain(one.min), _plain(one.max)] for name, one in summaries.items()
        },
    }


def _plain(value: Any) -> Any:
    """A value for JSON: what is no number that can be drawn is a text."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)[:120]


def _title(records: Sequence[RunRecord]) -> str:
    if len(records) == 1:
        return records[0].name or records[0].run_id
    experiments = {record.experiment for record in records}
    return experiments.pop() if len(experiments) == 1 else f"{len(records)} runs"


def _experiments(records: Sequence[RunRecord]) -> str:
    experiments = list(dict.fromkeys(record.experiment for record in records))
    if len(experiments) == 1:
        return f"experiment {experiments[0]}"
    return f"experiments {', '.join(experiments[:5])}{', …' if len(experiments) > 5 else ''}"  # noqa: PLR2004
