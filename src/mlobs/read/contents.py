"""What a run holds: its events folded into params, tags, artifacts and the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from mlobs.events import (
    Artifact,
    Dataset,
    Event,
    Histogram,
    ModelFingerprint,
    Params,
    Rewind,
    Snapshot,
    Tags,
    Unknown,
)
from mlobs.read.scan import Scan


@dataclass
class Contents:
    """What counts of everything but metrics. `artifacts` holds (writer, event), in recorded order."""

    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: dict[tuple[str, int | None], tuple[str, Artifact]] = field(default_factory=dict)
    histograms: list[Histogram] = field(default_factory=list)
    datasets: list[Dataset] = field(default_factory=list)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    snapshot_writers: dict[str, str] = field(default_factory=dict)
    models: list[ModelFingerprint] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)

    def take(self, writer: str, event: Event) -> None:
        """Take in the next event; the first value of a param counts unless it is overwritten on purpose."""
        match event:
            case Params():
                known = {} if event.conflict == "overwrite" else self.params
                self.params.update({name: value for name, value in event.values.items() if name not in known})
            case Tags():
                self.tags.update(event.values)
            case Artifact():
                self.artifacts.pop((event.path, event.step), None)
                self.artifacts[event.path, event.step] = (writer, event)
            case Histogram():
                self.histograms.append(event)
            case Dataset():
                self.datasets.append(event)
            case Snapshot():
                self.snapshots[event.part] = event
                self.snapshot_writers[event.part] = writer
            case ModelFingerprint():
                self.models.append(event)
            case Unknown():
                self.unknown.append(event)


def fold(scans: Sequence[Scan]) -> Contents:
    """Fold the events of a run's writers, by time; the order of one writer's events never changes."""
    contents = Contents()
    if len(scans) == 1:
        events = [(at, scans[0].writer, event) for at, event in scans[0].events]
    else:
        every = chain.from_iterable(((at, one.writer, event) for at, event in one.events) for one in scans)
        events = sorted(every, key=lambda item: item[0])
    for writer, event in _not_rewound(events):
        contents.take(writer, event)
    return contents


def _not_rewound(events: Sequence[tuple[float, str, Event]]) -> Iterable[tuple[str, Event]]:
    """Drop events of steps that the run later went back behind; those without a step stay."""
    if not any(type(event) is Rewind for _, _, event in events):
        return [(writer, event) for _, writer, event in events]
    kept: list[tuple[str, Event]] = []
    lowest, earliest = math.inf, math.inf
    for _, writer, event in reversed(events):
        step, is_late = getattr(event, "step", None), getattr(event, "at", 0.0) > earliest
        if isinstance(event, Rewind):
            if not is_late:  # one that was itself taken back takes nothing back
                lowest = min(lowest, event.from_step)
                earliest = min(earliest, math.inf if event.since is None else event.since)
        elif step is None or (step < lowest and not is_late):
            kept.append((writer, event))
    return reversed(kept)
