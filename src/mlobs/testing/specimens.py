"""Events that the rules deliver: one of each kind with all its fields, and numbered ones to be counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from msgspec.structs import replace

from mlobs.events import (
    Artifact,
    Dataset,
    Event,
    Heartbeat,
    Histogram,
    Known,
    Log,
    Metrics,
    ModelFingerprint,
    Params,
    Rewind,
    RunFinished,
    Snapshot,
    Tags,
    kind_of,
)

AT = 1_700_000_000.25  # Unix seconds; whole in milliseconds, which is what most vendors keep
SHARP = AT + 0.000_4  # no vendor that says it keeps times exactly may round it
PNG = bytes.fromhex(  # one grey pixel
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c6368000000820081"
    "77cd72b60000000049454e44ae426082"
)
_TRACEBACK = "Traceback (most recent call last):\n  ...\nValueError: it was too hot"
_PART = re.compile(r"part(\d+)(?:\.txt)?\Z")

Make: TypeAlias = Callable[[int], Event]


def _artifact(path: str, role: str, media_type: str, data: bytes, step: int | None = None) -> Artifact:
    return Artifact(SHARP, path, len(data), role, media_type, data=data, step=step)


# Params and tags are not among them: vendors keep those as the state of a run, see their own rules.
WHOLE: Mapping[str, Known] = {
    "metrics": Metrics(SHARP, 3, {"loss": 0.5}),
    "log": Log(SHARP, "a line of text", "WARNING", "train", "logging", _TRACEBACK, 4),
    "text": _artifact("notes.txt", "text", "text/plain", b"hello"),
    "image": _artifact("sample.png", "image", "image/png", PNG, step=4),
    "figure": _artifact("roc.png", "figure", "image/png", PNG),
    "table": _artifact("rows.json", "table", "application/json", b'{"columns":["a"],"data":[[1]]}'),
    "file": _artifact("data.bin", "file", "application/octet-stream", b"\0\1\2"),
    "histogram": Histogram(SHARP, 3, "weights", [1.0, 2.0], [0.0, 0.5, 1.0]),
    "dataset": Dataset(
        SHARP, "train", "v1", "abc", "rows", "test", "s3://bucket/train", 3, {"x": "double", "y": "long"}, 5
    ),
    "snapshot": Snapshot(SHARP, "code", {"commit": "abc", "is_dirty": True}),
    "model_fingerprint": ModelFingerprint(SHARP, "net", "abc", "v1", {"w": "def"}, 5),
    "heartbeat": Heartbeat(SHARP),
    "rewind": Rewind(SHARP, 5),
    "run_finished": RunFinished(SHARP, "FAILED", "it was too hot", _TRACEBACK, 3, 2),
}

LABELLED: Mapping[str, Known] = {
    name: replace(event, meta={"split": "test"})
    for name, event in WHOLE.items()
    if hasattr(event, "meta") and name not in ("figure", "table")  # an artifact like the others
}

# Kinds of which a run has many; the names of events tell them apart, but for points of a metric.
NUMBERED: Mapping[str, Make] = {
    "metrics": lambda n: Metrics(_moment(n), n, {"loss": float(n)}),
    "log": lambda n: Log(_moment(n), f"part{n}"),
    "histogram": lambda n: Histogram(_moment(n), n, f"part{n}", [1.0], [0.0, 1.0]),
    "dataset": lambda n: Dataset(_moment(n), f"part{n}", None, f"abc{n}", "content"),
    "snapshot": lambda n: Snapshot(_moment(n), f"part{n}", {}),
    "model_fingerprint": lambda n: ModelFingerprint(_moment(n), f"part{n}", "abc", "v1"),
    "params": lambda n: Params(_moment(n), {f"part{n}": n}),
    "tags": lambda n: Tags(_moment(n), {f"part{n}": "x"}),
    "artifact": lambda n: Artifact(_moment(n), f"part{n}.txt", 1, "file", "text/plain", data=b"x"),
}
STREAMS = frozenset({"metrics", "log"})  # whose order counts: the others are found by their names


def numbers_in(event: Event) -> list[int]:
    """The numbers that an event carries, which `NUMBERED` made; what else a vendor holds has none."""
    match event:
        case Metrics(values=values):
            return [int(value) for value in values.values()]
        case Params(values=values) | Tags(values=values):
            names: list[Any] = list(values)
        case Log(message=name) | Artifact(path=name) | Snapshot(part=name):
            names = [name]
        case Histogram(name=name) | Dataset(name=name) | ModelFingerprint(name=name):
            names = [name]
        case _:
            names = []
    return [int(found[1]) for found in map(_PART.match, names) if found]


def is_about(held: Event, event: Event) -> bool:
    """Tell whether what a vendor holds stands for this event: by its kind, of files also by the path."""
    same_kind = kind_of(held) == kind_of(event)
    return same_kind and (not isinstance(event, Artifact) or getattr(held, "path", None) == event.path)


def _moment(number: int) -> float:
    return AT + number / 100
