"""A vendor's calls under observation: Python cannot end one that never returns, but it can be noticed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO, NamedTuple

from mlobs.backend import Backend, Batch, Capabilities, Entry, Receipt
from mlobs.events import Artifact

SLOWEST_BYTES_S = 1_000_000  # an upload that is slower than this is not told from one that hangs


class _Call(NamedTuple):
    started: float
    events: int
    size_bytes: int


class Watched:
    """A backend that tells, from any thread, whether its call in hand is overdue."""

    def __init__(self, backend: Backend, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._backend, self._clock = backend, clock
        self._call: _Call | None = None
        self.has_returned = False

    @property
    def name(self) -> str:
        """The backend's."""
        return self._backend.name

    @property
    def capabilities(self) -> Capabilities:
        """The backend's."""
        return self._backend.capabilities

    def deliver(self, batch: Batch) -> Receipt:
        """Deliver, and remember since when; opening the next file is a sign of life."""
        size_bytes = sum(one.event.size_bytes for one in batch.entries if isinstance(one.event, Artifact))
        call = self._call = _Call(self._clock(), len(batch.entries), size_bytes)

        def open_blob(entry: Entry) -> BinaryIO:
            self._call = call._replace(started=self._clock())
            return batch.open_blob(entry)

        try:
            return self._backend.deliver(replace(batch, open_blob=open_blob))
        finally:
            self._call = None
            self.has_returned = True

    def close(self) -> None:
        """Close the backend."""
        self._backend.close()

    def overdue(self, hang_timeout_s: float) -> str:
        """Say what has not returned for longer than it may; "" if nothing has.

        A call with files in it may take the time of a slow upload more.
        """
        call = self._call  # the lane's thread may end it at any moment
        if call is None:
            return ""
        silent_s = self._clock() - call.started
        if silent_s <= hang_timeout_s + call.size_bytes / SLOWEST_BYTES_S:
            return ""
        return f"a call with {call.events:,} events has not returned for {silent_s:.0f} s"
