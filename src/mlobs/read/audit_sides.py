"""The two sides of an audit: what a backend was given of a run, and what it gives back."""

from __future__ import annotations

import math
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mlobs.backend import Capabilities
from mlobs.delivery.lowering import Memory, lower
from mlobs.delivery.state import BackendState
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
    Snapshot,
    Tags,
    kind_of,
)
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder
from mlobs.text import param_text

Point: TypeAlias = tuple[str, int, str]  # name, step, value as text: NaN equals itself there
_OWN = "mlobs."  # tags that lowering writes


@dataclass
class Side:
    """What a run's events come to.

    Args:
        original: gives a metric's, param's or tag's recorded name for the one at the backend.
        rounded: gives a value as the backend keeps it.
        points: how often each point is there.
        others: how often each fact of another kind is there, by kind.
        artifacts: the latest by path and step, with the writer that recorded it.
    """

    original: Callable[[str], str]
    rounded: Callable[[float], float]
    points: Counter[Point] = field(default_factory=Counter)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    end: tuple[str, str] | None = None
    artifacts: dict[tuple[str, int | None], tuple[str, Artifact]] = field(default_factory=dict)
    others: dict[str, Counter[Any]] = field(default_factory=dict)

    def take(self, event: Event, writer: str = "") -> None:
        """Take one more event in, the oldest first."""
        match event:
            case Metrics(step=step, values=values):
                for name, value in values.items():
                    self.points[self.original(name), step, repr(self.rounded(value))] += 1
            case Params(values=values, conflict=conflict):
                if conflict != "keep_first":
                    self.params |= {self.original(name): param_text(value) for name, value in values.items()}
            case Tags(values=values):
                named = {self.original(name): text for name, text in values.items()}
                self.tags |= {name: text for name, text in named.items() if not name.startswith(_OWN)}
            case Artifact(path=path, step=step):
                self.artifacts[path, step] = (writer, event)
            case RunFinished(status=status, reason=reason):
                self.end = (status, reason if status != "FINISHED" else "")
            case _:
                fact = _fact(event)
                if fact is not None:
                    self.others.setdefault(kind_of(event), Counter())[fact] += 1


def given(
    folder: RunFolder, state: BackendState, capabilities: Capabilities, reads: Iterable[str]
) -> tuple[Side, Side]:
    """What the backend has answered for, of the kinds that its source `reads`; and an empty other side."""
    memory = Memory()
    names: dict[str, str] = {}
    rounded = _rounding(capabilities)
    side = Side(lambda name: names.get(name, name), rounded)
    for writer, event in _answered(folder, state, capabilities, memory):
        names.update({there: recorded for recorded, there in memory.renamed.items() if there not in names})
        if kind_of(event) in reads:
            side.take(event, writer)
    return side, Side(side.original, rounded)


def _answered(
    folder: RunFolder, state: BackendState, capabilities: Capabilities, memory: Memory
) -> Iterator[tuple[str, Event]]:
    """Yield what the backend got, and did not reject, with its writer."""
    for path in sorted(folder.journals()):
        cursor = state.cursors.get(path.stem, 0)
        with Reader(path) as reader:
            for start, _, event in reader.events():
                if start >= cursor:
                    break
                lowering = lower(event, capabilities, memory)
                if f"{path.stem}:{start}" not in state.rejected:
                    yield from ((path.stem, one) for one in lowering.events)


def _rounding(capabilities: Capabilities) -> Callable[[float], float]:
    """The function that makes two values equal which the backend cannot tell apart."""

    def rounded(value: float) -> float:
        if not capabilities.infinities and abs(value) == sys.float_info.max:
            value = math.copysign(math.inf, value)  # it stands for an infinity there
        if capabilities.float_bits == 32 and math.isfinite(value):  # noqa: PLR2004 - IEEE 754 binary32
            try:
                value = struct.unpack("f", struct.pack("f", value))[0]
            except OverflowError:
                value = math.copysign(math.inf, value)
        return float(value)

    return rounded


def _fact(event: Event) -> Any:
    """What tells an event of its kind from others, and is kept wherever the kind is."""
    match event:
        case Log(message=message):
            return message
        case Histogram(name=name, counts=counts):
            return name, tuple(map(float, counts))
        case (
            Dataset(name=name, fingerprint=fingerprint) | ModelFingerprint(name=name, fingerprint=fingerprint)
        ):
            return name, fingerprint
        case Snapshot(part=part):
            return part
        case Rewind(from_step=from_step):
            return from_step
    return None


def is_same(one: str, other: str | None) -> bool:
    """Tell whether two texts of params are one value, as 7 and 7.0 are."""
    if one == other or other is None:
        return one == other
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def mapping_differences(what: str, ours: Mapping[str, str], theirs: Mapping[str, str]) -> Iterator[str]:
    """Say what differs between two mappings of names to texts."""
    for name, text in ours.items():
        if name not in theirs:
            yield f"{what} {name!r} is missing"
        elif not is_same(text, theirs[name]):
            yield f"{what} {name!r} is {_short(theirs[name])} there, {_short(text)} here"
    for name in theirs.keys() - ours.keys():
        yield f"{what} {name!r} is there, and was not sent"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:59]}…")  # noqa: PLR2004 - a line for a person
