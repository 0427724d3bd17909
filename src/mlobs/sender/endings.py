"""The ends that the training process could not write itself."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mlobs.delivery.attempts import latest_attempt
from mlobs.events import RunFinished
from mlobs.journal.format import Header, decode_event
from mlobs.journal.process import is_alive
from mlobs.journal.reader import Reader
from mlobs.journal.store import RunFolder
from mlobs.journal.writer import Writer


def close_if_abandoned(folder: RunFolder) -> bool:
    """Record the end of a run whose process vanished without one; tell whether it was so.

    The run ended, as far as anyone can know, at its last event. Repeating it does nothing.
    """
    latest = latest_attempt(folder)
    opener, last_at = None, 0.0
    for name, header, at, ends in _looks(folder):
        if any(latest.is_end(name, end) for end in ends):
            return False
        last_at = max(last_at, at)
        if header is not None and header.is_opener and latest.opener in ("", name):
            opener = header
    if opener is None or is_alive(opener.process) is not False:
        return False
    reason = f"process vanished: pid {opener.process.pid} on {opener.process.host} ended without a word"
    end_as_lost(folder, last_at or opener.at, reason)
    return True


def end_as_lost(folder: RunFolder, at: float, reason: str) -> None:
    """Record that a run ended at `at` (Unix seconds), as far as anyone can know.

    Should its process come back, what it records counts as before, and its own end counts more.
    """
    writer = Writer(folder.path, folder.run_id, mapped=False)
    writer.append(RunFinished(at=at, status="CRASHED", reason=reason))
    writer.close()


def has_end(folder: RunFolder) -> bool:
    """Tell whether the end of the run's latest attempt is recorded, by whomever."""
    latest = latest_attempt(folder)
    return any(latest.is_end(writer, end) for writer, _, _, ends in _looks(folder) for end in ends)


def program_lives(folder: RunFolder) -> bool:
    """Tell whether the program that opened the run last is still there; True also where nobody can know."""
    opener = latest_attempt(folder).opener
    for path in folder.journals():
        if opener not in ("", path.stem):
            continue
        with Reader(path) as reader:
            header = reader.header()
        if header is not None and header.is_opener and is_alive(header.process) is False:
            return False
    return True


def trim(folder: RunFolder) -> None:
    """Give back the disk that a dead writer had reserved behind its last record."""
    for path in folder.journals():
        with Reader(path) as reader:
            header = reader.header()
            if header is None or is_alive(header.process) is not False:
                continue
            end = max((end for _, end, _ in reader.bodies()), default=0)
            if not reader.tail_bytes and end < path.stat().st_size:
                os.truncate(path, end)


def _looks(folder: RunFolder) -> Iterator[tuple[str, Header | None, float, list[RunFinished]]]:
    """For each writer: its id, who it was, when it wrote last, and the ends of the run that it wrote."""
    for path in folder.journals():
        with Reader(path) as reader:
            header, last = reader.header(), b""
            ends: list[RunFinished] = []
            for start, _, body in reader.bodies():
                if start:
                    last = body
                    if _may_be_end(body) and isinstance(event := decode_event(body), RunFinished):
                        ends.append(event)
            at = getattr(decode_event(last), "at", 0.0) if last else 0.0
            yield path.stem, header, at, ends


def _may_be_end(body: bytes) -> bool:
    return b"run_finished" in body[:16]
