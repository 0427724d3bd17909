"""A run in short: what a list of runs shows, and what a search asks for."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import msgspec

from mlobs.read.points import Summary
from mlobs.read.record import RunRecord


class RunSummary(msgspec.Struct, frozen=True, array_like=True):
    """A run without its points and payloads; `load_run(run_id)` has those.

    `metrics` holds each metric in short: `last`, `last_step`, `first`, `min`, `max`, `mean`, `points`.
    `started_at` and `ended_at` are Unix seconds; the other fields are those of a `RunRecord`.
    """

    run_id: str
    experiment: str
    name: str
    status: str
    reason: str
    started_at: float | None
    ended_at: float | None
    parent_run_id: str | None
    params: dict[str, Any]
    tags: dict[str, str]
    metrics: dict[str, Summary]
    is_stale: bool = False

    @classmethod
    def of(cls, record: RunRecord) -> RunSummary:
        """Put a record in short."""
        return cls(
            run_id=record.run_id,
            experiment=record.experiment,
            name=record.name,
            status=record.status,
            reason=record.reason,
            started_at=record.started.timestamp() if record.started else None,
            ended_at=record.ended.timestamp() if record.ended else None,
            parent_run_id=record.parent_run_id,
            params=record.params,
            tags=record.tags,
            metrics=record.points.summaries(),
            is_stale=record.is_stale,
        )

    @property
    def started(self) -> datetime | None:
        """When the run began (UTC)."""
        return None if self.started_at is None else datetime.fromtimestamp(self.started_at, timezone.utc)

    @property
    def ended(self) -> datetime | None:
        """When it ended (UTC), None while it runs."""
        return None if self.ended_at is None else datetime.fromtimestamp(self.ended_at, timezone.utc)

    @property
    def duration_s(self) -> float | None:
        """How long it took, in seconds; None while it runs."""
        if self.started_at is None or self.ended_at is None:
            return None
        return self.ended_at - self.started_at

    @property
    def last_metrics(self) -> dict[str, float]:
        """Each metric's value that was recorded last."""
        return {name: one.last for name, one in self.metrics.items()}
