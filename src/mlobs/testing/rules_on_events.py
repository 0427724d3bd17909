"""The rules about whole events: every field arrives, or its loss is declared."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mlobs.events import Event, kind_of
from mlobs.testing.comparing import differences
from mlobs.testing.conversation import Conversation
from mlobs.testing.specimens import LABELLED, SHARP, WHOLE
from mlobs.testing.subject import Subject


class EventRules(Subject):
    """Of what was recorded, nothing gets lost quietly.

    A loss is declared in one of three ways: the capabilities do not take the event, the receipt names
    its entry as `lowered`, which people see, or the vendor has no place for a fact and the suite is told
    so in `loses`.
    """

    @pytest.mark.parametrize("event", WHOLE.values(), ids=WHOLE)
    def test_an_event_arrives_whole(self, talk: Conversation, event: Event) -> None:
        """Compare all fields but `meta`; times within `precision_s`.

        Params and tags have rules of their own: a vendor may keep them as the state of the run, as
        text and without a time.
        """
        self.arrives_whole(talk, event)

    def test_the_start_arrives_whole(self, talk: Conversation) -> None:
        """Compare all fields but `argv` and `backends`, which may tell too much: nobody has to keep them."""
        talk.run = replace(
            talk.run, at=SHARP, rank=1, world_size=2, mlobs_version="9.8.7", python_version="3.99.1"
        )
        self.arrives_whole(talk, talk.run)

    @pytest.mark.parametrize("event", LABELLED.values(), ids=LABELLED)
    def test_labels_arrive_or_their_loss_is_said(self, talk: Conversation, event: Event) -> None:
        self.arrives_whole(talk, event)

    def arrives_whole(self, talk: Conversation, event: Event) -> None:
        """Deliver the event and compare what is held; of a lowered one, only that there is something."""
        kind = kind_of(event)
        self.needs(talk, kind)
        receipt = self.send(talk, *([] if event == talk.run else [event]))
        if talk.outcomes[-1] != "native":
            pytest.skip("its capabilities do not take it: it is lowered before `deliver`")
        held = talk.held(event)
        assert len(held) == 1, f"rule: one event stays one event - the source reads {len(held)} of {kind!r}"
        if talk.is_lowered(event, receipt):
            return
        changed = differences(event, held[0], self.loses, self.precision_s)
        assert not changed, (
            "rule: an event arrives whole - keep these facts, or name its key in Receipt.lowered with the "
            f"reason, or, if the vendor has no place for them, in the suite's `loses`: {changed}"
        )
