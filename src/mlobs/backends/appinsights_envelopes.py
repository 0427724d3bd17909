"""Envelopes as plain data: the service's own shapes, with what mlobs puts into each.

Every envelope has these properties, by which it is found and counted:

    run_id        the run; `operation_Id` is the same
    key           unique for ever: where the event stands in the journal, and `#n` for its n-th further
                  envelope. The service stores what is sent twice twice; who counts keys counts once
    recorded_at   when it happened, if that is too long ago for the service; then `timestamp` is the
                  time of delivery

Limits are the documented ones: 8,192 characters (UTF-16 units) a property, 32,768 a message, 64 KB an
item. What is longer is there in part, and `continued` names the fields that follow in events
`mlobs.continued`: `of` (the key), `field`, `block`, `blocks`, `data`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from mlobs.backends.appinsights_answers import Envelope, moment
from mlobs.events import RunStarted
from mlobs.names import cut_name
from mlobs.version import __version__

MAX_AGE_S = 47 * 3600.0  # the service refuses what is older than 48 h; the rest is for the way
MAX_TEXT = 8000  # of 8,192
MAX_MESSAGE = 8000  # of 32,768: 48 kB in ASCII JSON at worst
ROOM_BYTES = 57_000  # of an item's 65,536: what its properties may take in ASCII JSON, together
MAX_TAG = 256  # cloud role and instance; ContextTagKeys in Microsoft's schema
CONTINUED = "mlobs.continued"
_NAME = "Microsoft.ApplicationInsights."
_BMP = "\uffff"  # a character beyond it is two UTF-16 units

Properties: TypeAlias = Mapping[str, "str | None"]
_FRAMES = (15, 8, 4, 0)  # of a stack, where an item has no room for all


class Envelopes:
    """Makes the envelopes of one run that leave at `now` (Unix seconds)."""

    def __init__(self, instrumentation_key: str, run: RunStarted, now: float) -> None:
        self._key, self._run_id = instrumentation_key, run.run_id
        self._now, self._oldest = now, now - MAX_AGE_S
        self._tags = {
            "ai.cloud.role": cut_name(plain(run.experiment) or "mlobs", MAX_TAG),
            "ai.cloud.roleInstance": cut_name(plain(run.process.host) or "unknown", MAX_TAG),
            "ai.operation.id": run.run_id,
            "ai.operation.name": cut_name(plain(run.name) or run.run_id, MAX_TAG),
            "ai.internal.sdkVersion": f"mlobs:{__version__}",
        }
        if run.parent_run_id:
            self._tags["ai.operation.parentId"] = run.parent_run_id

    def is_too_old(self, at: float) -> bool:
        """Tell whether the service would refuse an item of that time."""
        return at < self._oldest

    def metric(self, key: str, at: float, name: str, value: float, properties: dict[str, str]) -> Envelope:
        """One point: a row of its own in customMetrics, not aggregated. `value` is finite."""
        data = {"ver": 2, "metrics": [{"name": plain(name), "value": value, "count": 1}]}
        return self._envelope("Metric", key, at, data, properties)

    def event(
        self,
        keys: Iterator[str],
        at: float,
        name: str,
        properties: Properties,
        measurements: Mapping[str, float] | None = None,
    ) -> Iterator[Envelope]:
        """A row in customEvents, and what does not fit it."""
        key = next(keys)
        short, long = fitted(properties)
        data: dict[str, Any] = {"ver": 2, "name": name}
        if measurements:
            data["measurements"] = dict(measurements)
        yield self._envelope("Event", key, at, data, short)
        yield from self._continued(keys, key, at, long)

    def message(
        self, keys: Iterator[str], at: float, text: str, severity: int, properties: Properties
    ) -> Iterator[Envelope]:
        """A row in traces; severity is 0 (verbose) to 4 (critical)."""
        key = next(keys)
        text = plain(text)
        message = pieces(text, MAX_MESSAGE)[0] or " "  # an empty one is refused
        short, long = fitted(properties, ROOM_BYTES - _cost(message))
        if len(message) < len(text):
            long = {**long, "message": text}
            short["continued"] = ",".join(long)
        data = {"ver": 2, "message": message, "severityLevel": severity}
        yield self._envelope("Message", key, at, data, short)
        yield from self._continued(keys, key, at, long)

    def exception(
        self, keys: Iterator[str], at: float, exceptions: Sequence[Mapping[str, Any]], properties: Properties
    ) -> Iterator[Envelope]:
        """A row in exceptions, of severity 3 (error)."""
        key = next(keys)
        exceptions = _within(exceptions, ROOM_BYTES - MAX_TEXT)  # all of the text follows in any case
        short, long = fitted(properties, ROOM_BYTES - _cost(exceptions))
        data = {"ver": 2, "exceptions": list(exceptions), "severityLevel": 3}
        yield self._envelope("Exception", key, at, data, short)
        yield from self._continued(keys, key, at, long)

    def _continued(
        self, keys: Iterator[str], key: str, at: float, long: Mapping[str, str]
    ) -> Iterator[Envelope]:
        for field, text in long.items():
            blocks = pieces(text, MAX_TEXT)
            for number, block in enumerate(blocks):
                properties = {
                    "of": key,
                    "field": field,
                    "block": str(number),
                    "blocks": str(len(blocks)),
                    "data": block,
                }
                data = {"ver": 2, "name": CONTINUED}
                yield self._envelope("Event", next(keys), at, data, properties)

    def _envelope(
        self, kind: str, key: str, at: float, data: dict[str, Any], properties: dict[str, str]
    ) -> Envelope:
        properties = {**properties, "run_id": self._run_id, "key": key}
        time = at
        if at < self._oldest:
            properties["recorded_at"] = moment(at)
            time = self._now
        data["properties"] = properties
        return {
            "name": _NAME + kind,
            "time": moment(time),
            "iKey": self._key,
            "tags": self._tags,
            "data": {"baseType": f"{kind}Data", "baseData": data},
        }


def keys_of(entry_key: str) -> Iterator[str]:
    """The keys of the envelopes that an entry becomes, in their order."""
    yield entry_key
    number = 0
    while True:
        number += 1
        yield f"{entry_key}#{number}"


def entry_key_of(key: str) -> tuple[str, int]:
    """Undo `keys_of`: the entry's key, and which of its envelopes this is."""
    entry_key, _, number = key.partition("#")
    return entry_key, int(number or 0)


