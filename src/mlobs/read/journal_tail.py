"""A run's journals as they grow: each look gives the events that came since the last."""

from __future__ import annotations

import contextlib

from mlobs.delivery.attempts import latest_attempt
from mlobs.events import Event, RunFinished
from mlobs.journal.format import decode_event, is_metrics
from mlobs.journal.process import is_alive
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder


class JournalTail:
    """Reads a run's events without reading anything twice; it holds no file open between two looks.

    Args:
        folder: the run.
        with_metrics: give metrics, too; they are most of what a journal holds.
    """

    def __init__(self, folder: RunFolder, *, with_metrics: bool) -> None:
        self._folder = folder
        self._with_metrics = with_metrics
        self._ends_at: dict[str, int] = {}  # by writer, behind the last record that was read
        self._finished: dict[str, RunFinished] = {}

    def read(self) -> list[Event]:
        """Return the events that came since the last call, those of several writers by time."""
        events: list[Event] = []
        for path in sorted(self._folder.journals()):
            with contextlib.suppress(FileNotFoundError), Reader(path) as reader:  # the run is being removed
                for start, end, body in reader.bodies(self._ends_at.get(path.stem, 0)):
                    self._ends_at[path.stem] = end
                    if not start or (not self._with_metrics and is_metrics(body)):
                        continue
                    event = decode_event(body)
                    events.append(event)
                    if isinstance(event, RunFinished):
                        self._finished[path.stem] = event
        return sorted(events, key=lambda event: getattr(event, "at", 0.0))

    def has_ended(self) -> bool:
        """Tell whether nothing more is to be expected: there was an end, it died, or it was removed."""
        try:
            latest = latest_attempt(self._folder)
            if any(latest.is_end(writer, end) for writer, end in self._finished.items()):
                return True
            if not latest.opener:
                return not self._folder.path.is_dir()
            with Reader(self._folder.journal(latest.opener)) as reader:
                header = reader.header()
        except FileNotFoundError:
            return True  # removed between two lines
        return header is not None and is_alive(header.process) is False
