"""Runs in a CSV file, in one of two forms; a column is found by its name, in any case.

Long, a row for each point:        run, key, step, value, at
Wide, a row for each step:         run, step, loss, accuracy, ..., at

`run` may be called `run_id`; without it the file is one run. `key` may be called `metric`, `name` or `tag`;
without it the one metric is called like the file, as in what TensorBoard's page lets people download. `at`
may be called `timestamp`, `time`, `wall_time` or `wall time`, and is Unix seconds or ISO 8601 (UTC, if no
zone is given). `step` may be called `global_step`, `iteration` or `epoch`, the first that is there; without
any, a run's rows are counted from 0. In the wide form columns `params.NAME` and `tags.NAME` are params and
tags, and `metrics.NAME` is the metric NAME. An empty cell is no value.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TextIO

from mlobs.errors import UsageError
from mlobs.events import Metrics, Params, RunFinished, RunStarted, Tags
from mlobs.moments import utc
from mlobs.moving.source import Piece, SourceRun
from mlobs.read.status import NOBODY

_RUN = ("run", "run_id")
_KEY = ("key", "metric", "name", "tag")
_STEP = ("step", "global_step", "iteration", "epoch")
_AT = ("at", "timestamp", "time", "wall_time", "wall time")
_VALUE = "value"
_PARAM, _TAG, _METRIC = "params.", "tags.", "metrics."
_MAX_STEP = 1 << 63


@dataclass
class _Rows:
    """What the file says of one run. `at` is NaN-free: None where the file has no times."""

    points: list[tuple[float | None, int, dict[str, float]]] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    rows: int = 0


@dataclass(frozen=True)
class _Columns:
    """Which column is what; `metrics` are those of the wide form, by the name of their column."""

    run: str | None
    key: str | None
    step: str | None
    at: str | None
    is_long: bool
    metrics: Mapping[str, str]

    @classmethod
    def of(cls, header: Sequence[str]) -> _Columns:
        by_name = {name.strip().lower(): name for name in reversed(header)}

        def find(names: Iterable[str]) -> str | None:
            return next((by_name[name] for name in names if name in by_name), None)

        run, key, step, at = find(_RUN), find(_KEY), find(_STEP), find(_AT)
        others = [name for name in header if name not in (run, step, at)]
        is_long = _VALUE in by_name and not set(others) - {by_name[_VALUE], key}
        metrics = {name: name.strip().removeprefix(_METRIC) for name in others if name.strip()}
        return cls(run, key if is_long else None, step, at, is_long, metrics)


def csv_runs(file: str, experiment: str | None = None) -> Iterator[SourceRun]:
    """Yield the runs of a CSV file, in its order. Their experiment is called like the file.

    Raises:
        UsageError: there is no such file, it holds nothing, or a step or time cannot be read.
    """
    path = Path(file).expanduser().absolute()
    try:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            runs = _read(opened, path)
    except OSError as error:
        raise UsageError(f"{file!r} cannot be read: {error.strerror} - give a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{file!r} is no CSV file in UTF-8: {error}") from error
    written = path.stat().st_mtime
    for name, rows in runs.items():
        times = [at for at, _, _ in rows.points if at is not None]
        digest = hashlib.blake2b(f"{path}\0{name}".encode(), digest_size=16).hexdigest()
        start = RunStarted(
            min(times, default=written), "", experiment or path.stem, name or path.stem, NOBODY
        )
        pieces = partial(_pieces, rows, written, start.at)
        has_times = len(times) == len(rows.points)
        yield SourceRun(
            f"csv:{digest}", start, pieces, str(path), has_times=has_times, left_out=rows.left_out
        )


def _read(opened: TextIO, path: Path) -> dict[str, _Rows]:
    reader = csv.DictReader(opened)
    if not reader.fieldnames:
        raise UsageError(f"{path} is empty; expected a first line with the names of the columns")
    _check_separator(reader.fieldnames, path)
    columns = _Columns.of(reader.fieldnames)
    if not columns.metrics:
        raise UsageError(f"{path} has no column with values; its columns are {', '.join(reader.fieldnames)}")
    runs: dict[str, _Rows] = defaultdict(_Rows)
    for row in reader:
        name = (row.get(columns.run) or "") if columns.run else ""
        try:
            _add(runs[name], columns, row, path.stem)
        except (ValueError, OverflowError) as error:
            raise UsageError(f"{path}, line {reader.line_num}: {error}") from error
    if not runs:
        raise UsageError(f"{path} holds no row behind its first line")
    return runs


def _check_separator(header: Sequence[str], path: Path) -> None:
    """Refuse what some spreadsheets write: as one column it would be a run without points."""
    other = next((one for one in (";", "\t") if len(header) == 1 and one in header[0]), None)
    if other:
        raise UsageError(
            f"{path} separates its columns by {other!r}; expected commas, and points in its numbers"
            f" - type: pandas.read_csv(FILE, sep={other!r}, decimal=',').to_csv(NEW, index=False)"
        )


def _add(rows: _Rows, columns: _Columns, row: Mapping[str, str | None], stem: str) -> None:
    step_text = (row.get(columns.step) or "").strip() if columns.step else ""
    step = _step(step_text) if step_text else rows.rows
    at_text = (row.get(columns.at) or "").strip() if columns.at else ""
    rows.rows += 1
    values: dict[str, float] = {}
    if columns.is_long:
        key = (row.get(columns.key) or "") if columns.key else stem
        cells = [(key, next((row[name] for name in columns.metrics if name.strip().lower() == _VALUE), None))]
    else:
        cells = [(name, row.get(column)) for column, name in columns.metrics.items()]
    for name, cell in cells:
        text = (cell or "").strip()
        if not text:
            continue
        if name.startswith(_PARAM):
            rows.params.setdefault(name.removeprefix(_PARAM), text)
        elif name.startswith(_TAG):
            rows.tags.setdefault(name.removeprefix(_TAG), text)
        elif (number := _number(text)) is not None:
            values[name] = number
        else:
            rows.left_out[f"values of {name!r} that are no numbers"] += 1
    if values:
        rows.points.append((_moment(at_text) if at_text else None, step, values))


def _pieces(rows: _Rows, written: float, started: float) -> Iterator[Piece]:
    if rows.params:
        yield Params(started, rows.params)
    if rows.tags:
        yield Tags(started, rows.tags)
    latest = written
    for at, step, values in rows.points:
        yield Metrics(written if at is None else at, step, values)
    if times := [at for at, _, _ in rows.points if at is not None]:
        latest = max(times)
    yield RunFinished(latest, "FINISHED", "a CSV file does not say how the run ended")


def _step(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = int(float(text)) if float(text).is_integer() else _MAX_STEP
    if not -_MAX_STEP <= number < _MAX_STEP:
        raise ValueError(f"step is {text!r}; expected a whole number of 64 bits")
    return number


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return {"true": 1.0, "false": 0.0}.get(text.lower())


def _moment(text: str) -> float:
    """Read Unix seconds or ISO 8601.

    Raises:
        ValueError: it is neither.
    """
    try:
        seconds = float(text)
    except ValueError:
        return _date(text)
    if seconds and utc(seconds) is None:
        raise ValueError(f"time is {text!r}; expected Unix seconds, or ISO 8601")
    return seconds


def _date(text: str) -> float:
    iso = text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text  # Python 3.10 reads no Z
    at = datetime.fromisoformat(iso)
    return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()
