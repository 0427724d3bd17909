"""Events as the service's telemetry: one row of this table for each kind.

    run_started                customEvents  mlobs.run.start
    params, tags               customEvents  mlobs.params, mlobs.tags: one JSON property for all of an event
    metrics                    customMetrics, a row for each value; NaN and infinities, which the service's
                               JSON cannot hold, in customEvents mlobs.metric.nonfinite
    log                        traces, with its traceback in exceptions
    artifact                   customEvents  mlobs.<role>, see appinsights_artifacts
    histogram, dataset, snapshot, model_fingerprint, rewind
                               customEvents  mlobs.<kind>
    run_finished               customEvents  mlobs.run.end, with its traceback in exceptions

Numbers are texts there, in customDimensions; KQL's `tolong` and `todouble` read them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from mlobs.backend import Batch, Entry
from mlobs.backends.appinsights_answers import Envelope
from mlobs.backends.appinsights_artifacts import as_json, describe
from mlobs.backends.appinsights_envelopes import MAX_TEXT, Envelopes, Properties, keys_of, plain, units
from mlobs.backends.appinsights_traceback import exceptions_of
from mlobs.errors import DeliveryError
from mlobs.events import (
    Artifact,
    Dataset,
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
    kind_of,
)
from mlobs.names import cut_name
from mlobs.text import param_text

START, END, NOT_FINITE = "mlobs.run.start", "mlobs.run.end", "mlobs.metric.nonfinite"
# What the log handler for services of the user's own records: `stream` and keys of `meta`.
EVENT_STREAM, OWN, MEASURED = "event", "properties", "measurements"
MARK = "mlobs"  # the property that says which others are the user's own, and the facts in exact form
_OURS = frozenset({"run_id", "key", "recorded_at", "continued", "traceback", MARK})
SEVERITIES = {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 4}
_MOST_OWN, _MOST_NAMED = 100, 4_000  # so that their names leave room for what they name
_MAX_NAME, _MAX_EVENT_NAME = 150, 512  # of a property, documented; of an event, Microsoft's SDKs cut there
RESTAMPED = "older than 48 hours: its time there is that of the delivery, its own is in recorded_at"


@dataclass
class Encoder:
    """Turns a batch into envelopes; `lowered` and `rejected` fill while it is iterated.

    `points` counts the run's metric values so far; the run's end says it.
    """

    batch: Batch
    envelopes: Envelopes
    points: int = 0
    lowered: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, list[Envelope]]]:
        """Yield each entry's key and its envelopes; the same entry gives the same keys."""
        for entry in self.batch.entries:
            event = entry.event
            made = list(self._encode(entry, keys_of(entry.key)))
            if made and self.envelopes.is_too_old(getattr(event, "at", 0.0)):
                self._lower(entry.key, RESTAMPED)
            yield entry.key, made

    def _encode(self, entry: Entry, keys: Iterator[str]) -> Iterator[Envelope]:
        match entry.event:
            case Metrics() as event:
                yield from self._metrics(entry.key, event, keys)
            case Params() | Tags() as event:
                yield from self._texts(event, keys)
            case Log() as event:
                yield from self._log(event, keys)
            case Artifact() as event:
                yield from self._artifact(entry, event, keys)
            case RunStarted() as event:
                facts = replace(event, argv=(), backends=())  # they may tell too much
                yield from self.envelopes.event(keys, event.at, START, _start(facts))
            case RunFinished() as event:
                yield from self._end(event, keys)
            case Histogram() | Dataset() | Snapshot() | ModelFingerprint() | Rewind() as event:
                yield from self._plain(entry.key, event, keys)
            case event:
                self.rejected[entry.key] = f"Application Insights has no form for {kind_of(event)!r}"

    def _metrics(self, entry_key: str, event: Metrics, keys: Iterator[str]) -> Iterator[Envelope]:
        shared = {"step": str(event.step)}
        if event.meta:
            shared["meta"] = as_json(event.meta)
        is_long = units(shared.get("meta", "")) > MAX_TEXT
        for name, value in event.values.items():
            self.points += 1
            if math.isfinite(value) and not is_long:
                yield self.envelopes.metric(next(keys), event.at, name, value, shared)
                continue
            # A row of customMetrics holds no NaN, and has nowhere to go on with what does not fit it.
            properties = {"metric": name, "value": repr(value), **shared}
            yield from self.envelopes.event(keys, event.at, NOT_FINITE, properties)
            reason = "its labels are too long for a metric's row" if is_long else "it is not finite"
            self._lower(entry_key, f"{reason}: it is an event {NOT_FINITE}, with the value as text")

    def _texts(self, event: Params | Tags, keys: Iterator[str]) -> Iterator[Envelope]:
        kind = kind_of(event)
        conflict = event.conflict if isinstance(event, Params) else None
        for text in packed(event.values):
            properties = {kind: text, "conflict": conflict}
            yield from self.envelopes.event(keys, event.at, f"mlobs.{kind}", properties)

    def _log(self, event: Log, keys: Iterator[str]) -> Iterator[Envelope]:
        meta = event.meta or {}
        facts = {"logger": event.logger, "level": event.level, "stream": event.stream}
        if event.step is not None:
            facts["step"] = str(event.step)
        own = _named(meta.get(OWN, {}) if isinstance(meta.get(OWN), dict) else {})
        if event.stream == EVENT_STREAM:
            yield from self._own_event(event, keys, meta, facts)
        else:
            if own:
                facts[MARK] = as_json({"own": list(own), **facts})
            elif meta:
                facts["meta"] = as_json(meta)
            severity = SEVERITIES.get(event.level, 1)
            yield from self.envelopes.message(keys, event.at, event.message, severity, {**facts, **own})
        if event.exception:
            chain = exceptions_of(plain(event.exception))
            properties = {"logger": event.logger, **own, "traceback": event.exception}
            yield from self.envelopes.exception(keys, event.at, chain, properties)

    def _own_event(
        self, event: Log, keys: Iterator[str], meta: Mapping[str, Any], facts: Mapping[str, str]
    ) -> Iterator[Envelope]:
        own = _named(meta.get(OWN, {}))
        name = plain(event.message)
        shown = cut_name(name, _MAX_EVENT_NAME) or EVENT_STREAM
        mark = {"own": list(own), **facts, **({} if shown == name else {"message": name})}
        given: dict[str, float] = meta.get(MEASURED, {})
        measured = {key: value for key, value in _named_numbers(given) if math.isfinite(value)}
        own |= {key: repr(value) for key, value in _named_numbers(given) if not math.isfinite(value)}
        yield from self.envelopes.event(keys, event.at, shown, {**own, MARK: as_json(mark)}, measured)

    def _artifact(self, entry: Entry, event: Artifact, keys: Iterator[str]) -> Iterator[Envelope]:
        try:
            with self.batch.open_blob(entry) as blob:
                content = describe(event, blob)
        except OSError as error:
            # Not the service's fault: an OSError would be taken for one.
            raise DeliveryError(f"the content of {event.path!r} cannot be read: {error}") from error
        shared = {"step": _text(event.step), "meta": as_json(event.meta) if event.meta else None}
        if not content.is_whole:
            self._lower(entry.key, content.reason(event))
            shared["store"] = self.batch.place
        for part in content.parts:
            name = f"mlobs.{event.role}"
            yield from self.envelopes.event(keys, event.at, name, part | shared, content.measurements)

    def _plain(self, entry_key: str, event: Any, keys: Iterator[str]) -> Iterator[Envelope]:
        fields = {name: _text(value) for name, value in asdict(event).items() if name != "at"}
        if isinstance(event, Snapshot):
            fields.pop("blob")
            if event.blob is not None:
                self._lower(entry_key, "Application Insights has its facts; its file is in the local store")
        if isinstance(event, Rewind):
            reason = (
                "Application Insights takes nothing back: its event mlobs.rewind says what does not count"
            )
            self._lower(entry_key, reason)
        yield from self.envelopes.event(keys, event.at, f"mlobs.{kind_of(event)}", fields)

    def _end(self, event: RunFinished, keys: Iterator[str]) -> Iterator[Envelope]:
        started = self.batch.run.at
        properties = {"status": event.status, "reason": event.reason, "exit_code": _text(event.exit_code)}
        if event.unrecorded:
            properties["unrecorded"] = str(event.unrecorded)
        measurements = {"duration_s": event.at - started, "points_sent": float(self.points)}
        yield from self.envelopes.event(keys, event.at, END, properties, measurements)
        if event.traceback:
            chain = exceptions_of(plain(event.traceback))
            properties = {"traceback": event.traceback, "status": event.status}
            yield from self.envelopes.exception(keys, event.at, chain, properties)

    def _lower(self, key: str, reason: str) -> None:
        before = self.lowered.get(key)
        if before is None or reason not in before:
            self.lowered[key] = f"{before}; {reason}" if before else reason


