"""The tables of both schemas in one: what is asked of each, and a row as it comes back.

A resource has the classic tables (customMetrics, ...), a Log Analytics workspace the App* ones, with
the same content under other names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from mlobs.backends.appinsights_envelopes import entry_key_of

PAGE_ROWS = 20_000  # the query service gives at most 500,000 rows and 100 MB


_COMMON = ("run_id", "key")


@dataclass(frozen=True)
class Table:
    """A table of either schema: its name, and the columns that hold what we ask for."""

    name: str
    time: str
    properties: str
    operation: str
    columns: Mapping[str, str]


CLASSIC = tuple(
    Table(name, "timestamp", "customDimensions", "operation_Id", columns)
    for name, columns in {
        "customMetrics": {"name": "name", "value": "value"},
        "customEvents": {"name": "name", "measurements": "customMeasurements"},
        "traces": {"message": "message", "severity": "severityLevel"},
        "exceptions": {"name": "type", "message": "outerMessage"},
    }.items()
)
WORKSPACE = tuple(
    Table(name, "TimeGenerated", "Properties", "OperationId", columns)
    for name, columns in {
        "AppMetrics": {"name": "Name", "value": "Sum"},
        "AppEvents": {"name": "Name", "measurements": "Measurements"},
        "AppTraces": {"message": "Message", "severity": "SeverityLevel"},
        "AppExceptions": {"name": "ExceptionType", "message": "OuterMessage"},
    }.items()
)
LOGICAL = {  # what a row of a table is, whichever schema it comes from
    "customMetrics": "metric",
    "AppMetrics": "metric",
    "customEvents": "event",
    "AppEvents": "event",
    "traces": "trace",
    "AppTraces": "trace",
    "exceptions": "exception",
    "AppExceptions": "exception",
}


def count_query(table: Table, run_id: str) -> str:
    """KQL for the number of a run's rows and of its distinct keys."""
    key = f"tostring({table.properties}.key)"
    return f"{_of_run(table, run_id)}\n| summarize rows = count(), items = count_distinct({key})"


def page_query(table: Table, run_id: str, page: int, pages: int) -> str:
    """KQL for one of `pages` parts of a run's rows, apart by the hash of their keys."""
    key = f"tostring({table.properties}.key)"
    columns = ", ".join(f"{ours} = {theirs}" for ours, theirs in table.columns.items())
    part = f"\n| where hash({key}, {pages}) == {page}" if pages > 1 else ""
    return (
        f"{_of_run(table, run_id)}{part}\n"
        f"| project happened = {table.time}, properties = {table.properties}, {columns}"
    )


@dataclass(frozen=True, slots=True)
class Row:
    """A row of any table. `at` is when it happened, whenever it was delivered."""

    kind: str
    at: float
    key: str
    name: str = ""
    properties: dict[str, str] = field(default_factory=dict)
    measurements: dict[str, float] = field(default_factory=dict)
    value: float | None = None
    message: str = ""

    @property
    def place(self) -> tuple[str, int, str, int]:
        """Where its event stands in the journal: writer, offset, derived part, and which of its envelopes."""
        entry, number = entry_key_of(self.key)
        root, _, part = entry.partition("/")
        writer, _, offset = root.rpartition(":")
        return writer, int(offset) if offset.isdigit() else 0, part, number


def row_of(table: Table, found: Mapping[str, Any]) -> Row | None:
    """A row as the query service gives it; None for one that is not of ours."""
    properties = _bag(found["properties"])
    key = properties.get("key")
    if not key:
        return None
    recorded = properties.pop("recorded_at", None)
    for name in _COMMON:  # a run has millions of rows
        properties.pop(name, None)
    at = _seconds(recorded or found["happened"])
    return Row(
        LOGICAL[table.name],
        at,
        key,
        found.get("name") or "",
        properties,
        _bag(found.get("measurements")),
        found.get("value"),
        found.get("message") or "",
    )


def _of_run(table: Table, run_id: str) -> str:
    return f"{table.name}\n| where {table.operation} == {quoted(run_id)}"


def quoted(text: str) -> str:
    """A text as a KQL literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _bag(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = json.loads(value) if value else {}
    return value or {}


def _seconds(value: Any) -> float:
    if isinstance(value, str):
        value = datetime.fromisoformat(value.replace("Z", "+00:00"))
    if value.tzinfo is None:
        value = value.replace(tzinfo=timezone.utc)
    return float(value.timestamp())
