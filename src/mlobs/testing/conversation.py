"""A backend spoken to as the sender does: lowered events, batches with keys, the reference kept."""

from __future__ import annotations

import io
import itertools
import struct
import uuid
from collections.abc import Iterable
from typing import Any, BinaryIO

from msgspec.structs import replace

from mlobs.backend import Backend, Batch, Entry, Receipt
from mlobs.delivery.lowering import Memory, lower
from mlobs.encoding.forms import encode, is_raw
from mlobs.events import Artifact, Event, Metrics, Params, Process, RunFinished, RunStarted, Tags
from mlobs.testing.specimens import AT, is_about
from mlobs.text import param_text

__all__ = ["AT", "Conversation", "Point", "point_of"]

Point = tuple[str, int, str]  # name, step, value as text: NaN equals itself there


class Conversation:
    """One run on its way to a backend: `send` is a batch that is answered, `lose` one that is not."""

    def __init__(self, backend: Backend, **facts: Any) -> None:
        self.backend = backend
        run_id = f"contract-{uuid.uuid4().hex[:12]}"
        self.run = RunStarted(
            AT, run_id, "contract", f"run {run_id[-4:]}", Process("host", 7, "boot", 3), **facts
        )
        self.ref: str | None = None
        self.outcomes: list[str] = []
        self._memory = Memory()
        self._keys = itertools.count(64)
        self._sent: Batch | None = None
        self._lost: tuple[Entry, ...] = ()

    def send(self, *events: Event) -> Receipt:
        """Deliver what was lost before, and these events, and keep the receipt's reference."""
        self._sent = self._batch((*self._lost, *self._entries(events)))
        self._lost = ()
        return self.repeat()

    def repeat(self) -> Receipt:
        """Deliver the last batch, the same as before, and keep the receipt's reference."""
        assert self._sent is not None
        receipt = self.backend.deliver(self._sent)
        self.ref = receipt.ref
        return receipt

    def lose(self, *events: Event) -> Receipt:
        """Deliver these events; the answer is lost to what follows."""
        self._lost = (*self._lost, *self._entries(events))
        return self.backend.deliver(self._batch(self._lost))

    def read(self) -> list[Event]:
        """What the vendor holds of the run, through the backend's own source."""
        source = self.backend.source()  # type: ignore[attr-defined]
        return list(source.read(self.ref or ""))

    def held(self, event: Event) -> list[Event]:
        """What the vendor holds that stands for this event."""
        return [one for one in self.read() if is_about(one, event)]

    def is_lowered(self, event: Event, receipt: Receipt) -> bool:
        """Tell whether the receipt of the last batch says that the event is stored in another form."""
        sent = self._sent.entries if self._sent else ()
        return any(entry.event == event and entry.key in receipt.lowered for entry in sent)

    def points(self) -> list[Point]:
        """The metric points that the vendor holds, under the names that were recorded, in its order."""
        found = [(name, one.step, value) for one in self._read(Metrics) for name, value in one.values.items()]
        return [point_of(self._original(name), step, value) for name, step, value in found]

    def params(self) -> dict[str, str]:
        """The params that count at the vendor, as text."""
        found: dict[str, str] = {}
        for event in self._read(Params):
            if event.conflict != "keep_first":
                found |= {self._original(name): param_text(value) for name, value in event.values.items()}
        return found

    def tags(self) -> dict[str, str]:
        """The user's tags that count at the vendor."""
        found: dict[str, str] = {}
        for event in self._read(Tags):
            found |= {self._original(name): text for name, text in event.values.items()}
        return {name: text for name, text in found.items() if not name.startswith("mlobs.")}

    def artifacts(self) -> dict[tuple[str, int | None], bytes | None]:
        """The content of artifacts at the vendor, by path and step."""
        return {(one.path, one.step): one.data for one in self._read(Artifact)}

    def end(self) -> RunFinished | None:
        """The end of the run that counts at the vendor."""
        return next(reversed(self._read(RunFinished)), None)

    def rounded(self, value: float) -> float:
        """The value as the backend says that it keeps it."""
        if self.backend.capabilities.float_bits == 32:  # noqa: PLR2004 - IEEE 754 binary32
            rounded: float = struct.unpack("f", struct.pack("f", value))[0]
            return rounded
        return value

    def _read(self, kind: Any) -> list[Any]:
        return [event for event in self.read() if isinstance(event, kind)]

    def _original(self, name: str) -> str:
        there = {changed: recorded for recorded, changed in self._memory.renamed.items()}
        return there.get(name, name)

    def _entries(self, events: Iterable[Event]) -> tuple[Entry, ...]:
        entries = []
        for event in events:
            key = f"{self.run.run_id}-writer:{next(self._keys)}"
            lowering = lower(event, self.backend.capabilities, self._memory)
            self.outcomes.append(lowering.outcome)
            for part, one in enumerate(lowering.events):
                entries.append(Entry(key if part == 0 else f"{key}/{part}", _finished(one)))
        return tuple(entries)

    def _batch(self, entries: tuple[Entry, ...]) -> Batch:
        return Batch(self.run, entries, _open, self.ref, place=f"/contract/{self.run.run_id}")


def point_of(name: str, step: int, value: float) -> Point:
    """A point that can be compared."""
    return name, step, repr(value)


def _finished(event: Event) -> Event:
    if not isinstance(event, Artifact) or not is_raw(event):
        return event
    data = encode(event, io.BytesIO(event.data or b""))
    return replace(event, raw=None, data=data, size_bytes=len(data))


def _open(entry: Entry) -> BinaryIO:
    return io.BytesIO(getattr(entry.event, "data", None) or b"")
