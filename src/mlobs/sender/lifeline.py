"""The sender's end of the life line: orders from the trainer, and the news of its death."""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
import time
from collections.abc import Iterator

from mlobs.delivery.orders import Order, from_line
from mlobs.events import Process
from mlobs.journal.process import is_alive

LOOK_S = 0.5  # where there is no pidfd, the trainer is looked for this often
_CHUNK_BYTES = 1 << 16  # what a pipe holds
LAST_WORDS_S = 1.0  # orders that the trainer wrote just before it died are read for this long

_log = logging.getLogger(__name__)


class LifeLine:
    """Orders in the order they were given, and `is_cut` once the trainer is gone.

    The pipe's end alone proves nothing: a forked child that inherited it keeps it open, and a
    daemon closes it. So the process itself is watched, by pidfd where there is one. Only where
    nobody can tell whether it lives (Windows) does the pipe's end count.

    Args:
        pipe: the descriptor that the orders come from; it is closed at its end.
        trainer: who gives them.
        unread: what somebody has read from the pipe before.
    """

    def __init__(self, pipe: int, trainer: Process, unread: bytes = b"") -> None:
        self.is_cut = False
        self._pipe, self._torn = pipe, b""
        self._news: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._has_ended = threading.Event()
        self._reading = threading.Lock()  # what is read is in the queue or in `_torn` while nobody holds it
        self._take(unread)
        threading.Thread(target=self._listen, name="mlobs-orders", daemon=True).start()
        threading.Thread(target=self._watch, args=(trainer,), name="mlobs-watch", daemon=True).start()

    def orders(self, wait_s: float) -> Iterator[Order]:
        """Yield the orders that have come; wait at most `wait_s` for the first news.

        A line that is no order is logged and stepped over.
        """
        try:
            line = self._news.get(timeout=wait_s)
            while True:
                if line is None:
                    self.is_cut = True
                    self._has_ended.wait(LAST_WORDS_S)
                elif (order := _order(line)) is not None:
                    yield order
                line = self._news.get_nowait()
        except queue.Empty:
            return

    def hand_over(self) -> bytes:
        """Stop reading, and return what was read and not given out as an order yet."""
        self._reading.acquire()  # for ever: this process reads nothing more
        lines: list[bytes] = []
        while True:
            try:
                lines.append(self._news.get_nowait() or b"")
            except queue.Empty:
                return b"".join(lines) + self._torn

    def _listen(self) -> None:
        chunk: bytes | None = None
        while chunk != b"":
            _await_news(self._pipe)
            with self._reading:
                chunk = os.read(self._pipe, _CHUNK_BYTES)
                self._take(chunk)
        os.close(self._pipe)
        self._has_ended.set()

    def _take(self, chunk: bytes) -> None:
        """Put whole lines in the queue; the last one may be torn: the trainer was killed as it wrote."""
        *lines, self._torn = (self._torn + chunk).split(b"\n")
        for line in lines:
            self._news.put(line + b"\n")

    def _watch(self, trainer: Process) -> None:
        fd = _open_pidfd(trainer.pid)
        if fd is not None:
            if is_alive(trainer):  # now that it is open, the pid cannot become somebody else's
                poll = select.poll()
                poll.register(fd, select.POLLIN)
                poll.poll()
            os.close(fd)
        while (lives := is_alive(trainer)) is not False:
            if lives is None and self._has_ended.wait(LOOK_S):
                break
            if lives:
                time.sleep(LOOK_S)
        self._news.put(None)


def first_line(pipe: int) -> tuple[bytes, bytes]:
    """Wait for the first line; return it, and what was read behind it. Without an end it was cut off."""
    content = b""
    while b"\n" not in content and (chunk := os.read(pipe, _CHUNK_BYTES)):
        content += chunk
    line, end, unread = content.partition(b"\n")
    return line + end, unread


def _await_news(pipe: int) -> None:
    """Wait until there is something to read, without reading it; Windows does not poll pipes."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        poll.poll()


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)  # type: ignore[attr-defined,unused-ignore]
    except (OSError, AttributeError):
        return None  # it is gone already, or this platform has no pidfd


def _order(line: bytes) -> Order | None:
    try:
        return from_line(line)
    except ValueError:
        _log.exception("an order was not understood")
        return None
