"""The log of a run as it grows: each look gives the lines that came since the last."""

from __future__ import annotations

from operator import attrgetter

from mlobs.delivery.attempts import latest_attempt
from mlobs.events import Log, RunFinished
from mlobs.journal.format import decode_event, is_metrics
from mlobs.journal.process import is_alive
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder


class LogTail:
    """Reads a run's log without reading anything twice; it holds no file open between two looks."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._ends_at: dict[str, int] = {}  # by writer, behind the last record that was read
        self._finished: dict[str, RunFinished] = {}

    def read(self) -> list[Log]:
        """Return the lines that came since the last call, those of several writers by time."""
        lines: list[Log] = []
        for path in sorted(self._folder.journals()):
            with Reader(path) as reader:
                for start, end, body in reader.bodies(self._ends_at.get(path.stem, 0)):
                    self._ends_at[path.stem] = end
                    event = decode_event(body) if start and not is_metrics(body) else None
                    if isinstance(event, Log):
                        lines.append(event)
                    elif isinstance(event, RunFinished):
                        self._finished[path.stem] = event
        return sorted(lines, key=attrgetter("at"))

    def has_ended(self) -> bool:
        """Tell whether nothing more is to be expected: at the last look there was an end, or it died."""
        latest = latest_attempt(self._folder)
        if any(latest.is_end(writer, end) for writer, end in self._finished.items()):
            return True
        path = self._folder.journal(latest.opener)
        if not latest.opener or not path.exists():
            return False
        with Reader(path) as reader:
            header = reader.header()
        return header is not None and is_alive(header.process) is False
