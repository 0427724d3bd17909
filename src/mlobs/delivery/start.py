"""The event that began a run."""

from __future__ import annotations

from mlobs.events import RunStarted
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder


def find_start(folder: RunFolder) -> tuple[str, RunStarted] | None:
    """Return the writer that opened the run and its first event, None if that is not (yet) there."""
    for path in sorted(folder.journals()):
        with Reader(path) as reader:
            for _, _, event in reader.events():
                if isinstance(event, RunStarted):
                    return path.stem, event
                break
    return None
