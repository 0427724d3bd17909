"""Rows of Application Insights as the events that they were made of: `appinsights_mapping` undone. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_type_hints

import msgspec

from mlobs.backends.appinsights_artifacts import rebuild
from mlobs.backends.appinsights_envelopes import CONTINUED
from mlobs.backends.appinsights_mapping import EVENT_STREAM, MARK, MEASURED, NOT_FINITE, OWN
from mlobs.backends.appinsights_tables import Row
from mlobs.events import (
    Artifact,
    Dataset,
    Event,
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
)

_PLAIN: Mapping[str, Any] = {  # events whose fields are properties, each a text or JSON
    "mlobs.histogram": Histogram,
    "mlobs.dataset": Dataset,
    "mlobs.snapshot": Snapshot,
    "mlobs.model_fingerprint": ModelFingerprint,
    "mlobs.rewind": Rewind,
}


def events_of(rows: Mapping[str, Row]) -> Iterator[Event]:
    """Yield the events of a run's rows, which are given by their keys, in the order of their time.

    Those of one moment come in the order of the journal. Rows of a kind that is not known here are
    left out.
    """
    entries: dict[str, list[Row]] = {}
    for row in sorted(_whole(rows), key=lambda one: (one.at, one.place)):
        entries.setdefault(row.key.partition("#")[0], []).append(row)
    for parts in entries.values():
        yield from _events(sorted(parts, key=lambda one: one.place))


def _events(parts: Sequence[Row]) -> Iterator[Event]:
    first = parts[0]
    properties, at = first.properties, first.at
    match first.kind, first.name:
        case ("metric", _) | (_, "mlobs.metric.nonfinite"):
            yield from map(_point, parts)
        case "trace", _:
            yield _log(first, parts[1:])
        case "event", "mlobs.run.start":
            yield msgspec.json.decode(properties["started"], type=RunStarted)
        case "event", "mlobs.run.end":
            yield _end(first, parts[1:])
        case "event", "mlobs.params":
            yield Params(at, _merged(parts, "params"), properties.get("conflict"))
        case "event", "mlobs.tags":
            yield Tags(at, _merged(parts, "tags"))
        case "event", name if name in _PLAIN:
            yield _plain(_PLAIN[name], first)
        case "event", name if name == f"mlobs.{properties.get('role')}":
            yield _artifact(parts)
        case "event", name if MARK in properties:
            yield _own_event(name, first, parts[1:])


def _point(row: Row) -> Metrics:
    properties = row.properties
    name, value = row.name, row.value
    if row.name == NOT_FINITE:
        name, value = properties["metric"], float(properties["value"])
    meta = json.loads(properties["meta"]) if "meta" in properties else None
    return Metrics(row.at, int(properties["step"]), {name: float(value or 0.0)}, meta)


def _log(row: Row, others: Sequence[Row]) -> Log:
    facts, meta = row.properties, None
    if MARK in row.properties:  # properties of the user's own, which may be named like ours
        facts = json.loads(row.properties[MARK])
        meta = {OWN: _own(row, facts)}
    elif "meta" in facts:
        meta = json.loads(facts["meta"])
    return Log(
        row.at,
        "" if row.message == " " else row.message,  # the service refuses an empty one
        facts.get("level", ""),
        facts.get("logger", ""),
        facts.get("stream", ""),
        exception=_traceback(others),
        step=int(facts["step"]) if "step" in facts else None,
        meta=meta,
    )


def _own_event(name: str, row: Row, others: Sequence[Row]) -> Log:
    """An event that a user's own service sent through the log handler."""
    facts = json.loads(row.properties[MARK])
    own = _own(row, facts)
    meta: dict[str, Any] = {OWN: own} if own else {}
    if row.measurements:
        meta[MEASURED] = row.measurements
    message = facts.get("message", name)
    exception, labels = _traceback(others), meta or None
    return Log(
        row.at, message, facts["level"], facts["logger"], EVENT_STREAM, exception=exception, meta=labels
    )


def _own(row: Row, facts: Mapping[str, Any]) -> dict[str, str]:
    return {name: row.properties.get(name, "") for name in facts["own"]}


def _end(row: Row, others: Sequence[Row]) -> RunFinished:
    properties = row.properties
    code = properties.get("exit_code")
    return RunFinished(
        row.at,
        properties["status"],
        properties.get("reason", ""),
        _traceback(others),
        int(code) if code else None,
        int(properties.get("unrecorded", "0")),
    )


def _traceback(rows: Sequence[Row]) -> str | None:
    return next((row.properties.get("traceback") for row in rows if row.kind == "exception"), None)


def _merged(parts: Sequence[Row], kind: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for part in parts:
        values |= json.loads(part.properties[kind])
    return values


def _artifact(parts: Sequence[Row]) -> Artifact:
    first = parts[0].properties
    blocks = sorted(parts, key=lambda row: int(row.properties.get("block", "0")))
    content = rebuild([row.properties for row in blocks])
    return Artifact(
        parts[0].at,
        first["path"],
        int(parts[0].measurements.get("size_bytes", 0)),
        first["role"],
        first["media_type"],
        data=content,
        step=int(first["step"]) if "step" in first else None,
        meta=json.loads(first["meta"]) if "meta" in first else None,
    )


def _plain(kind: Any, row: Row) -> Event:
    """Read fields: texts as they stand, others as JSON; what was None or empty is not there."""
    hints = get_type_hints(kind)
    given: dict[str, Any] = {}
    for name in kind.__struct_fields__:
        text = row.properties.get(name)
        if name == "at":
            given[name] = row.at
        elif text is not None:
            given[name] = text if hints[name] in (str, str | None) else json.loads(text)
        elif name not in _optional(kind):
            given[name] = _empty(hints[name])
    event: Event = kind(**given)
    return event


def _optional(kind: Any) -> frozenset[str]:
    """Fields with a default, which are the last ones."""
    fields = kind.__struct_fields__
    return frozenset(fields[len(fields) - len(kind.__struct_defaults__) :])


def _empty(hint: Any) -> Any:
    return "" if hint is str else None


def _whole(rows: Mapping[str, Row]) -> Iterator[Row]:
    """Yield the rows that stand for something, with what did not fit them put back."""
    texts: dict[str, dict[str, list[Row]]] = {}
    for row in rows.values():
        if row.name == CONTINUED:
            fields = texts.setdefault(row.properties["of"], {})
            fields.setdefault(row.properties["field"], []).append(row)
    for key, row in rows.items():
        if row.name == CONTINUED:
            continue
        whole = {name: _joined(blocks) for name, blocks in texts.get(key, {}).items()}
        message = whole.pop("message", row.message)
        yield replace(row, properties={**row.properties, **whole}, message=message) if key in texts else row


def _joined(blocks: Sequence[Row]) -> str:
    ordered = sorted(blocks, key=lambda row: int(row.properties["block"]))
    return "".join(row.properties["data"] for row in ordered)
