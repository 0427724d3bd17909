"""What every rule needs: the backend under test, and a run on its way to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from mlobs.backend import ALL_KINDS, Backend, Receipt
from mlobs.delivery.registry import build, spec_of
from mlobs.events import Event, Metrics
from mlobs.testing.conversation import AT, Conversation


class Subject:
    """The fixtures that rules ask for. `backend` is the author's to write."""

    reads: ClassVar[frozenset[str]] = ALL_KINDS

    @pytest.fixture
    def backend(self) -> Backend:
        """The backend under test, in a fresh place."""
        pytest.fail("write a fixture `backend` that returns your backend, in a place of its own")

    @pytest.fixture
    def unreachable(self) -> Backend | None:
        """The same backend where it cannot deliver: a wrong address, a folder without permission."""
        return None

    def restarted(self, backend: Backend) -> Backend:
        """The backend as another process makes it: from its parameters."""
        backend.close()
        return build(spec_of(backend))

    @pytest.fixture
    def talk(self, backend: Backend) -> Iterator[Conversation]:
        """A run on its way to the backend."""
        conversation = Conversation(backend)
        yield conversation
        conversation.backend.close()

    def send(self, talk: Conversation, *events: Event) -> Receipt:
        """Deliver a batch, the run's start in front of the first, and look at the receipt."""
        receipt = talk.send(*events) if talk.ref is not None else talk.send(talk.run, *events)
        assert isinstance(receipt, Receipt), "rule: deliver returns a Receipt"
        assert receipt.ref, "rule: a receipt has a reference"
        assert not receipt.rejected, f"rule: what the capabilities take is stored: {dict(receipt.rejected)}"
        return receipt

    def needs(self, talk: Conversation, kind: str) -> None:
        """Skip, visibly, what cannot be compared."""
        if not callable(getattr(talk.backend, "source", None)):
            pytest.skip("it has no `source()`: what it holds cannot be read back")
        if not self.keeps(talk, kind):
            pytest.skip(f"its capabilities do not take {kind!r}, or its source does not read it back")

    def keeps(self, talk: Conversation, kind: str) -> bool:
        """Tell whether events of a kind can be compared."""
        return kind in talk.backend.capabilities.kinds & self.reads


def loss(number: int, step: int, value: float) -> Metrics:
    """A point of the metric "loss"; a later `number` is a later moment."""
    return Metrics(AT + number / 100, step, {"loss": value})
