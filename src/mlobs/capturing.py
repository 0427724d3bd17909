"""What a program says becomes events of its run: log records, and on request what it prints.

Records are taken behind the root logger, at a logger of our own that stands as its parent: what
reaches the root reaches it too, and neither `logging.basicConfig`, which does nothing where the root
has a handler, nor a configuration that throws all handlers away, notices.

A line goes to the run that is current where it is made (see `current`), or to none. What mlobs
says itself is never taken, nor what its delivery makes vendors say.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import Any

from mlobs import current
from mlobs.capturing_streams import OWN_THREADS, Reading, Streams
from mlobs.events import Event, Log
from mlobs.secrets import Redaction
from mlobs.troubles import Troubles, log
from mlobs.values import text_of

# What delivers in threads of this program says through these; nobody can tell whose such a thread is.
_VENDORS = frozenset(
    {"mlflow", "urllib3", "requests", "sqlalchemy", "alembic", "tensorboard", "httpx", "httpcore"}
    | {"azure", "msal", "opencensus", "opentelemetry", "google", "grpc", "botocore", "boto3", "s3transfer"}
)


@dataclass(frozen=True)
class Taker:
    """Where one run's lines go.

    Args:
        append: records an event.
        redaction: takes the secrets out.
        troubles: counts what could not be recorded.
        is_open: tells that the run has not ended.
        with_output: what is printed is taken too.
    """

    append: Callable[[Event], None]
    redaction: Redaction
    troubles: Troubles
    is_open: Callable[[], bool]
    with_output: bool = False

    def take(self, make: Callable[[], Log]) -> None:
        """Record a line; whatever goes wrong is said once and counted, and never reaches who logs."""
        try:
            line, public = make(), self.redaction.text
            exception = None if line.exception is None else public(text_of(line.exception))
            self.append(_with(line, public(text_of(line.message)), exception))
        except Exception as error:
            if self.is_open():  # what comes while it ends is nobody's
                self.fail(error)

    def take_output(self, stream: str, line: str) -> None:
        """Record what was printed."""
        self.take(lambda: Log(time(), line, stream=stream))

    def fail(self, error: Exception) -> None:
        """Say once that a line was not recorded, and count it."""
        counts = self.troubles.counts
        counts["capture_logs"] += 1
        if counts["capture_logs"] == 1:
            log.warning("a line of the log was not recorded: %s", error)


class _Unseen(list[logging.Handler]):
    """Handlers that get every record and that nobody counts: `Logger.hasHandlers` stays what it was."""

    def __bool__(self) -> bool:
        return False


class _Handler(logging.Handler):
    """Takes what reaches the root logger. It holds no lock: `append` needs none."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Record it, after everybody else's handlers."""
        try:
            taker = _taker() if _is_taken(record) else None
            if taker is not None:
                taker.take(lambda: log_of(record))
        except Exception as error:
            _fail(error)
        last = logging.lastResort  # it is asked where no handler is found, and now one is
        if last is not None and record.levelno >= last.level and not _logger_of(record).hasHandlers():
            last.handle(record)
        return True


_takers: dict[object, Taker] = {}
_trainers: set[int] = {threading.main_thread().ident or 0}  # threads in which training has opened a run
_behind_root = logging.Logger("mlobs-capture")  # noqa: LOG001 - it is no part of anybody's tree
_behind_root.handlers = _Unseen([_Handler()])
_delivers_here = False
_lock = threading.RLock()  # of opening and closing; no line waits for it


def begin(face: current.Endable, taker: Taker, *, delivers_here: bool = False) -> None:
    """Give this run's lines to its taker from now on, until `end`.

    `delivers_here`: threads of this process deliver, for as long as it lives.
    """
    global _delivers_here  # noqa: PLW0603 - a fact about the process
    with _lock:
        _delivers_here = _delivers_here or delivers_here
        _trainers.add(threading.get_ident())
        _takers[face] = taker
        if logging.root.parent is None:
            logging.root.parent = _behind_root
        if taker.with_output:
            _streams.open()


def end(face: object) -> None:
    """Give it nothing more; with the last run everything is as it was before. Repeating it does nothing."""
    with _lock:
        taker = _takers.get(face)
        if taker is not None and taker.with_output:
            _streams.clear(taker)
        _takers.pop(face, None)
        if not any(one.with_output for one in _takers.values()):
            _streams.close()
        if not _takers and logging.root.parent is _behind_root:
            logging.root.parent = None


def log_of(record: logging.LogRecord) -> Log:
    """Make an event of a log record; one whose arguments do not fit its message is shown with them."""
    try:
        message = record.getMessage()
    except Exception:
        message = f"{text_of(record.msg)} {text_of(record.args)}"
    exception = record.exc_text
    if not exception and record.exc_info and record.exc_info[0] is not None:
        exception = logging.Formatter().formatException(record.exc_info)
    traces = "\n".join(filter(None, (exception, record.stack_info)))
    return Log(record.created, message, record.levelname, record.name, exception=traces or None)


def _taker() -> Taker | None:
    """The current run's."""
    return _takers.get(current.current())


def _output_taker() -> Taker | None:
    taker = _taker()
    return taker if taker is not None and taker.with_output else None


def _fail(error: Exception) -> None:
    """Count for some run what went wrong before anybody knew for which."""
    for taker in list(_takers.values())[:1]:
        taker.fail(error)


def _is_taken(record: logging.LogRecord) -> bool:
    """Tell whether a record is a run's, should there be one."""
    return record.levelno >= min(logging.INFO, logging.root.level) and not _is_fed_back(record)


def _is_fed_back(record: logging.LogRecord) -> bool:
    """Tell whether it is our own, or a vendor's at delivery."""
    first = record.name.partition(".")[0]
    if first == "mlobs" or threading.current_thread().name.startswith(OWN_THREADS):
        return True
    return _delivers_here and first in _VENDORS and threading.get_ident() not in _trainers


def _is_no_output(record: logging.LogRecord) -> bool:
    """Tell whether what a handler writes of a record is not recorded as output.

    It is recorded as a record, or not at all.
    """
    if _is_fed_back(record):
        return True
    logger: Any = _logger_of(record)
    while logger is not None and logger is not logging.root:
        if not logger.propagate:
            return False  # it does not reach the root
        logger = logger.parent
    return _is_taken(record)


def _logger_of(record: logging.LogRecord) -> logging.Logger:
    found = logging.Logger.manager.loggerDict.get(record.name)
    return found if isinstance(found, logging.Logger) else logging.root


def _with(line: Log, message: str, exception: str | None) -> Log:
    return Log(line.at, message, line.level, line.logger, line.stream, exception)


_streams = Streams(Reading(_output_taker, _is_no_output, _fail))


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - a thread that is not there any more may have held it
    _lock = threading.RLock()
    _streams.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
