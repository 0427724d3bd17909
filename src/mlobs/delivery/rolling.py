"""Log lines as text files that grow, for a backend that keeps files but no lines.

Lowering makes a line of each log event; here the lines of a batch join the text of their writer so
far. Each batch replaces the last file by a longer one, so what a file holds follows from the
journal alone, and a batch that is delivered again stores the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mlobs.backend import Capabilities, Entry
from mlobs.delivery.documents import skipped, takes_documents
from mlobs.delivery.keys import derived_key
from mlobs.delivery.memory import Lowering, Memory
from mlobs.events import Artifact, Event, Log, Role
from mlobs.text import log_line

MAX_FILE_BYTES = 1 << 17  # the last file is sent again with each batch; a day of a line a second is 60 files
FORM = "line"  # of an artifact that holds one line, see `encoding.forms`


@dataclass
class Roll:
    """The last file of a writer's log: its number, from 1, and the lines in it."""

    number: int = 1
    lines: list[bytes] = field(default_factory=list)
    size_bytes: int = 0

    def has_room(self, line: bytes) -> bool:
        """Tell whether the line still goes into this file; a longer one than any file has one of its own."""
        return not self.lines or self.size_bytes + len(line) <= MAX_FILE_BYTES

    def next(self, line: bytes) -> Roll:
        """Return a copy of the file that the line is to go into."""
        if self.has_room(line):
            return Roll(self.number, self.lines.copy(), self.size_bytes)
        return Roll(self.number + 1)

    def add(self, line: bytes) -> None:
        """Put the line at the end."""
        self.lines.append(line)
        self.size_bytes += len(line)


class Rolled(NamedTuple):
    """Entries with files in the place of lines, and the last file.

    `keys` holds those of all lines that a file's entry stands for, by its own.
    """

    entries: tuple[Entry, ...]
    roll: Roll
    keys: dict[str, tuple[str, ...]]


def log_as_line(event: Log, capabilities: Capabilities, memory: Memory) -> Lowering:  # noqa: ARG001 - a Rule
    """Write a log event as the line of a text file."""
    if not takes_documents(capabilities):
        return skipped("log")
    role: Role = "text" if "text" in capabilities.roles else "file"
    data = f"{log_line(event)}\n".encode("utf-8", "backslashreplace")
    line = Artifact(event.at, "logs", len(data), role, "text/plain", data=data, raw={"form": FORM})
    return Lowering((line,), "lowered", "log lines are text files under logs/ there")


def rolled(writer: str, entries: Sequence[Entry], roll: Roll) -> Rolled:
    """Join the lines among a batch's entries to `roll`, which stays as it is.

    A file stands where its last line stood. Its key derives from that line's and from how many lines
    are new in it: it repeats when the batch does, and only then. So a backend that knows a key does not
    take a file for an older one when a smaller batch came after a larger one, whose answer was lost.
    """
    files: dict[str, Roll] = {}  # by the key of each line, the file that it went into
    joined: dict[int, list[str]] = {}  # by the file's number, the keys of its new lines
    for entry in entries:
        line = line_of(entry.event)
        if line is None:
            continue
        if not files or not roll.has_room(line):
            roll = roll.next(line)
        roll.add(line)
        files[entry.key] = roll
        joined.setdefault(roll.number, []).append(entry.key)
    last = {keys[-1]: tuple(keys) for keys in joined.values()}
    kept: list[Entry] = []
    for entry in entries:
        if entry.key in last:
            key = derived_key(entry.key, len(last[entry.key]))
            kept.append(Entry(key, _file(writer, files[entry.key], entry.event)))
        elif entry.key not in files:
            kept.append(entry)
    return Rolled(tuple(kept), roll, {derived_key(key, len(keys)): keys for key, keys in last.items()})


def recalled(roll: Roll, events: Iterable[Event]) -> Roll:
    """Return the last file once these events have been delivered too; `roll` itself may grow."""
    for line in filter(None, map(line_of, events)):
        roll = roll if roll.has_room(line) else Roll(roll.number + 1)
        roll.add(line)
    return roll


def line_of(event: Event) -> bytes | None:
    """Return the line that the event is, None if it is none."""
    if not isinstance(event, Artifact) or event.raw is None or event.raw.get("form") != FORM:
        return None
    return event.data


def _file(writer: str, roll: Roll, line: Event) -> Artifact:
    assert isinstance(line, Artifact)
    data = b"".join(roll.lines)
    path = f"logs/{writer}.{roll.number:04}.txt"
    return Artifact(line.at, path, len(data), line.role, line.media_type, data=data)
