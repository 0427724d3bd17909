"""The rules about what happens on the way: repeated batches, lost answers, restarts, several runs."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mlobs.backend import Backend
from mlobs.errors import Unauthorized, Unavailable
from mlobs.events import Params, RunFinished
from mlobs.testing.conversation import AT, Conversation
from mlobs.testing.subject import Subject, loss


class DeliveryRules(Subject):
    """Whatever happens between two answers, each event is stored once."""

    def test_a_repeated_batch_is_stored_once(self, talk: Conversation) -> None:
        self.needs(talk, "metrics")
        self.send(talk, *(loss(n, n, float(n)) for n in range(5)))
        talk.repeat()
        assert len(talk.points()) == 5, (
            "rule: a repeated batch is stored once - use Entry.key, or cut back to ref"
        )

    def test_a_lost_answer_doubles_nothing(self, talk: Conversation) -> None:
        self.needs(talk, "metrics")
        self.send(talk, loss(0, 0, 0.0))
        talk.lose(loss(1, 1, 1.0), loss(2, 2, 2.0))
        self.send(talk, loss(3, 3, 3.0))
        assert [float(value) for _, _, value in talk.points()] == [0, 1, 2, 3], "rule: `ref` is what counts"

    def test_the_first_answer_may_be_lost_with_the_process(self, talk: Conversation) -> None:
        self.needs(talk, "metrics")
        lost = talk.lose(talk.run, loss(0, 0, 0.0))
        talk.backend = self.restarted(talk.backend)
        found = talk.send(loss(1, 1, 1.0))
        rule = (
            "rule: with `ref` None look for the run's id first - a process may have died before the receipt"
        )
        assert (found.vendor_id or found.ref) == (lost.vendor_id or lost.ref), rule
        assert [float(value) for _, _, value in talk.points()] == [0, 1], rule

    def test_another_process_goes_on_from_the_reference(self, talk: Conversation) -> None:
        self.needs(talk, "metrics")
        self.send(talk, Params(AT, {"lr": 0.1}), loss(0, 0, 0.0))
        talk.backend = self.restarted(talk.backend)
        talk.send(loss(1, 1, 1.0))
        assert [float(value) for _, _, value in talk.points()] == [0, 1]

    def test_runs_are_not_mixed(self, talk: Conversation) -> None:
        self.needs(talk, "metrics")
        other = Conversation(talk.backend)
        for n in range(3):
            self.send(talk, loss(n, n, float(n)))
            self.send(other, loss(n, n, float(100 + n)))
        assert [float(value) for _, _, value in talk.points()] == [0, 1, 2], "rule: a run is its id"
        assert [float(value) for _, _, value in other.points()] == [100, 101, 102]

    def test_a_batch_may_be_as_large_as_it_says(self, talk: Conversation) -> None:
        self.needs(talk, "metrics")
        most = min(talk.backend.capabilities.max_events, 2_000)
        self.send(talk, *(loss(n, n, float(n)) for n in range(most - 1)))
        assert len(talk.points()) == most - 1

    def test_a_run_may_go_on_after_its_end(self, talk: Conversation) -> None:
        self.needs(talk, "metrics")
        self.send(talk, loss(0, 0, 0.0), RunFinished(AT + 1, "KILLED", "SIGTERM"))
        again = replace(talk.run, at=AT + 4, attempt=2, resumed_from="writer")
        talk.send(again, loss(5, 5, 5.0), RunFinished(AT + 9, "FINISHED"))
        assert [float(value) for _, _, value in talk.points()] == [0, 5], (
            "rule: an attempt goes on with the run"
        )
        if self.keeps(talk, "run_finished"):
            end = talk.end()
            assert end is not None
            assert end.status == "FINISHED", "rule: the last end is the one that counts"

    def test_what_cannot_be_delivered_is_said(self, unreachable: Backend | None) -> None:
        if unreachable is None:
            pytest.skip("there is no fixture `unreachable`: a backend whose place cannot be reached")
        talk = Conversation(unreachable)
        with pytest.raises((Unavailable, Unauthorized, ConnectionError, TimeoutError)):
            talk.send(talk.run, loss(0, 0, 0.0))
