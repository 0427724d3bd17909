"""What a backend gets of an event that it cannot take as it is: one pure table over its capabilities."""

from __future__ import annotations

from math import isfinite
from typing import Any, NamedTuple

from mlobs.backend import Capabilities
from mlobs.delivery.documents import as_document, file_name, histogram_as_document, skipped
from mlobs.delivery.fitting import (
    end_as_tags,
    fit_artifact,
    fit_metrics,
    fit_texts,
    rewind_as_tag,
    texts_as_file,
)
from mlobs.delivery.memory import Lowering, Memory, Rule
from mlobs.delivery.rolling import log_as_line
from mlobs.events import (
    Artifact,
    Dataset,
    Event,
    Heartbeat,
    Histogram,
    Log,
    Metrics,
    ModelFingerprint,
    Params,
    Rewind,
    RunFinished,
    RunStarted,
    Snapshot,
    Tags,
    Unknown,
    kind_of,
)

__all__ = ["TABLE", "Lowering", "Memory", "lower"]


class Row(NamedTuple):
    """What becomes of an event whose kind the backend takes, and of one whose kind it does not."""

    taken: Rule
    otherwise: Rule


def lower(event: Event, capabilities: Capabilities, memory: Memory) -> Lowering:
    """Return what the backend gets for the event, and remember what later events of the run need.

    A native event is the very same object. The same history gives the same answer; nothing else is
    read. Metrics that need nothing, nearly all events of a long run, do not reach the table.
    """
    if (
        type(event) is Metrics
        and memory.fine.issuperset(event.values)
        and "metrics" in capabilities.kinds
        and ((capabilities.nan and capabilities.infinities) or all(map(isfinite, event.values.values())))
    ):
        return Lowering((event,))
    row = TABLE[type(event)]
    rule = row.taken if kind_of(event) in capabilities.kinds else row.otherwise
    return rule(event, capabilities, memory)


def _as_it_is(event: Event, capabilities: Capabilities, memory: Memory) -> Lowering:  # noqa: ARG001 - a Rule
    return Lowering((event,))


def _skip(event: Event, capabilities: Capabilities, memory: Memory) -> Lowering:  # noqa: ARG001 - a Rule
    return skipped(kind_of(event))


# Metrics are not made files: one of each point would be hundreds of thousands.
TABLE: dict[type[Any], Row] = {
    RunStarted: Row(_as_it_is, _skip),
    Params: Row(fit_texts, texts_as_file),
    Metrics: Row(fit_metrics, _skip),
    Tags: Row(fit_texts, texts_as_file),
    Log: Row(_as_it_is, log_as_line),
    Artifact: Row(fit_artifact, _skip),
    Histogram: Row(_as_it_is, histogram_as_document),
    Dataset: Row(_as_it_is, as_document(lambda event: f"datasets/{file_name(event.name)}")),
    Snapshot: Row(_as_it_is, as_document(lambda event: f"snapshot/{file_name(event.part)}")),
    ModelFingerprint: Row(
        _as_it_is, as_document(lambda event: f"model_fingerprints/{file_name(event.name)}")
    ),
    Heartbeat: Row(_as_it_is, _skip),
    Rewind: Row(_as_it_is, rewind_as_tag),
    RunFinished: Row(_as_it_is, end_as_tags),
    Unknown: Row(_as_it_is, as_document(lambda event: f"events/{file_name(event.kind)}")),
}
