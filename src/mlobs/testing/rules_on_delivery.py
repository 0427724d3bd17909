"""The rules about what happens on the way: repeated batches, lost answers, restarts, several runs."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from mlobs.backend import Backend
from mlobs.errors import Unauthorized, Unavailable
from mlobs.events import RunFinished
from mlobs.testing.comparing import facts
from mlobs.testing.conversation import AT, Conversation
from mlobs.testing.specimens import NUMBERED
from mlobs.testing.subject import Subject, numbered


class DeliveryRules(Subject):
    """Whatever happens between two answers, each event is stored once.

    Every rule delivers numbered events of all kinds that the backend takes and its source reads, and
    counts those of each kind: a backend without metrics keeps the rules too.
    """

    def test_a_repeated_batch_is_stored_once(self, talk: Conversation) -> None:
        rule = "a repeated batch is stored once: use Entry.key, or cut back to ref"
        self.send(talk, *self.parts(talk, 0, 1, 2), RunFinished(AT + 9, "FAILED", "it was too hot"))
        before = self._held(talk)
        talk.repeat()
        self.holds(talk, range(3), rule)
        more = self._held(talk) - before
        assert not more, f"rule: {rule} - these were not there before: {list(more)}"

    def test_a_lost_answer_doubles_nothing(self, talk: Conversation) -> None:
        self.send(talk, *self.parts(talk, 0))
        talk.lose(*self.parts(talk, 1, 2))
        self.send(talk, *self.parts(talk, 3))
        self.holds(talk, range(4), "what was delivered after `ref` was returned comes again: store it once")

    def test_the_first_answer_may_be_lost_with_the_process(self, talk: Conversation) -> None:
        lost = talk.lose(talk.run, *self.parts(talk, 0))
        talk.backend = self.restarted(talk.backend)
        found = talk.send(*self.parts(talk, 1))
        rule = "with `ref` None look for the run's id first: a process may have died before the receipt"
        assert (found.vendor_id or found.ref) == (lost.vendor_id or lost.ref), f"rule: {rule}"
        self.holds(talk, range(2), rule)

    def test_another_process_goes_on_from_the_reference(self, talk: Conversation) -> None:
        self.send(talk, *self.parts(talk, 0))
        talk.backend = self.restarted(talk.backend)
        talk.send(*self.parts(talk, 1))
        self.holds(talk, range(2), "`ref` and the parameters are all that a new process has: go on from them")

    def test_runs_are_not_mixed(self, talk: Conversation) -> None:
        other = Conversation(talk.backend)
        for n in range(3):
            self.send(talk, *self.parts(talk, n))
            self.send(other, *self.parts(talk, 100 + n))
        self.holds(talk, range(3), "a run is its id: keep what belongs to it apart")
        self.holds(other, range(100, 103), "a run is its id: keep what belongs to it apart")

    def test_a_batch_may_be_as_large_as_it_says(self, talk: Conversation) -> None:
        """Fill a batch with events of one kind, up to 2,000: others would only make it slow."""
        kind, capabilities = self.counted(talk)[0], talk.backend.capabilities
        most = min(capabilities.max_events, capabilities.max_values or 2_000, 2_000)
        self.send(talk, *map(NUMBERED[kind], range(most - 1)))
        found = len(self.numbers(talk)[kind])
        assert found == most - 1, (
            f"rule: all of a batch is stored - {found} of {most - 1} are; take fewer: set max_events"
        )

    def test_a_run_may_go_on_after_its_end(self, talk: Conversation) -> None:
        self.send(talk, *self.parts(talk, 0), RunFinished(AT + 1, "KILLED", "SIGTERM"))
        again = replace(talk.run, at=AT + 4, attempt=2, resumed_from="writer")
        talk.send(again, *self.parts(talk, 500), RunFinished(AT + 9, "FINISHED"))
        self.holds(talk, [0, 500], "an attempt goes on with the run: store what comes after an end")
        if self.keeps(talk, "run_finished"):
            end = talk.end()
            assert end is not None
            assert end.status == "FINISHED", "rule: the last end is the one that counts"

    def test_what_cannot_be_delivered_is_said(self, unreachable: Backend | None) -> None:
        if unreachable is None:
            pytest.skip("there is no fixture `unreachable`: a backend whose place cannot be reached")
        talk = Conversation(unreachable)
        with pytest.raises((Unavailable, Unauthorized, ConnectionError, TimeoutError)):
            talk.send(talk.run, *numbered(unreachable, 0))

    def _held(self, talk: Conversation) -> Counter[str]:
        return Counter(f"{type(one).__name__} {facts(one, self.loses)}" for one in talk.read())
