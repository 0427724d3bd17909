"""The log of a run as it grows: each look gives the lines that came since the last."""

from __future__ import annotations

from mlobs.events import Log
from mlobs.journal.store import RunFolder
from mlobs.read.journal_tail import JournalTail


class LogTail:
    """Reads a run's log without reading anything twice; it holds no file open between two looks."""

    def __init__(self, folder: RunFolder) -> None:
        self._tail = JournalTail(folder, with_metrics=False)

    def read(self) -> list[Log]:
        """Return the lines that came since the last call, those of several writers by time."""
        return [event for event in self._tail.read() if isinstance(event, Log)]

    def has_ended(self) -> bool:
        """Tell whether nothing more is to be expected: there was an end, it died, or it was removed."""
        return self._tail.has_ended()
