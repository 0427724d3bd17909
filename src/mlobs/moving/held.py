"""What the store holds of an imported run already, so that importing it again doubles nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mlobs.events import Artifact, Event, Metrics, Params, RunFinished, RunStarted, Tags
from mlobs.journal.blobs import blob_path
from mlobs.journal.format import encode
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder
from mlobs.moving.source import IMPORTED_FROM, Payload, Piece
from mlobs.read.record import liveness, scan_writers
from mlobs.read.status import NOBODY, judge

_CHUNK_BYTES = 1 << 20


@dataclass
class Held:
    """A run's record as counts: what is asked for once is crossed off.

    `has_times`: a point is known again by its time too. `end` is the end that counts now, None while the
    run has none; `latest` the time of what is recorded.
    """

    folder: RunFolder
    has_times: bool = True
    points: Counter[tuple[str, int, float, float | None]] = field(default_factory=Counter)
    others: Counter[bytes] = field(default_factory=Counter)
    params: dict[str, list[Any]] = field(default_factory=dict)  # each value that a param ever had
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: dict[tuple[str, int | None], tuple[str, Artifact]] = field(default_factory=dict)
    starts: list[tuple[str, RunStarted]] = field(default_factory=list)
    end: RunFinished | None = None
    latest: float = 0.0

    @classmethod
    def of(cls, folder: RunFolder, *, has_times: bool = True) -> Held:
        """Read what is recorded: about 3 s for a million points."""
        held = cls(folder, has_times)
        for path in sorted(folder.journals()):
            with Reader(path) as reader:
                for _, _, event in reader.events():
                    held._take(path.stem, event)
        is_alive = liveness()
        scans = scan_writers(folder, is_alive, {})
        held.end = judge(scans, is_alive).end if scans else None
        return held

    def _take(self, writer: str, event: Event) -> None:
        self.latest = max(self.latest, getattr(event, "at", 0.0))
        match event:
            case Metrics():
                self.points.update(self._points(event))
            case Params():
                for name, value in event.values.items():
                    self.params.setdefault(name, []).append(value)
                if event.conflict is not None:
                    self.others[encode(event)] += 1
            case Tags():
                self.tags |= event.values
            case Artifact():
                self.artifacts[event.path, event.step] = (writer, event)
            case RunStarted():
                self.starts.append((writer, event))
            case RunFinished():
                pass  # `judge` says which counts
            case _:
                self.others[encode(event)] += 1

    def lacks(self, piece: Piece) -> Iterator[Piece]:
        """Yield what of a piece is not recorded yet."""
        match piece:
            case Payload() | Artifact():
                if not self._has_artifact(piece):
                    yield piece
            case Metrics():
                yield from self._points_beyond(piece)
            case Params(conflict=None):
                yield from self._params_beyond(piece)
            case Tags():
                values = {name: text for name, text in piece.values.items() if self.tags.get(name) != text}
                if values:
                    yield Tags(piece.at, values)
            case _:
                body = encode(piece)
                if self.others[body] > 0:
                    self.others[body] -= 1
                else:
                    yield piece

    def _points_beyond(self, event: Metrics) -> Iterator[Metrics]:
        values = {}
        for point, value in zip(self._points(event), event.values.values(), strict=True):
            if self.points[point] > 0:
                self.points[point] -= 1
            else:
                values[point[0]] = value
        if values:
            yield Metrics(event.at, event.step, values, event.meta)

    def _points(self, event: Metrics) -> Iterator[tuple[str, int, float, float | None]]:
        """Name each point; NaN stands as None, since it does not equal itself."""
        at = event.at if self.has_times else 0.0
        for name, value in event.values.items():
            yield name, event.step, at, _comparable(value)

    def _params_beyond(self, event: Params) -> Iterator[Params]:
        new = {name: value for name, value in event.values.items() if name not in self.params}
        changed = {
            name: value
            for name, value in event.values.items()
            if name in self.params and not any(_is_same(one, value) for one in self.params[name])
        }
        if new:
            yield Params(event.at, new)
        if changed:
            yield Params(event.at, changed, "overwrite")

    def _has_artifact(self, piece: Payload | Artifact) -> bool:
        event = piece.event if isinstance(piece, Payload) else piece
        writer, before = self.artifacts.get((event.path, event.step), ("", None))
        if before is None or before.size_bytes != event.size_bytes:
            return False
        if isinstance(piece, Payload):
            return self._has_content(writer, before, piece)
        return before.data == event.data

    def _has_content(self, writer: str, before: Artifact, piece: Payload) -> bool:
        with piece.file.open("rb") as new:
            if before.blob is None:
                return new.read() == before.data
            path = blob_path(self.folder.path, writer, before.blob)
            if not path.exists():
                return False
            with path.open("rb") as old:
                while chunk := new.read(_CHUNK_BYTES):
                    if chunk != old.read(_CHUNK_BYTES):
                        return False
        return True


def origin_of(folder: RunFolder) -> str | None:
    """Return an imported run's identity; "" if its import was broken off before; None: it was recorded."""
    is_imported = False
    for path in folder.journals():
        with Reader(path) as reader:
            header = reader.header()
            if header is None or header.process != NOBODY:
                continue
            is_imported = True
            for _, _, event in reader.events():
                if isinstance(event, Tags) and IMPORTED_FROM in event.values:
                    return event.values[IMPORTED_FROM]
                if not isinstance(event, RunStarted):
                    break
    return "" if is_imported else None


def _comparable(value: float) -> float | None:
    return None if value != value else value  # noqa: PLR0124 - NaN alone differs from itself


def _is_same(one: Any, other: Any) -> bool:
    return bool(one == other) or (one != one and other != other)  # noqa: PLR0124 - NaN alone differs
