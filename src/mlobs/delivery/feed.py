"""The events of one run that one backend has not answered for yet, batch by batch."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import BinaryIO

from msgspec.structs import replace

from mlobs.backend import Batch, Capabilities, Entry, Receipt
from mlobs.delivery.attempts import Attempt, Attempts
from mlobs.delivery.draft import Draft, Outcomes, answered, notes_on
from mlobs.delivery.keys import derived_key
from mlobs.delivery.lowering import Memory, lower
from mlobs.delivery.rolling import Roll, recalled, rolled
from mlobs.delivery.start import find_start
from mlobs.delivery.state import BackendState, Outcome, Settled, States
from mlobs.encoding.finishing import finished, open_content
from mlobs.encoding.forms import is_raw, is_slow
from mlobs.errors import MlobsError
from mlobs.events import Artifact, Event, Metrics, Params, RunFinished, RunStarted, Tags, kind_of
from mlobs.journal.format import decode_event, is_metrics
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder

MOST_SLOW = 16  # in a batch: making a PNG takes tens of milliseconds, and it is held in memory


class Feed:
    """Drafts batches for one (run, backend), in each writer's order, the run's end last.

    Of a run that was gone on with, all of an attempt comes before the next, its end included. The
    run is complete once its latest attempt's end was answered for.
    """

    def __init__(self, folder: RunFolder, backend: str, capabilities: Capabilities) -> None:
        self.folder = folder
        self.backend = backend
        self.state: BackendState = States(folder.delivery).refresh().of(backend)
        self.run: RunStarted | None = None
        self.is_complete = False
        self._attempts = Attempts(folder)
        self._ends: dict[str, RunFinished] = {}  # by writer, the end that its cursor stands before
        self._capabilities = capabilities
        self._memory: Memory | None = None
        self._rolls: dict[str, Roll] = {}  # by writer, as of its cursor

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.folder.run_id

    def has_start(self) -> bool:
        """Tell whether the run's first event is there: nothing is sent before it."""
        if self.run is None and (found := find_start(self.folder)) is not None:
            _, self.run = found
        return self.run is not None

    def draft(self, limit: int) -> Draft | None:
        """The next batch of at most `limit` events, or None if there is nothing to send now."""
        if not self.has_start():
            return None
        for attempt in self._attempts.refresh():
            for writer in attempt.writers:
                draft = self._draft_of(writer, limit)
                if draft is not None:
                    return draft
            ended = [writer for writer, end in self._ends.items() if attempt.is_end(writer, end)]
            for writer in sorted(ended, key=lambda name: (name == attempt.opener, name)):
                draft = self._draft_of(writer, limit, attempt)
                if draft is not None:
                    return draft
        return None

    def reopen(self) -> None:
        """Look again: the run was gone on with after its end."""
        self.is_complete = False

    def batch(self, draft: Draft, parent_ref: str | None) -> Batch:
        """Address a draft."""
        assert self.run is not None
        return Batch(
            run=self.run,
            entries=draft.entries,
            open_blob=self._open_blob,
            ref=self.state.ref,
            parent_ref=parent_ref,
            place=os.path.abspath(self.folder.path),  # noqa: PTH100 - as it is named, without asking the disk
        )

    def settled(self, draft: Draft, receipt: Receipt | None, at: float) -> Settled:
        """The record that this draft was answered for; None: nothing of it needed to be sent."""
        if receipt is None:
            return self._record(draft, draft.outcomes, at)
        record = self._record(draft, answered(draft, receipt), at)
        return replace(record, ref=receipt.ref, url=receipt.url, vendor_id=receipt.vendor_id)

    def parked(self, draft: Draft, reason: str, at: float) -> Settled:
        """The record that the draft's one event is refused for good; the reference stays what it was."""
        refused = Receipt(ref="", rejected={entry.key: reason for entry in draft.entries[:1]})
        return self._record(draft, answered(draft, refused), at)

    def _record(self, draft: Draft, outcomes: Outcomes, at: float) -> Settled:
        return Settled(
            at=at,
            backend=self.backend,
            serial=self.state.serial + 1,
            writer=draft.writer,
            until=draft.until,
            events=draft.events,
            ref=self.state.ref,
            notes=notes_on(outcomes),
            begin=self.state.cursors.get(draft.writer, 0),
        )

    def accept(self, record: Settled, draft: Draft) -> None:
        """Go on behind a draft, once its record is on the disk."""
        self.state.merge(record)
        self._rolls[draft.writer] = draft.roll
        self.is_complete = self.is_complete or draft.has_end

    def _draft_of(self, writer: str, limit: int, ending: Attempt | None = None) -> Draft | None:
        """The next batch of one writer, up to an end of the run; that of the attempt `ending` is sent too."""
        memory = self._recalled()
        most_values = self._capabilities.max_values
        entries: list[Entry] = []
        outcomes: dict[str, tuple[Outcome, str, str]] = {}
        cursor = until = self.state.cursors.get(writer, 0)
        if not self._has_more(writer, cursor):
            return None
        events = values = slow = 0
        self._ends.pop(writer, None)
        has_end = False
        for offset, end, event in self._events(writer, cursor):
            lowering = lower(event, self._capabilities, memory)
            values += _values_in(event)
            slow += sum(map(is_slow, lowering.events))
            is_full = events > 0 and (slow > MOST_SLOW or (most_values is not None and values > most_values))
            if isinstance(event, RunFinished):
                is_ours = ending is not None and ending.is_end(writer, event)
                if not is_ours and events == 0:
                    self._ends[writer] = event
                is_full = is_full or not is_ours
            if is_full:
                break
            key = f"{writer}:{offset}"
            entries += [Entry(derived_key(key, part), one) for part, one in enumerate(lowering.events)]
            if lowering.outcome != "native":
                outcomes[key] = (lowering.outcome, lowering.reason, kind_of(event))
            until, events = end, events + 1
            has_end = has_end or (isinstance(event, RunFinished) and ending is self._attempts.latest)
            if events >= limit:
                break
        if not events:
            return None
        joined = rolled(writer, entries, self._rolls.get(writer) or Roll())
        ready = tuple(Entry(entry.key, self._finished(writer, entry.event)) for entry in joined.entries)
        return Draft(writer, until, events, ready, outcomes, joined.keys, joined.roll, has_end)

    def _recalled(self) -> Memory:
        """What lowering must know of the events that were settled before this feed began.

        If the run's end is among them, the run is complete.
        """
        if self._memory is None:
            self._memory = Memory()
            self._attempts.refresh()
            for writer, cursor in self.state.cursors.items():
                self._recall(writer, cursor, self._memory)
        return self._memory

    def _recall(self, writer: str, cursor: int, memory: Memory) -> None:
        path = self.folder.journal(writer)
        if not path.exists():
            return
        with Reader(path) as reader:
            for start, _, body in reader.bodies():
                if start >= cursor:
                    return
                if start and not is_metrics(body):
                    event = decode_event(body)
                    lowering = lower(event, self._capabilities, memory)
                    roll = self._rolls.setdefault(writer, Roll())
                    self._rolls[writer] = recalled(roll, lowering.events)
                    latest = self._attempts.latest
                    if isinstance(event, RunFinished) and latest and latest.is_end(writer, event):
                        self.is_complete = True

    def _has_more(self, writer: str, cursor: int) -> bool:
        return self.folder.journal(writer).stat().st_size > cursor

    def _events(self, writer: str, offset: int) -> Iterator[tuple[int, int, Event]]:
        with Reader(self.folder.journal(writer)) as reader:
            yield from reader.events(offset)

    def _finished(self, writer: str, event: Event) -> Event:
        """The event with its content in its final form; what cannot be made says so when it is opened."""
        if isinstance(event, Artifact) and is_raw(event):
            with contextlib.suppress(MlobsError, OSError):
                return finished(self.folder.path, writer, event)
        return event

    def _open_blob(self, entry: Entry) -> BinaryIO:
        event, writer = entry.event, entry.key.rpartition(":")[0]
        if not isinstance(event, Artifact):
            return io.BytesIO()
        if is_raw(event):
            return io.BytesIO(finished(self.folder.path, writer, event).data or b"")
        return open_content(self.folder.path, writer, event)


_VALUED = (Metrics, Params, Tags)


def _values_in(event: Event) -> int:
    return len(event.values) if isinstance(event, _VALUED) else 0
