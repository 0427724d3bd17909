"""A run as it was recorded: all its writers' journals read as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from heapq import merge
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlobs.delivery.state import States
from mlobs.errors import UsageError
from mlobs.events import (
    Dataset,
    Event,
    Histogram,
    Log,
    ModelFingerprint,
    Process,
    RunFinished,
    RunStarted,
    Snapshot,
    Unknown,
)
from mlobs.journal import process
from mlobs.journal.blobs import blob_path
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder
from mlobs.moments import utc
from mlobs.read.artifact import StoredArtifact, stored
from mlobs.read.contents import fold
from mlobs.read.html import run_html
from mlobs.read.location import StoreLike, open_store
from mlobs.read.lookup import find_artifact
from mlobs.read.plot import Axis, plot_metrics
from mlobs.read.points import Points, that_count
from mlobs.read.scan import Flaw, Scan, scan
from mlobs.read.status import judge

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

Alive = Callable[[Process], bool | None]


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run, at the moment it was read.

    - `status` is honest for a run whose process vanished, also if nobody recorded that; `ended` is
      then the time of its last event.
    - `is_stale`: it reads RUNNING, but its host gives no sign of life; `mlobs repair` ends it.
      `last_seen` is the last sign of life of a run whose end is not recorded.
    - `last_metrics` holds each metric's value that was recorded last.
    - Of a param the first value counts unless it was overwritten on purpose; of a tag, an artifact
      (by path and step) and a snapshot part the latest. What a rewind took back is left out, but
      for logs.
    - `unknown` are events of kinds that a newer mlobs wrote.
    - `damage` is what could not be read; everything around it was.
    - `start` and `end` are the run's first and last events, None where they are not there (yet);
      `latest` is the start of the latest attempt, of a run that was gone on with.
    """

    run_id: str
    experiment: str
    name: str
    status: str
    reason: str
    is_stale: bool
    last_seen: datetime | None
    started: datetime | None
    ended: datetime | None
    params: dict[str, Any]
    tags: dict[str, str]
    last_metrics: dict[str, float]
    artifacts: tuple[StoredArtifact, ...]
    datasets: tuple[Dataset, ...]
    histograms: tuple[Histogram, ...]
    snapshots: dict[str, Snapshot]
    models: tuple[ModelFingerprint, ...]
    unknown: tuple[Unknown, ...]
    damage: tuple[Flaw, ...]
    start: RunStarted | None
    latest: RunStarted | None
    end: RunFinished | None
    folder: RunFolder = field(repr=False)
    points: Points = field(repr=False)
    _snapshot_writers: dict[str, str] = field(repr=False)

    def snapshot_file(self, part: str) -> Path | None:
        """Where the file lies that belongs to a part of the snapshot, such as the code; None: it has none."""
        snapshot = self.snapshots.get(part)
        if snapshot is None or snapshot.blob is None:
            return None
        return blob_path(self.folder.path, self._snapshot_writers[part], snapshot.blob)

    def artifact(self, path: str, step: int | None = None) -> StoredArtifact:
        """An artifact by its path, or its path without the suffix; without a step the latest.

        Raises:
            UsageError: there is none.
        """
        return self._find("artifact", path, step)

    def table(self, name: str, step: int | None = None) -> pd.DataFrame:
        """A table by the name that it was logged under.

        Raises:
            UsageError: there is none.
            StoreError: its content is not in the store (any more).
        """
        return self._find("table", name, step).frame()

    def matrix(self, name: str, step: int | None = None) -> pd.DataFrame:
        """The numbers of a matrix, or a confusion matrix, with its labels.

        Raises:
            UsageError: there is none.
            StoreError: its content is not in the store (any more).
        """
        return self._find("matrix", name, step).frame()

    def image(self, name: str, step: int | None = None) -> Image:
        """An image, a figure of matplotlib or the heat map of a matrix, as an image of PIL.

        Raises:
            UsageError: there is none.
            StoreError: its content is not in the store (any more).
        """
        return self._find("image", name, step).image()

    def figure(self, name: str, step: int | None = None) -> StoredArtifact:
        """A figure: of matplotlib a picture, which `image()` opens; of plotly HTML, which `text()` has.

        Raises:
            UsageError: there is none.
        """
        return self._find("figure", name, step)

    def _find(self, what: str, name: str, step: int | None) -> StoredArtifact:
        return find_artifact(self.artifacts, what, name, step, self.run_id)

    @property
    def parent_run_id(self) -> str | None:
        """The run that this one is a child of."""
        return self.start.parent_run_id if self.start is not None else None

    @property
    def duration_s(self) -> float | None:
        """How long it took, in seconds; None while it runs."""
        if self.started is None or self.ended is None:
            return None
        return (self.ended - self.started).total_seconds()

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """All points in long form, as `mlobs.metrics` returns them."""
        from mlobs.read.point_frame import frame_of_points

        return frame_of_points([(self.run_id, self.points)])

    def plot(self, *keys: str, x: Axis = "step", smooth: float = 0.0) -> Any:
        """Return a figure of plotly with a line for each metric; without `keys`, of all.

        `x` is "step", or "time" (UTC). `smooth` weighs what came before, from 0 to less than 1.

        Raises:
            UsageError: there is no such metric, or an argument cannot be used.
            MissingPackage: plotly is not installed.
        """
        title = f"{self.name} ({self.run_id})"
        return plot_metrics(self.points, keys, title=title, x=x, smooth=smooth)

    def _repr_html_(self) -> str:
        times = [f"{one:%Y-%m-%d %H:%M:%S} UTC" if one else "" for one in (self.started, self.ended)]
        facts = (" to ".join(filter(None, times)), f"experiment {self.experiment}", self.reason)
        columns = {"params": self.params, "metrics": self.last_metrics, "tags": self.tags}
        return run_html(self.name, self.run_id, self.status, facts, columns)

    def events(self) -> Iterator[Event]:
        """Read every event again, by time; kinds of a newer mlobs come as `Unknown`.

        The order of one writer's events never changes, also where its clock was set back.
        """
        timed = [_timed_events(path) for path in sorted(self.folder.journals())]
        merged = timed[0] if len(timed) == 1 else merge(*timed, key=itemgetter(0))
        return (event for _, event in merged)

    def logs(self) -> Iterator[Log]:
        """Read the log again, oldest line first."""
        return (event for event in self.events() if isinstance(event, Log))


