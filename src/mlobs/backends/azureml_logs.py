"""Log lines as text files that a person reads in the portal, and as events again. Pure.

    2026-11-25T17:00:00.250000Z <tab> INFO <tab> logging <tab> train <tab> step 3 <tab> the first line
      | the next line of the message
      ! a line of the traceback

A file holds the lines of one delivery, since artifacts cannot grow. Its name says which events it holds,
so that lines are not written twice: `logs/mlobs/<writer>/<first>-<last>.txt`, offsets in the journal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import NamedTuple

from mlobs.events import Log
from mlobs.moments import date_of

FOLDER = "logs/mlobs/"
_FILE = re.compile(r"logs/mlobs/(?P<writer>[0-9a-f]{8})/(?P<first>\d+)-(?P<last>\d+)(?:~[0-9a-f-]+)?\.txt")
_MESSAGE, _TRACEBACK = "  | ", "  ! "
_FIELDS = 6
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))


class Span(NamedTuple):
    """Which events of a writer a file holds: the offsets of the first and the last."""

    writer: str
    first: int
    last: int

    @property
    def path(self) -> str:
        """Where the file lies."""
        return f"{FOLDER}{self.writer}/{self.first:012d}-{self.last:012d}.txt"


def span_of(path: str) -> Span | None:
    """Read a file's name; None if it is no file of log lines."""
    match = _FILE.fullmatch(path)
    return Span(match["writer"], int(match["first"]), int(match["last"])) if match else None


def offset_of(key: str) -> int:
    """The offset in the journal that an entry's key names."""
    tail = key.rpartition(":")[2].partition("/")[0]
    return int(tail) if tail.isdecimal() else 0


def text_of(events: Iterable[Log]) -> str:
    """Write the lines, oldest first."""
    return "".join(f"{line}\n" for event in events for line in _lines(event))


def events_of(text: str) -> Iterator[Log]:
    """Read the lines back; times are kept to the microsecond, lines that are none are left out."""
    block: list[str] = []
    for line in text.split("\n"):
        if not line.startswith((_MESSAGE, _TRACEBACK)) and block:
            yield from _event(block)
            block = []
        if line:
            block.append(line)
    if block:
        yield from _event(block)


def _lines(event: Log) -> Iterator[str]:
    at = date_of(event.at).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    step = "" if event.step is None else f"step {event.step}"
    first, *others = event.message.split("\n")
    yield "\t".join((at, *map(_escaped, (event.level, event.stream, event.logger)), step, first))
    yield from (_MESSAGE + line for line in others)
    if event.exception is not None:
        yield from (_TRACEBACK + line for line in event.exception.split("\n"))


def _event(block: list[str]) -> Iterator[Log]:
    head = block[0].split("\t", _FIELDS - 1)
    try:
        at = datetime.strptime(head[0], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp()
        level, stream, logger, step, first = head[1:]
    except ValueError:
        return
    message = [first, *(line[len(_MESSAGE) :] for line in block[1:] if line.startswith(_MESSAGE))]
    trace = [line[len(_TRACEBACK) :] for line in block[1:] if line.startswith(_TRACEBACK)]
    number = step.removeprefix("step ")
    yield Log(
        at,
        "\n".join(message),
        _unescaped(level),
        _unescaped(logger),
        _unescaped(stream),
        "\n".join(trace) if trace else None,
        int(number) if number else None,
    )


def _escaped(text: str) -> str:
    for plain, escaped in _ESCAPES:
        text = text.replace(plain, escaped)
    return text


def _unescaped(text: str) -> str:
    marks = {escaped[1]: plain for plain, escaped in _ESCAPES}
    return re.sub(r"\\(.)", lambda match: marks.get(match[1], match[1]), text)
