"""Backends without a vendor: one remembers what it was given, one fails as its script says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import msgspec

from mlobs.backend import Backend, Batch, Capabilities, Receipt, Source
from mlobs.errors import DeliveryError, ServerError, Unauthorized, Unavailable
from mlobs.events import Artifact, Event

Trouble: TypeAlias = Literal["unavailable", "server error", "unauthorized", "lost answer", "reject"]

REJECTED = "the script rejects it"
_ERRORS: Mapping[object, type[DeliveryError]] = {
    "unavailable": Unavailable,
    "server error": ServerError,
    "unauthorized": Unauthorized,
}


@dataclass
class MemoryBackend:
    """Keeps every event it is given, once, in the order of arrival; use it with `delivery="thread"`.

    `held` maps a run's id to its events by key; `content` maps an artifact's key to its bytes.
    """

    name: str = "memory"
    capabilities: Capabilities = field(default_factory=lambda: Capabilities(stores_once=True))
    held: dict[str, dict[str, Event]] = field(default_factory=dict, init=False)
    content: dict[str, bytes] = field(default_factory=dict, init=False)
    batches: list[Batch] = field(default_factory=list, init=False)

    def deliver(self, batch: Batch) -> Receipt:
        """Keep the batch; a repeated one changes nothing."""
        self.batches.append(batch)
        events = self.held.setdefault(batch.run.run_id, {})
        for entry in batch.entries:
            events.setdefault(entry.key, entry.event)
            if isinstance(entry.event, Artifact):
                with batch.open_blob(entry) as blob:
                    self.content[entry.key] = blob.read()
        return Receipt(ref=f"memory-{batch.run.run_id}")

    def close(self) -> None:
        """Keep everything: a test looks at it afterwards."""

    def source(self) -> Source:
        """Return the reader of what is held: this very object."""
        return self

    def read(self, ref: str) -> Iterable[Event]:
        """Yield the events of the run with this reference, artifacts with their content."""
        for key, event in self.held.get(ref.removeprefix("memory-"), {}).items():
            if isinstance(event, Artifact):
                yield msgspec.structs.replace(event, data=self.content[key], blob=None)
            else:
                yield event


@dataclass
class FlakyBackend:
    """Delivers to another backend, but first does what its script says, one item a call.

    An exception is raised before anything is delivered. The words stand for what happens most:
    `"unavailable"`, `"server error"`, `"unauthorized"` raise the error of that name;
    `"lost answer"` delivers, and raises `ConnectionError` all the same; `"reject"` delivers all but
    the batch's first entry, which the receipt rejects. None, or the end of the script, delivers.

    `poison` tells of an event whether it breaks the backend: every batch that holds such an event
    raises `poisoned`, whenever the script would have it delivered.
    """

    inner: Backend
    script: list[Exception | Trouble | None] = field(default_factory=list)
    poison: Callable[[Event], bool] = lambda _event: False
    poisoned: Exception = field(default_factory=lambda: ServerError("the batch breaks the backend"))

    @property
    def name(self) -> str:
        """The inner backend's."""
        return self.inner.name

    @property
    def capabilities(self) -> Capabilities:
        """The inner backend's."""
        return self.inner.capabilities

    def deliver(self, batch: Batch) -> Receipt:
        """Follow the script."""
        action = self.script.pop(0) if self.script else None
        if isinstance(action, Exception):
            raise action
        if action in _ERRORS:
            raise _ERRORS[action](f"{action}, as the script says")
        if any(self.poison(entry.event) for entry in batch.entries):
            raise self.poisoned
        match action:
            case "lost answer":
                self.inner.deliver(batch)
                raise ConnectionError("the answer was lost")
            case "reject":
                first, *others = batch.entries
                receipt = self.inner.deliver(replace(batch, entries=tuple(others)))
                return replace(receipt, rejected={**receipt.rejected, first.key: REJECTED})
        return self.inner.deliver(batch)

    def close(self) -> None:
        """Close the inner backend."""
        self.inner.close()