def load_run(run: str, *, store: StoreLike = None) -> RunRecord:
    """Read one run. `run` is an id, a unique beginning of one, or "latest".

    Raises:
        UsageError: there is no such run, or more than one, or it has not recorded anything yet.
        StoreError: there is no such store.
    """
    folder = open_store(store).find(run)
    record = read_run(folder, liveness())
    if record is None:
        raise UsageError(f"run {folder.run_id!r} has not recorded anything yet - look again in a moment")
    return record


def liveness() -> Alive:
    """Make the question whether a process lives, as seen from here; ask it for any number of runs."""
    return partial(process.is_alive, here=process.this_process())


def read_run(folder: RunFolder, is_alive: Alive, names: dict[str, int] | None = None) -> RunRecord | None:
    """Read all journals of a run; None if there is nothing in them yet.

    `names` numbers the metrics' names; runs whose points are put together share one.
    """
    scans = scan_writers(folder, is_alive, {} if names is None else names)
    return record_of(folder, scans, is_alive) if scans else None


def scan_writers(folder: RunFolder, is_alive: Alive, names: dict[str, int]) -> list[Scan]:
    """Read the journals of a run: the opener's first, then the others by age."""
    scans = [scan(path, names, is_alive) for path in folder.journals()]
    kept = [one for one in scans if not one.is_empty]
    return sorted(kept, key=lambda one: (not one.is_opener, one.opened_at, one.writer))


def record_of(folder: RunFolder, scans: list[Scan], is_alive: Alive) -> RunRecord:
    """Put together what was read of a run's journals, of which there is at least one."""
    starts = _starts(scans)
    start = starts[0] if starts else None
    verdict = judge(scans, is_alive, seen_by_sender=lambda: States(folder.delivery).refresh().seen_at)
    contents = fold(scans)
    points = that_count([one.points for one in scans])
    return RunRecord(
        run_id=folder.run_id,
        experiment=start.experiment if start is not None else "",
        name=start.name if start is not None else "",
        status=verdict.status,
        reason=verdict.reason,
        is_stale=verdict.is_stale,
        last_seen=utc(verdict.seen),
        started=utc(started_at(scans)),
        ended=utc(verdict.ended),
        params=contents.params,
        tags=contents.tags,
        last_metrics=points.last(),
        artifacts=tuple(stored(folder, writer, event) for writer, event in contents.artifacts.values()),
        datasets=tuple(contents.datasets),
        histograms=tuple(contents.histograms),
        snapshots=contents.snapshots,
        models=tuple(contents.models),
        unknown=tuple(contents.unknown),
        damage=tuple(flaw for one in scans for flaw in one.flaws),
        start=start,
        latest=starts[-1] if starts else None,
        end=verdict.end,
        folder=folder,
        points=points,
        _snapshot_writers=contents.snapshot_writers,
    )


def started_at(scans: Sequence[Scan]) -> float:
    """When a run began (Unix seconds), by the start of its first attempt, else by its oldest file."""
    starts = _starts(scans)
    return starts[0].at if starts else min(one.opened_at for one in scans)


def _starts(scans: Sequence[Scan]) -> list[RunStarted]:
    return sorted((one.start for one in scans if one.start is not None), key=attrgetter("attempt", "at"))


def _timed_events(path: Path) -> Iterator[tuple[float, Event]]:
    latest = 0.0
    with Reader(path) as reader:
        for _, _, event in reader.events():
            latest = max(latest, getattr(event, "at", 0.0))
            yield latest, event
