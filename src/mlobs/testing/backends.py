"""Backends without a vendor: one remembers what it was given, one fails as its script says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mlobs.backend import Backend, Batch, Capabilities, Receipt
from mlobs.events import Event


@dataclass
class MemoryBackend:
    """Keeps every event it is given, once, in the order of arrival; use it with `delivery="thread"`.

    `held` maps a run's id to its events by key; `content` maps an artifact's key to its bytes.
    """

    name: str = "memory"
    capabilities: Capabilities = field(default_factory=Capabilities)
    held: dict[str, dict[str, Event]] = field(default_factory=dict, init=False)
    content: dict[str, bytes] = field(default_factory=dict, init=False)
    batches: list[Batch] = field(default_factory=list, init=False)

    def deliver(self, batch: Batch) -> Receipt:
        """Keep the batch; a repeated one changes nothing."""
        self.batches.append(batch)
        events = self.held.setdefault(batch.run.run_id, {})
        for entry in batch.entries:
            events.setdefault(entry.key, entry.event)
            if type(entry.event).__name__ == "Artifact":
                with batch.open_blob(entry) as blob:
                    self.content[entry.key] = blob.read()
        return Receipt(ref=f"memory-{batch.run.run_id}")

    def close(self) -> None:
        """Keep everything: a test looks at it afterwards."""

    def read(self, ref: str) -> Iterable[Event]:
        """Yield the events of the run with this reference."""
        yield from self.held.get(ref.removeprefix("memory-"), {}).values()


@dataclass
class FlakyBackend:
    """Delivers to another backend, but first does what its script says, one item a call.

    An exception is raised before anything is delivered; `"lost answer"` delivers, and raises
    `ConnectionError` all the same; None, or the end of the script, delivers.
    """

    inner: Backend
    script: list[Exception | str | None] = field(default_factory=list)

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
        receipt = self.inner.deliver(batch)
        if action == "lost answer":
            raise ConnectionError("the answer was lost")
        return receipt

    def close(self) -> None:
        """Close the inner backend."""
        self.inner.close()
