"""Metrics as Azure ML's rows: named series of rows with ids, in requests within its limits. Pure, no vendor.

A row's id is made of the event's key, so the same event has the same rows whoever delivers it, and as often
as it is. A run holds few names; scalars beyond them are rows of one table, `mlobs.more_metrics`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mlobs.events import Histogram, Metrics
from mlobs.names import cut_name

# learn.microsoft.com/azure/machine-learning/resource-limits-capacity; the SDK enforces none of them
MAX_NAMES, MAX_COLUMNS, MAX_CELL, MAX_ROWS, MAX_SERIES = 50, 15, 255, 250, 50
MAX_SHOWN = 40  # names that tables, images and histograms may use, so that scalars find some later on
SCALAR, TABLE = "azureml.v1.scalar", "azureml.v1.table"
IMAGE, CONFUSION_MATRIX = "azureml.v2.image", "azureml.v2.confusion_matrix"
MORE = "mlobs.more_metrics"
_MORE_COLUMNS = {"metric": "string", "step": "int", "value": "double"}
HISTOGRAM = ".histogram"
_HISTOGRAM_COLUMNS = {"left": "double", "right": "double", "count": "double"}
_LONG_STEP = 1 << 63


class Row(NamedTuple):
    """One row of a series. `key` is the entry's that it comes from."""

    id: str
    key: str
    at: float
    step: int | None
    data: Mapping[str, Any]


@dataclass
class Series:
    """Rows under one name, oldest first; `kind` says how the portal shows them."""

    name: str
    kind: str
    columns: Mapping[str, str]
    rows: list[Row] = field(default_factory=list)


class Rows:
    """Collects rows for one run. `names` are those that the run holds; ones that are added join them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = set(names)
        self.series: dict[str, Series] = {}
        self.lowered: dict[str, str] = {}

    def add_metrics(self, key: str, event: Metrics) -> None:
        """Add a row for each value."""
        for name, value in event.values.items():
            row_id = _id(key, name)
            if self._finds_room(name, MAX_NAMES - 1):
                row = Row(row_id, key, event.at, event.step, {name: value})
                self._add(Series(name, SCALAR, {name: "double"}), row)
                continue
            data = {"metric": name, "step": event.step, "value": value}
            self._add(Series(MORE, TABLE, _MORE_COLUMNS), Row(row_id, key, event.at, event.step, data))
            self.lower(key, f"a run holds {MAX_NAMES} names of metrics there: {name!r} is in table {MORE!r}")

    def add_histogram(self, key: str, event: Histogram) -> bool:
        """Add a row for each bin; False if there is no room for another name."""
        name = event.name + HISTOGRAM
        if not self._finds_room(name, MAX_SHOWN):
            return False
        bins = zip(event.edges, event.edges[1:], event.counts, strict=False)
        for number, (left, right, count) in enumerate(bins):
            data = {"left": left, "right": right, "count": count}
            row = Row(_id(key, str(number)), key, event.at, event.step, data)
            self._add(Series(name, TABLE, _HISTOGRAM_COLUMNS), row)
        return True

    def add_reference(self, key: str, at: float, step: int | None, name: str, kind: str, uri: str) -> None:
        """Show an artifact in the portal, if there is room for its name; the artifact is there anyway."""
        if self._finds_room(name, MAX_SHOWN):
            self._add(Series(name, kind, {name: "Artifact"}), Row(_id(key, name), key, at, step, {name: uri}))

    def add_table(self, key: str, at: float, step: int | None, name: str, content: bytes) -> None:
        """Show a table in the portal too, unless it is larger than a table may be there."""
        shown = cut_name(name if step is None else f"{name} step {step}", MAX_CELL)
        columns, records = _cells(content)
        if len(columns) > MAX_COLUMNS or len(records) > MAX_ROWS or not columns:
            self.lower(
                key, f"a table has {MAX_COLUMNS} columns and {MAX_ROWS} rows there: it is a file alone"
            )
        elif shown in self.names or not self._finds_room(shown, MAX_SHOWN):
            self.lower(key, f"{shown!r} is taken, or there is no room for another name: it is a file alone")
        else:
            for number, data in enumerate(records):
                self._add(Series(shown, TABLE, columns), Row(_id(key, f"row {number}"), key, at, step, data))

    def lower(self, key: str, reason: str) -> None:
        """Note that the entry is stored in another form; an entry may have several reasons."""
        before = self.lowered.get(key)
        self.lowered[key] = f"{before}; {reason}" if before else reason

    def requests(self) -> Iterator[list[Series]]:
        """Split what was added into requests; the rows of a name stay in order."""
        pieces = [
            Series(one.name, one.kind, one.columns, one.rows[first : first + MAX_ROWS])
            for one in self.series.values()
            for first in range(0, len(one.rows), MAX_ROWS)
        ]
        waiting: list[Series] = []
        for piece in pieces:
            is_there = any(one.name == piece.name for one in waiting)  # pieces of a name go one after another
            if is_there or len(waiting) == MAX_SERIES:
                yield waiting
                waiting = []
            waiting.append(piece)
        if waiting:
            yield waiting

    def _finds_room(self, name: str, most: int) -> bool:
        if name not in self.names and len(self.names - {MORE}) >= most:
            return False
        self.names.add(name)
        return True

    def _add(self, series: Series, row: Row) -> None:
        self.names.add(series.name)
        self.series.setdefault(series.name, series).rows.append(row)


def _id(key: str, part: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{key}\n{part}"))


def _cells(content: bytes) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return a table's columns with their types, and its rows: all cells of a column are of one type."""
    try:
        document = json.loads(content)
        names, lines = [str(one) for one in document["columns"]], document["data"]
        cells = {name: [line[at] for line in lines] for at, name in enumerate(names)}
    except (ValueError, KeyError, TypeError, IndexError):
        return {}, []
    kinds = {name: _kind(column) for name, column in cells.items()}
    typed = {name: [_cell(one, kinds[name]) for one in column] for name, column in cells.items()}
    return kinds, [dict(zip(typed, row, strict=True)) for row in zip(*typed.values(), strict=True)]


def _kind(column: list[Any]) -> str:
    types = set(map(type, column))
    if types <= {bool}:
        return "bool"
    if types <= {int} and all(abs(one) < _LONG_STEP for one in column):
        return "int"
    return "double" if types <= {int, float} else "string"


def _cell(value: Any, kind: str) -> Any:
    match kind:
        case "double":
            return float(value)
        case "string":
            text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
            return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 1]}…"
        case _:
            return value
