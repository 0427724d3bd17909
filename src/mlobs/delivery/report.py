"""What each backend has of a run, and what it has not: counts, reasons, and the vendor's reference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlobs.delivery.start import find_start
from mlobs.delivery.state import BackendState, Note, States
from mlobs.events import BackendSpec
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder

COUNTS = ("delivered", "lowered", "skipped", "rejected", "pending")


@dataclass(frozen=True)
class BackendReport:
    """One backend's share of a run, in events. Every event is in exactly one of the five counts.

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

    @property
    def is_settled(self) -> bool:
        """Nothing is pending."""
        return self.pending == 0

    def __str__(self) -> str:
        counts = [
            f"{count:,} {word}" for word in COUNTS if (count := getattr(self, word)) or word == "delivered"
        ]
        trouble = f" ({self.trouble})" if self.trouble and self.pending else ""
        return f"{self.backend}: {', '.join(counts)}{trouble}"


def report(folder: RunFolder, expected: Iterable[str] = ()) -> dict[str, BackendReport]:
    """Report on every backend that is expected, named by the run, or was sent something; by its name."""
    states = States(folder.delivery).refresh()
    names = dict.fromkeys([*expected, *(spec.name for spec in _named(folder)), *states.by_backend])
    return {name: _report(folder, name, states.of(name)) for name in names}


def pending_events(folder: RunFolder, state: BackendState) -> int:
    """Count the events that the backend has not answered for; reads only what lies behind its cursors."""
    pending = 0
    for path in folder.journals():
        with Reader(path) as reader:
            cursor = state.cursors.get(path.stem, 0)
            pending += sum(1 for start, _, _ in reader.bodies(cursor) if start)
    return pending


def _report(folder: RunFolder, name: str, state: BackendState) -> BackendReport:
    return BackendReport(
        backend=name,
        delivered=state.counts["delivered"],
        lowered=state.counts["lowered"],
        skipped=state.counts["skipped"],
        rejected=state.counts["rejected"],
        pending=pending_events(folder, state),
        state=state.lane.state if state.lane else "",
        trouble=state.lane.reason if state.lane else "",
        vendor_id=state.vendor_id or state.ref,
        url=state.url,
        reasons=tuple(_reason(note) for note in state.notes.values()),
    )


def _reason(note: Note) -> str:
    times = "" if note.count == 1 else f" ({note.count:,} times)"
    return f"{note.outcome}: {note.reason}{times}"


def _named(folder: RunFolder) -> tuple[BackendSpec, ...]:
    found = find_start(folder)
    return found[1].backends if found else ()
