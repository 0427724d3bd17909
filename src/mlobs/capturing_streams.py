"""Standard output and standard error, written through and read along, line by line."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from mlobs.capturing_screen import Screen

NAMES = ("stdout", "stderr")
OWN_THREADS = "mlobs-"  # what the names of mlobs' own threads begin with
_MOST_FRAMES = 40  # from a handler to the stream that it writes to; rich needs 10
_CALL_HANDLERS = logging.Logger.callHandlers.__code__

Take = Callable[[str, str], None]  # (stream, line)


class Tee:
    """Stands where a stream stood, and is that stream to whoever asks: `isatty`, `fileno`, `buffer`, ...

    Each thread has lines of its own, so that two which print at once do not mix theirs; so no lock is
    held here, and a signal handler or a forked child that prints finds none.

    Args:
        stream: what is written to.
        name: "stdout" or "stderr".
        take: gets each line; it does not raise.
        is_logged: tells that a log record's text is taken as a record, so not as output too.
    """

    def __init__(
        self, stream: Any, name: str, take: Take, is_logged: Callable[[logging.LogRecord], bool]
    ) -> None:
        self._mlobs_stream, self._mlobs_name = stream, name
        self._mlobs_take, self._mlobs_is_logged = take, is_logged
        self._mlobs_screens: dict[int, Screen] = {}
        self._mlobs_is_on = True

    def write(self, text: str) -> Any:
        """Write through; the line is recorded first, should writing fail or wait."""
        if self._mlobs_is_on and isinstance(text, str):
            self._mlobs_note(text)
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
        record = _record_behind(sys._getframe(2))  # noqa: SLF001 - nothing public says who writes
        if record is not None and self._mlobs_is_logged(record):
            return
        thread = threading.get_ident()
        screen = self._mlobs_screens.setdefault(thread, Screen())
        for line in screen.write(text):
            self._mlobs_take(self._mlobs_name, line)
        if screen.is_blank:
            self._mlobs_screens.pop(thread, None)

    def _mlobs_forget(self) -> None:
        """Let go of the lines that have no end yet: in a forked child they are the parent's."""
        self._mlobs_screens.clear()

    def _mlobs_clear(self) -> None:
        """Give out the lines that have no end yet."""
        while self._mlobs_screens:
            _, screen = self._mlobs_screens.popitem()
            for line in screen.clear():
                self._mlobs_take(self._mlobs_name, line)


class Streams:
    """The tees of this process."""

    def __init__(self, take: Take, is_logged: Callable[[logging.LogRecord], bool]) -> None:
        self._take, self._is_logged = take, is_logged
        self._tees: dict[str, Tee] = {}

    def open(self) -> None:
        """Read along from now on, also where somebody has replaced a stream since the last time."""
        for name in NAMES:
            stream, tee = getattr(sys, name), self._tees.get(name)
            if tee is not None and stream is tee:
                tee._mlobs_is_on = True  # noqa: SLF001 - of a class of this module
            elif hasattr(stream, "write"):
                if tee is not None:
                    tee._mlobs_is_on = False  # noqa: SLF001 - below the new one: each line counts once
                self._tees[name] = Tee(stream, name, self._take, self._is_logged)
                setattr(sys, name, self._tees[name])

    def clear(self) -> None:
        """Give out the lines that have no end yet."""
        for tee in self._tees.values():
            tee._mlobs_clear()  # noqa: SLF001 - of a class of this module

    def forget(self) -> None:
        """After a fork, in the child: the lines that have no end yet are the parent's."""
        for tee in self._tees.values():
            tee._mlobs_forget()  # noqa: SLF001 - of a class of this module

    def close(self) -> None:
        """Put the streams back; one that somebody wrapped stays, and only writes through."""
        self.clear()
        for name, tee in list(self._tees.items()):
            tee._mlobs_is_on = False  # noqa: SLF001 - of a class of this module
            if getattr(sys, name) is tee:
                setattr(sys, name, tee._mlobs_stream)  # noqa: SLF001 - of a class of this module
                del self._tees[name]


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
