"""Rows on their way into an Azure ML run: posted at once, and what was refused of them is known by event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from mlobs.backends.azureml_errors import words_of
from mlobs.backends.azureml_rows import Row, Rows, Series
from mlobs.errors import ServerError
from mlobs.moments import date_of

_USERS_FAULT = frozenset(
    {"UserError", "ValidationError", "BadArgument", "BadRequest", "NotSupported", "Conflict"}
)


def post(client: Any, experiment: str, run_id: str, rows: Rows) -> tuple[dict[str, str], dict[str, str]]:
    """Store the rows; return the reasons, by entry's key, of those refused wholly and of those in part.

    Raises:
        ServerError: the service failed at a metric that it might take another time.
    """
    refused: dict[str, str] = {}
    lost: Counter[str] = Counter()
    for request in rows.requests():
        errors = client.post_metrics(experiment, run_id, [_to_dto(series) for series in request])
        for error in errors:
            root = getattr(error.error_response, "error", None)
            code = str(getattr(root, "code", "") or "")
            if code and code not in _USERS_FAULT:
                raise ServerError(f"Azure ML failed at metric {error.metric.name!r}: {words_of(root)}")
            for row in _rows_of(error.metric, request):
                lost[row.key] += 1
                refused[row.key] = f"Azure ML refuses metric {error.metric.name!r}: {words_of(root)}"
    there = Counter(row.key for series in rows.series.values() for row in series.rows)
    wholly = {key: reason for key, reason in refused.items() if lost[key] >= there[key]}
    return wholly, {key: reason for key, reason in refused.items() if key not in wholly}


def _rows_of(metric: Any, request: Iterable[Series]) -> list[Row]:
    """The rows that an error is about: those that it names, or all of that name."""
    named = {value.metric_id for value in metric.value or ()}
    rows = [row for series in request if series.name == metric.name for row in series.rows]
    return [row for row in rows if row.id in named] or rows


def _to_dto(series: Series) -> Any:
    from azureml._restclient.models.metric_properties import MetricProperties
    from azureml._restclient.models.metric_v2_dto import MetricV2Dto
    from azureml._restclient.models.metric_v2_value import MetricV2Value

    values = [
        MetricV2Value(
            metric_id=row.id,
            created_utc=date_of(row.at),
            step=row.step,
            data=dict(row.data),
        )
        for row in series.rows
    ]
    return MetricV2Dto(
        name=series.name,
        columns=dict(series.columns),
        value=values,
        properties=MetricProperties(ux_metric_type=series.kind),
    )


def rows_held(metric: Any) -> list[tuple[float, int | None, Mapping[str, Any]]]:
    """Return (Unix seconds, step, data) of a metric's rows, oldest first; a row that is there twice, once."""
    found: dict[str, tuple[float, int | None, Mapping[str, Any]]] = {}
    for number, value in enumerate(metric.value or ()):
        at = value.created_utc.timestamp() if value.created_utc else 0.0
        found.setdefault(value.metric_id or f"row {number}", (at, value.step, value.data or {}))
    return sorted(found.values(), key=lambda row: row[0])
