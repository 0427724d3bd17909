"""A log handler for Application Insights: for services that want their logs there, and track nothing.

What it is given is in the local store when `emit` returns, and is sent by the sender's process, as
everything else: it survives `kill -9`, an outage and an offline host, and no request is made in your
process. It replaces OpenCensus's `AzureLogHandler` and `AzureEventHandler`, which do not work on
Python 3.13, drop what their queue does not hold, and lose what meets no answer once statsbeat is off.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextvars import copy_context
from threading import current_thread
from typing import Any, Literal

from mlobs.backends.appinsights import AppInsights
from mlobs.capturing import log_of
from mlobs.capturing_streams import OWN_THREADS
from mlobs.errors import UsageError
from mlobs.events import Log
from mlobs.run import Run
from mlobs.secrets import Redaction
from mlobs.tracker import Tracker
from mlobs.values import text_of

_DIMENSIONS, _MEASUREMENTS = "custom_dimensions", "custom_measurements"  # OpenCensus's names in `extra=`
_OWN = "mlobs"  # its loggers: what it, or a thread of its delivery, says must not come back to it


def log_handler(
    connection_string: str | None = None,
    *,
    transport: Literal["opencensus", "azure-monitor"] = "opencensus",
    credential: str | None = None,
    service: str = "logs",
    store: str | os.PathLike[str] | None = None,
    level: int = logging.NOTSET,
    as_events: bool = False,
    finish_timeout_s: float | None = None,
) -> AppInsightsHandler:
    """Make a handler; add it to any logger.

    `extra={"custom_dimensions": {...}}` become custom dimensions, with `as_events` also
    `"custom_measurements"`, as with OpenCensus. A record's exception goes to the table of exceptions.

    Args:
        connection_string: None: `APPLICATIONINSIGHTS_CONNECTION_STRING`.
        transport: as of the backend.
        credential: as of the backend.
        service: the cloud role that the rows carry.
        store: where records are kept until they are sent, and after that.
        level: records below it are left out.
        as_events: each record becomes a custom event, named by its message, in place of a trace.
        finish_timeout_s: seconds that the end of the program may wait for delivery.

    Raises:
        UsageError: there is no connection string, or something in these cannot be used.
        StoreError: the store cannot be written.
    """
    backend: Any = AppInsights(connection_string, transport, credential)
    tracker = Tracker(  # each process of a launcher has logs of its own
        service, backends=[backend], store=store, finish_timeout_s=finish_timeout_s, ranks="each"
    )
    # Apart, so that it is not the run that `mlobs.log_metric` goes to.
    run = copy_context().run(tracker.start_run, service)
    run._opened.is_apart = True  # noqa: SLF001 - the run's own, one layer up
    return AppInsightsHandler(run, level, as_events=as_events)


class AppInsightsHandler(logging.Handler):
    """Records into a run, which `close` and the end of the program end. Made by `log_handler`."""

    def __init__(self, run: Run, level: int = logging.NOTSET, *, as_events: bool = False) -> None:
        super().__init__(level)
        self.run = run
        self._as_events = as_events
        self._redaction = Redaction(environment=os.environ)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record; it survives `kill -9` once this returns.

        What cannot be recorded is said as `logging` says it, see `logging.raiseExceptions`.
        """
        is_ours = record.name.partition(".")[0] == _OWN or current_thread().name.startswith(OWN_THREADS)
        if is_ours or not self.run.is_open:
            return
        try:
            self.run._opened.append(self._event(record))  # noqa: SLF001 - as above
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """End the run; what is not sent by then is sent by the sender, or by `mlobs sync`."""
        super().close()
        if self.run.is_open:
            self.run.finish()

    def _event(self, record: logging.LogRecord) -> Log:
        line, public = log_of(record), self._redaction.text
        dimensions = dict(self._redaction.value(_DIMENSIONS, _mapping(record, _DIMENSIONS)))
        meta: dict[str, Any] = {}
        measured: dict[str, float] = {}
        for name, value in (_mapping(record, _MEASUREMENTS) if self._as_events else {}).items():
            try:
                measured[str(name)] = float(value)
            except (TypeError, ValueError):
                dimensions[str(name)] = value  # no number: the record is not lost for it
        if dimensions:
            meta["properties"] = {str(name): text_of(value) for name, value in dimensions.items()}
        if measured:
            meta["measurements"] = measured
        return Log(
            line.at,
            public(line.message),
            line.level,
            line.logger,
            "event" if self._as_events else line.stream,
            None if line.exception is None else public(line.exception),
            meta=meta or None,
        )


def _mapping(record: logging.LogRecord, name: str) -> Mapping[str, Any]:
    given = getattr(record, name, None)
    if given is not None and not isinstance(given, Mapping):
        raise UsageError(f"extra={{{name!r}: {given!r}}} is no mapping - give names and values")
    return given or {}
