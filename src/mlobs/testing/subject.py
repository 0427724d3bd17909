"""What every rule needs: the backend under test, and a run on its way to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import pytest

from mlobs.backend import ALL_KINDS, Backend, Receipt
from mlobs.delivery.registry import build, spec_of
from mlobs.events import Event, Metrics, kind_of
from mlobs.testing.conversation import AT, Conversation
from mlobs.testing.specimens import NUMBERED, STREAMS, numbers_in


class Subject:
    """The fixtures that rules ask for. `backend` is the author's to write."""

    reads: ClassVar[frozenset[str]] = ALL_KINDS
    loses: ClassVar[frozenset[str]] = frozenset()
    precision_s: ClassVar[float] = 0.001

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

    def counted(self, talk: Conversation) -> tuple[str, ...]:
        """The kinds of which numbered events can be delivered and counted; without any, skip."""
        kinds = tuple(kind for kind in NUMBERED if self.keeps(talk, kind) and _takes(talk.backend, kind))
        self.needs(talk, kinds[0] if kinds else "metrics")
        return kinds

    def parts(self, talk: Conversation, *numbers: int) -> list[Event]:
        """Events with these numbers, one of each kind that can be counted."""
        return [NUMBERED[kind](number) for number in numbers for kind in self.counted(talk)]

    def numbers(self, talk: Conversation) -> dict[str, list[int]]:
        """The numbers of the events that the vendor holds, by kind; sorted where order does not count."""
        found: dict[str, list[int]] = {kind: [] for kind in self.counted(talk)}
        for event in talk.read():
            found.get(kind_of(event), []).extend(numbers_in(event))
        return {kind: there if kind in STREAMS else sorted(there) for kind, there in found.items()}

    def holds(self, talk: Conversation, numbers: Sequence[int], rule: str) -> None:
        """Check that of each kind the vendor holds events with these numbers, once each, oldest first."""
        for kind, there in self.numbers(talk).items():
            assert there == list(numbers), f"rule: {rule} - look at what becomes of {kind!r}"


def numbered(backend: Backend, number: int) -> list[Event]:
    """Numbered events, one of each kind that the backend takes."""
    return [make(number) for kind, make in NUMBERED.items() if _takes(backend, kind)]


def _takes(backend: Backend, kind: str) -> bool:
    has_files = kind != "artifact" or "file" in backend.capabilities.roles
    return kind in backend.capabilities.kinds and has_files


def loss(number: int, step: int, value: float) -> Metrics:
    """A point of the metric "loss"; a later `number` is a later moment."""
    return Metrics(AT + number / 100, step, {"loss": value})