def packed(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values as JSON objects that fit a property each, so that KQL can parse them."""
    pairs: list[str] = []
    size = 2
    for name, value in values.items():
        pair = f"{as_json(name)}:{as_json(_exact(value))}"
        length = units(pair) + 1
        if pairs and size + length > MAX_TEXT:
            yield f"{{{','.join(pairs)}}}"
            pairs, size = [], 2
        pairs.append(pair)
        size += length
    yield f"{{{','.join(pairs)}}}"


def _exact(value: Any) -> Any:
    """A param's value as JSON has it; what JSON has not is text, as `param_text` spells it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else param_text(value)


def _named(own: Mapping[str, Any]) -> dict[str, str]:
    """Properties of the user's own, under names that the service takes and that are not ours.

    Very many are one property of JSON: names count for an item's size, too.
    """
    if len(own) > _MOST_OWN or sum(map(len, own)) > _MOST_NAMED:
        return {"custom_dimensions": as_json(dict(own))}
    return {_free_name(name): _text(value) or "" for name, value in own.items()}


def _named_numbers(numbers: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    yield from ((_free_name(name), float(value)) for name, value in numbers.items())


def _free_name(name: str) -> str:
    return cut_name(plain(f"custom_{name}" if name in _OURS or not name else name), _MAX_NAME)


def _start(run: RunStarted) -> Properties:
    return {
        "experiment": run.experiment,
        "run_name": run.name,
        "parent_run_id": run.parent_run_id,
        "attempt": str(run.attempt),
        "host": run.process.host,
        "python": run.python_version,
        "started": msgspec.json.encode(run).decode(),
    }


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return repr(value) if isinstance(value, int | float) else msgspec.json.encode(_finite(value)).decode()


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinities: they are texts that `float` reads."""
    match value:
        case float():
            return value if math.isfinite(value) else repr(value)
        case list() | tuple():
            return [_finite(one) for one in value]
        case dict():
            return {key: _finite(one) for key, one in value.items()}
        case _:
            return value
