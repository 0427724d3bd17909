"""What each backend has of a run: append-only files, one per sender, merged when read.

A cursor and the vendor's reference change in one record, so that a sender that dies between two
batches leaves both as they were. `serial` counts the records of a (run, backend) across senders:
the highest holds.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from mlobs.delivery.spans import Spans
from mlobs.journal import access
from mlobs.journal.format import encode, frame
from mlobs.journal.reader import Reader

Outcome: TypeAlias = Literal["delivered", "lowered", "skipped", "rejected"]
LaneState: TypeAlias = Literal["delivering", "backing off", "paused", "hung", "stopped"]

STATE_SUFFIX = ".state"


class Note(msgspec.Struct, frozen=True, array_like=True):
    """Why `count` events did not arrive as they were; `key` is the first, and a rejected one's own."""

    outcome: Outcome
    reason: str
    kind: str
    key: str
    count: int = 1


class Settled(msgspec.Struct, frozen=True, array_like=True, tag="settled"):
    """The backend has answered for `events` events of a writer, from offset `begin` up to `until`."""

    at: float
    backend: str
    serial: int
    writer: str
    until: int
    events: int
    ref: str | None
    url: str | None = None
    notes: tuple[Note, ...] = ()
    vendor_id: str | None = None
    begin: int | None = None


class LaneChanged(msgspec.Struct, frozen=True, array_like=True, tag="lane"):
    """The lane is in another state now; `until` is when it tries again (Unix seconds), if it does."""

    at: float
    backend: str
    state: LaneState
    reason: str = ""
    until: float | None = None


class Doubted(msgspec.Struct, frozen=True, array_like=True, tag="doubted"):
    """An event meets server errors since `since`, `doubts` times while the backend took another one."""

    at: float
    backend: str
    key: str
    since: float
    doubts: int


class Vitals(msgspec.Struct, frozen=True, array_like=True, tag="vitals"):
    """A sender was at work on the run at this moment, and the run's program had not been missed.

    `cpu_s` and `peak_bytes` are what the sender's process has used so far, for all of its runs.
    """

    at: float
    cpu_s: float
    peak_bytes: int
    niceness: int


Record: TypeAlias = Settled | LaneChanged | Doubted

_decode = msgspec.msgpack.Decoder(Record | Vitals).decode


@dataclass
class BackendState:
    """All that is known of one backend's share of one run."""

    serial: int = 0
    ref: str | None = None
    url: str | None = None
    vendor_id: str | None = None
    cursors: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    notes: dict[tuple[str, str], Note] = field(default_factory=dict)
    spans: Spans = field(default_factory=Spans)
    is_mixed: bool = (
        False  # batches of several copies of the store overlap: `counts` counts some events twice
    )
    lane: LaneChanged | None = None
    doubt: Doubted | None = None
    rejected: set[str] = field(default_factory=set)

    def merge(self, record: Record) -> None:
        """Take one more record in; files of several senders may come in any order."""
        if isinstance(record, Doubted):
            if self.doubt is None or record.at >= self.doubt.at:
                self.doubt = record
            return
        if isinstance(record, LaneChanged):
            if self.lane is None or record.at >= self.lane.at:
                self.lane = record
            return
        if record.serial > self.serial:
            self.serial, self.ref = record.serial, record.ref
            self.url = record.url or self.url
            self.vendor_id = record.vendor_id or self.vendor_id
        self.cursors[record.writer] = max(record.until, self.cursors.get(record.writer, 0))
        notes = record.notes
        if record.begin is not None:
            notes = tuple(note for note in notes if not self.spans.holds(note.key))
            share = self.spans.add(record.writer, record.begin, record.until)
            if share == "known":
                return  # another copy of the store has delivered it too
            self.is_mixed = self.is_mixed or share == "mixed"
        for note in notes:
            self._merge_note(note)
        self.counts["delivered"] += record.events - sum(note.count for note in notes)

    def _merge_note(self, note: Note) -> None:
        self.counts[note.outcome] += note.count
        if note.outcome == "rejected":
            self.rejected.add(note.key)
        earlier = self.notes.get((note.outcome, note.reason))
        if earlier is not None:
            note = msgspec.structs.replace(earlier, count=earlier.count + note.count)
        self.notes[note.outcome, note.reason] = note


class States:
    """The delivery state of one run by backend, kept up to date by `refresh`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[str, int] = {}
        self.by_backend: dict[str, BackendState] = {}
        self.vitals: dict[str, Vitals] = {}  # by the sender's file, the latest

    @property
    def seen_at(self) -> float:
        """When a sender was last at work on the run (Unix seconds), 0.0 if none ever said so."""
        return max((one.at for one in self.vitals.values()), default=0.0)

    def of(self, backend: str) -> BackendState:
        """The state of one backend, empty if nothing is known of it."""
        return self.by_backend.setdefault(backend, BackendState())

    def refresh(self) -> States:
        """Read what the senders have written since the last time."""
        try:
            names = sorted(path.name for path in self._folder.iterdir() if path.suffix == STATE_SUFFIX)
        except FileNotFoundError:
            return self  # nothing was delivered yet
        for name in names:
            self._read(name)
        return self

    def _read(self, name: str) -> None:
        path = self._folder / name
        offset = self._offsets.get(name, 0)
        if path.stat().st_size <= offset:
            return
        with Reader(path) as reader:
            for _, end, body in reader.bodies(offset):
                offset = end
                with contextlib.suppress(msgspec.ValidationError):  # a newer sender's kind of record
                    record = _decode(body)
                    if isinstance(record, Vitals):
                        self.vitals[name] = record
                    else:
                        self.of(record.backend).merge(record)
        self._offsets[name] = offset


class StateWriter:
    """One lane's file of the delivery state of one run; made at the first record.

    `sender_id` is unique to the lane: a file has one writer. It is open only while a record is
    written, because a sweep has thousands of runs and a process about a thousand descriptors.
    """

    def __init__(self, folder: Path, sender_id: str) -> None:
        self._path = folder / f"{sender_id}{STATE_SUFFIX}"

    def append(self, record: Record | Vitals) -> None:
        """Keep the record; it is on the disk (not yet fsynced) when this returns.

        Raises:
            OSError: there is no room; the caller repeats the batch, which backends store once.
        """
        access.make_folder(self._path.parent)
        content = frame(encode(record))
        fd = access.open_file(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            written = os.write(fd, content)
        finally:
            os.close(fd)
        if written != len(content):  # the torn piece stays: readers step over it
            raise OSError(errno.ENOSPC, f"only {written} of {len(content)} bytes could be written")
