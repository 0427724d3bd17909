"""What each backend has of a run, and what it has not: counts, reasons, and the vendor's reference."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice, takewhile
from operator import gt

from mlobs.delivery.naming import words_for
from mlobs.delivery.start import named_backends
from mlobs.delivery.state import BackendState, Note, States
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder

_END = object()
COUNTS = ("delivered", "lowered", "skipped", "rejected", "pending")


@dataclass(frozen=True)
class BackendReport:
    """One backend's share of a run, in events. Every event is in exactly one of the five counts.

    `has_more`: more than `pending` are, the counting was broken off.
    `reasons` says why events were lowered, skipped or rejected; `state` and `trouble` what the
    lane is doing; `vendor_id` and `url` are the vendor's for the run, None while they are not known.
    """

    backend: str
    delivered: int = 0
    lowered: int = 0
    skipped: int = 0
    rejected: int = 0
    pending: int = 0
    state: str = ""
    trouble: str = ""
    vendor_id: str | None = None
    url: str | None = None
    reasons: tuple[str, ...] = ()
    has_more: bool = False

    @property
    def is_settled(self) -> bool:
        """Nothing is pending."""
        return self.pending == 0 and not self.has_more

    def __str__(self) -> str:
        counts = [
            f"{count:,} {word}" for word in COUNTS if (count := getattr(self, word)) or word == "delivered"
        ]
        if self.has_more:
            counts = [one for one in counts if not one.endswith("pending")]
            counts.append(f"more than {self.pending:,} pending")
        trouble = f" ({self.trouble})" if self.trouble and not self.is_settled else ""
        return f"{self.backend}: {', '.join(counts)}{trouble}"


def report(
    folder: RunFolder, expected: Iterable[str] = (), *, most: int | None = None
) -> dict[str, BackendReport]:
    """Report on every backend that is expected, named by the run, or was sent something; by its name.

    `most` ends the counting of what is pending: it takes about 2 s for a million events.
    """
    states = States(folder.delivery).refresh()
    names = dict.fromkeys([*expected, *named_backends(folder), *states.by_backend])
    return {name: _report(folder, name, states.of(name), most) for name in names}


def pending_events(folder: RunFolder, state: BackendState) -> Generator[None, None, None]:
    """Go through what the backend has not answered for; reads only what lies behind its cursors."""
    for path in folder.journals():
        with Reader(path) as reader:
            cursor = state.cursors.get(path.stem, 0)
            yield from (None for start, _, _ in reader.bodies(cursor) if start)


def _report(folder: RunFolder, name: str, state: BackendState, most: int | None) -> BackendReport:
    with contextlib.closing(pending_events(folder, state)) as events:
        pending = sum(1 for _ in islice(events, most))
        has_more = most is not None and next(events, _END) is not _END
    return BackendReport(
        backend=name,
        delivered=_delivered(folder, state),
        lowered=state.counts["lowered"],
        skipped=state.counts["skipped"],
        rejected=state.counts["rejected"],
        pending=pending,
        state=state.lane.state if state.lane else "",
        trouble=_trouble(folder, state),
        vendor_id=state.vendor_id or state.ref,
        url=state.url,
        reasons=tuple(_reason(note) for note in state.notes.values()),
        has_more=has_more,
    )


def _delivered(folder: RunFolder, state: BackendState) -> int:
    """Count what arrived as it was; where batches of several copies overlap, the journals tell how much."""
    if not state.is_mixed:
        return state.counts["delivered"]
    answered = 0
    for path in folder.journals():
        with Reader(path) as reader:
            before = partial(gt, state.cursors.get(path.stem, 0))
            starts = takewhile(before, (start for start, _, _ in reader.bodies()))
            answered += sum(1 for start in starts if start)
    return answered - sum(state.counts[word] for word in ("lowered", "skipped", "rejected"))


def _trouble(folder: RunFolder, state: BackendState) -> str:
    """What the lane suffers; the event in doubt is called what its author would call it."""
    reason, doubt = state.lane.reason if state.lane else "", state.doubt
    if doubt is None or doubt.key not in reason:
        return reason
    return reason.replace(doubt.key, words_for(folder, doubt.key))


def _reason(note: Note) -> str:
    times = "" if note.count == 1 else f" ({note.count:,} times)"
    return f"{note.outcome}: {note.reason}{times}"