def fitted(properties: Properties, room_bytes: int = ROOM_BYTES) -> tuple[dict[str, str], dict[str, str]]:
    """Split properties into what an item holds and the whole texts of what it holds in part.

    None and "" are left out: the service does not keep empty properties.
    """
    short: dict[str, str] = {}
    long: dict[str, str] = {}
    for name, text in properties.items():
        if text:
            short[name] = plain(text)
            if units(short[name]) > MAX_TEXT:
                long[name] = short[name]
                short[name] = pieces(short[name], MAX_TEXT)[0]
    room_bytes -= _cost(",".join(short))  # `continued` may come to name each of them
    if sum(map(len, short.values())) > room_bytes // 12:  # a character is at most 12 bytes in ASCII JSON
        while (over := _cost(short) - room_bytes) > 0:
            name = max(short, key=lambda one: _cost(short[one]))
            if not short[name]:
                break  # the names alone are too much: the service says so
            long.setdefault(name, short[name])
            kept = max(0, len(short[name]) - over // 12 - 100)
            short[name] = short[name][:kept]
    if long:
        short["continued"] = ",".join(long)
    return short, long


def _within(exceptions: Sequence[Mapping[str, Any]], room_bytes: int) -> list[Mapping[str, Any]]:
    """The chain with as many of the innermost frames of each stack as there is room for."""
    chain = list(exceptions)
    for frames in _FRAMES:
        if _cost(chain) <= room_bytes:
            return chain
        chain = [
            {**one, "parsedStack": one["parsedStack"][:frames]} if "parsedStack" in one else one
            for one in chain
        ]
    return chain if _cost(chain) <= room_bytes else chain[:1]


def _cost(value: object) -> int:
    return len(json.dumps(value))


def pieces(text: str, limit: int) -> list[str]:
    """Cut a text into pieces of at most `limit` UTF-16 units; [""] for the empty one."""
    size = limit if text.isascii() or max(text) <= _BMP else limit // 2
    return [text[first : first + size] for first in range(0, len(text), size)] or [""]


def units(text: str) -> int:
    """The length as the service counts it."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def plain(text: str) -> str:
    """The text with lone surrogates spelled out: they are no Unicode, and a strict parser refuses them."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
