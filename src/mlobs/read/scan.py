"""One pass over one journal file: its points in columns, its other events as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mlobs.events import Event, Heartbeat, Log, Metrics, Process, Rewind, RunFinished, RunStarted
from mlobs.journal.format import FORMAT, Header, decode_event, decode_header
from mlobs.journal.reader import Reader
from mlobs.read.points import Points


@dataclass(frozen=True)
class Flaw:
    """What could not be read: `size_bytes` at `offset` of `file`, and why; all around it was read."""

    file: Path
    offset: int
    size_bytes: int
    what: str


@dataclass
class Scan:
    """What one writer recorded. `events` holds (at, event) of all but metrics, logs and heartbeats.

    `at` never falls in `events`: where the writer's clock was set back it stands still. `tail_bytes`
    behind `end` are an unfinished record: being written right now, or cut off by the writer's death.
    """

    path: Path
    points: Points
    header: Header | None = None
    start: RunStarted | None = None
    events: list[tuple[float, Event]] = field(default_factory=list)
    ends: list[RunFinished] = field(default_factory=list)
    latest: float = 0.0
    end: int = 0
    tail_bytes: int = 0
    flaws: list[Flaw] = field(default_factory=list)

    @property
    def writer(self) -> str:
        """The writer's id."""
        return self.path.stem

    @property
    def process(self) -> Process | None:
        """Who wrote the file, None if neither the header nor the run's start can be read."""
        if self.header is not None:
            return self.header.process
        return self.start.process if self.start is not None else None

    @property
    def is_opener(self) -> bool:
        """The file of a process that opened the run; it holds the run's start."""
        return self.start is not None or (self.header is not None and self.header.is_opener)

    @property
    def opened_at(self) -> float:
        """When the file was begun (Unix seconds), as far as it says so."""
        if self.header is not None:
            return self.header.at
        return self.start.at if self.start is not None else self.latest

    @property
    def is_empty(self) -> bool:
        """Nothing is recorded yet, and nothing is damaged either."""
        return self.end == 0 and not self.flaws and not self.tail_bytes

    def take(self, event: Event) -> None:
        """Take in one more event that is not `Metrics`."""
        self.latest = max(self.latest, getattr(event, "at", 0.0))
        match event:
            case Log() | Heartbeat():
                return
            case Rewind():
                self.points.rewind(event)
            case RunStarted():
                self.start = event
                self.points.since = event.at
            case RunFinished():
                self.ends.append(event)
        self.events.append((self.latest, event))


def scan(
    path: Path,
    names: dict[str, int],
    is_alive: Callable[[Process], bool | None],
    points: Points | None = None,
) -> Scan:
    """Read a journal file as far as it goes now; `names` is shared by the files of a query.

    `points` takes the place of what holds the points otherwise. A file that cannot be opened comes back
    empty, with a flaw that says why.
    """
    found = Scan(path, Points(names) if points is None else points)
    try:
        reader = Reader(path)
    except OSError as error:
        found.flaws.append(Flaw(path, 0, 0, f"cannot be read: {error.strerror}"))
        return found
    with reader:
        _read(reader, found)
        found.tail_bytes = reader.tail_bytes
    found.flaws += [Flaw(path, one.offset, one.size_bytes, "damaged") for one in reader.damage]
    if found.header is None and found.end:
        found.flaws.append(Flaw(path, 0, 0, "the header is damaged"))
    _judge_tail(found, is_alive)
    if found.points.ats:
        found.latest = max(found.latest, found.points.ats[-1])
    return found


def _read(reader: Reader, found: Scan) -> None:
    add = found.points.add
    end = 0
    for start, end, body in reader.bodies():
        event = decode_event(body)
        if type(event) is Metrics:
            try:
                add(event)
            except OverflowError:
                what = f"step {event.step} does not fit 64 bits; its values are in events() alone"
                found.flaws.append(Flaw(found.path, start, end - start, what))
        elif start or (header := decode_header(body)) is None:
            found.take(event)
        else:
            found.header = header
            if header.format > FORMAT:
                what = f"written in format {header.format}, newer than {FORMAT} - type: pip install -U mlobs"
                found.flaws.append(Flaw(found.path, start, end - start, what))
    found.end = end


def _judge_tail(found: Scan, is_alive: Callable[[Process], bool | None]) -> None:
    """An unfinished record of a writer that is gone is damage; of any other it may still be finished."""
    if found.tail_bytes and (found.process is None or is_alive(found.process) is False):
        what = "cut off by the writer's death"
        found.flaws.append(Flaw(found.path, found.end, found.tail_bytes, what))
