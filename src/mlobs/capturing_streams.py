"""Standard output and standard error, written through and read along, line by line."""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

from mlobs.capturing_screen import Screen

NAMES = ("stdout", "stderr")
OWN_THREADS = "mlobs-"  # what the names of mlobs' own threads begin with
_MOST_FRAMES = 40  # from a handler to the stream that it writes to; rich needs 10
_CALL_HANDLERS = logging.Logger.callHandlers.__code__
_KEPT_TEES = 16  # of streams that somebody replaced meanwhile, as pytest does for each test


class Owner(Protocol):
    """Whose lines they are."""

    def take_output(self, stream: str, line: str) -> None:
        """Record a line of "stdout" or "stderr"; nothing is raised."""
        ...


@dataclass(frozen=True)
class Reading:
    """What reading along needs to know; nothing of it holds a lock.

    Args:
        owner: whose line begins here and now, None: nobody's.
        is_logged: tells that a log record's text is taken as a record, so not as output too.
        fail: is told what went wrong.
    """

    owner: Callable[[], Owner | None]
    is_logged: Callable[[logging.LogRecord], bool]
    fail: Callable[[Exception], None]


@dataclass
class _Begun:
    """A thread's lines that do not stand still yet, and whose they are."""

    owner: Owner
    screen: Screen = field(default_factory=Screen)
    is_written: bool = False  # right now: a signal handler may print in the middle


class Tee:
    """Stands where a stream stood, and is that stream to whoever asks: `isatty`, `fileno`, `buffer`, ...

    Each thread has lines of its own, so that two which print at once do not mix theirs; so no lock is
    held here, and a signal handler or a forked child that prints finds none. Whatever goes wrong with
    reading along, what is written is written.
    """

    def __init__(self, stream: Any, name: str, reading: Reading) -> None:
        self._mlobs_stream, self._mlobs_name, self._mlobs_reading = stream, name, reading
        self._mlobs_begun: dict[int, _Begun] = {}  # by thread
        self._mlobs_is_on = True

    def write(self, text: str) -> Any:
        """Write through; the line is recorded first, should writing fail or wait."""
        if self._mlobs_is_on and isinstance(text, str):
            try:
                self._mlobs_note(text)
            except Exception as error:
                self._mlobs_reading.fail(error)
        return self._mlobs_stream.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_mlobs_"):  # a copy of it, which has nothing yet
            raise AttributeError(name)
        return getattr(self._mlobs_stream, name)

    def __enter__(self) -> Any:
        self._mlobs_stream.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        return self._mlobs_stream.__exit__(*error)

    def __iter__(self) -> Any:
        return iter(self._mlobs_stream)

    def __repr__(self) -> str:
        return f"<{self._mlobs_name} of mlobs over {self._mlobs_stream!r}>"

    def _mlobs_note(self, text: str) -> None:
        if threading.current_thread().name.startswith(OWN_THREADS):
            return  # a vendor that prints would feed itself
        thread = threading.get_ident()
        begun = self._mlobs_begun.get(thread)
        if not text.isspace() or begun is None:  # no record is blank: print writes its spaces and ends apart
            record = _record_behind(sys._getframe(2))  # noqa: SLF001 - nothing public says who writes
            if record is not None and self._mlobs_reading.is_logged(record):
                return
        if begun is None or begun.is_written:
            owner = self._mlobs_reading.owner()
            if owner is None:
                return
            if begun is not None:  # within a signal handler: what it prints is a text of its own
                self._mlobs_write(_Begun(owner), text, is_all=True)
                return
            begun = self._mlobs_begun[thread] = _Begun(owner)
        self._mlobs_write(begun, text)
        if begun.screen.is_blank:
            self._mlobs_begun.pop(thread, None)

    def _mlobs_write(self, begun: _Begun, text: str, *, is_all: bool = False) -> None:
        begun.is_written = True
        try:
            lines = begun.screen.write(text)
        finally:
            begun.is_written = False
        for line in [*lines, *(begun.screen.clear() if is_all else ())]:
            begun.owner.take_output(self._mlobs_name, line)

    def _mlobs_clear(self, owner: Owner) -> None:
        """Give out what has no end yet of an owner who takes nothing more."""
        for thread, begun in list(self._mlobs_begun.items()):
            if begun.owner is owner and not begun.is_written:
                self._mlobs_begun.pop(thread, None)
                for line in begun.screen.clear():
                    owner.take_output(self._mlobs_name, line)


class Streams:
    """The tees of this process.

    None is ever given up while somebody may be in it: `print` of CPython 3.11 holds `sys.stdout`
    without counting it, and crashes the process if that was the last reference.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._tees: dict[str, Tee] = {}
        self._earlier: deque[Tee] = deque(maxlen=_KEPT_TEES)

    def open(self) -> None:
        """Read along from now on, also where somebody has replaced a stream since the last time."""
        for name in NAMES:
            stream, tee = getattr(sys, name), self._tees.get(name)
            if tee is not None and stream in (tee, tee._mlobs_stream):  # noqa: SLF001 - of this module
                tee._mlobs_is_on = True  # noqa: SLF001 - of this module
                setattr(sys, name, tee)
            elif hasattr(stream, "write"):
                if tee is not None:
                    tee._mlobs_is_on = False  # noqa: SLF001 - below the new one: each line counts once
                    self._earlier.append(tee)
                self._tees[name] = Tee(stream, name, self._reading)
                setattr(sys, name, self._tees[name])

    def clear(self, owner: Owner) -> None:
        """Give out the lines of this owner that have no end yet."""
        for tee in self._tees.values():
            tee._mlobs_clear(owner)  # noqa: SLF001 - of this module

    def forget(self) -> None:
        """After a fork, in the child: the lines that have no end yet are the parent's."""
        for tee in self._tees.values():
            tee._mlobs_begun.clear()  # noqa: SLF001 - of this module

    def close(self) -> None:
        """Put the streams back; one that somebody wrapped stays, and only writes through."""
        for name, tee in self._tees.items():
            tee._mlobs_is_on = False  # noqa: SLF001 - of this module
            if getattr(sys, name) is tee:
                setattr(sys, name, tee._mlobs_stream)  # noqa: SLF001 - of this module


def _record_behind(frame: FrameType | None) -> logging.LogRecord | None:
    """The log record whose handler writes here, None if none does."""
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return None
        if frame.f_code is _CALL_HANDLERS:
            record = frame.f_locals.get("record")
            return record if isinstance(record, logging.LogRecord) else None
        frame = frame.f_back
    return None
