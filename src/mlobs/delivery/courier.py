"""One backend's way from journal to vendor, a step at a time. Its host owns the thread and the sleep."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeAlias

from mlobs.backend import Backend, Receipt
from mlobs.delivery.draft import Draft
from mlobs.delivery.feed import Feed
from mlobs.delivery.lane import Evidence, Lane, Search, describe
from mlobs.delivery.probe import find_probe
from mlobs.delivery.state import Doubted, LaneChanged, Settled, States, StateWriter
from mlobs.journal.store import RunFolder

Step: TypeAlias = Literal["sent", "more", "idle", "waiting"]

RELOOK_S = 2.0  # how often complete runs are looked at again: listing one's folder takes ~0.05 ms
PARENT_WAIT_S = 60.0  # a parent run elsewhere gets this long to be known to the backend
PARENT_LOOK_S = 0.25  # how often it is looked for


class Courier:
    """Delivers runs to one backend: draft, deliver, settle, in this order, one batch a step.

    Args:
        backend: used from one thread only.
        sender_id: unique to this courier; names its files of the delivery state.
        clock: Unix seconds. jitter: a number in [0, 1).
    """

    def __init__(
        self,
        backend: Backend,
        sender_id: str,
        *,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.backend = backend
        self.lane = Lane(backend.capabilities.max_events)
        self._sender_id, self._clock, self._jitter = sender_id, clock, jitter
        self._feeds: dict[str, Feed] = {}
        self._writers: dict[str, StateWriter] = {}
        self._since: dict[str, float] = {}
        self._relook_at = 0.0
        self._told: tuple[str, str, float] = ("delivering", "", 0.0)
        self._searches: dict[str, Search] = {}
        self._held_s: list[float] = []  # of the last step: how long what it held back has to wait

    def add(self, folder: RunFolder) -> None:
        """Deliver this run too, from where its delivery state says.

        Repeating it looks again for an attempt that went on with the run after its end.
        """
        if folder.run_id in self._feeds:
            self._feeds[folder.run_id].reopen()
        if folder.run_id not in self._feeds:
            feed = Feed(folder, self.backend.name, self.backend.capabilities)
            self._writers[folder.run_id] = StateWriter(folder.delivery, self._sender_id)
            self._since[folder.run_id] = self._clock()
            self._searches[folder.run_id] = search = Search(self.lane.first_events)
            if (doubt := feed.state.doubt) is not None:  # an earlier sender's
                search.suspect, search.since, search.doubts = doubt.key, doubt.since, doubt.doubts
            self._feeds[folder.run_id] = feed
            if feed.state.lane is not None and feed.state.lane.state != "delivering":
                self._write_state(folder.run_id)  # what an earlier sender's lane suffered is over

    def step(self, *, is_final: bool = False) -> Step:
        """Send one batch of the first run that has something to send.

        "sent": that was all there was to be had; "more": the batch was full, go on at once;
        "idle": nothing to send; "waiting": the lane may not send yet, or a child run waits for its
        parent, see `wait_s`. Runs whose end was delivered are looked at again now and then, for what
        other writers added since. `is_final`: nothing more will be recorded. Then they are at once,
        and no child waits for a parent that is not delivered here.
        """
        self._held_s.clear()
        now = self._clock()
        if not self.lane.is_ready(now):
            return "waiting"
        with_complete = is_final or now >= self._relook_at
        for run_id, feed in list(self._feeds.items()):
            if (feed.is_complete and not with_complete) or not feed.has_start():
                continue
            if self._waits_for_parent(feed, is_final=is_final):
                self._held_s.append(PARENT_LOOK_S)
                continue
            search = self._searches[run_id]
            if not search.is_ready(now):
                self._held_s.append(search.resume_at - now)
                continue
            self._feeds[run_id] = self._feeds.pop(run_id)  # to the end: a busy run starves nobody
            draft = feed.draft(search.limit)
            if draft is not None:
                return self._deliver(feed, draft, search)
        if with_complete:
            self._relook_at = now + RELOOK_S
        return "waiting" if self._held_s else "idle"

    def hurry(self) -> None:
        """Try at once what waits for the backend to be mended: somebody waits for it."""
        self.lane.hurry(self._clock())

    def wait_s(self) -> float:
        """Seconds until a step may send something again, 0 if it may now."""
        now = self._clock()
        lane_s = 0.0 if self.lane.is_ready(now) else self.lane.resume_at - now
        return max(min(self._held_s, default=0.0), lane_s)

    def holds(self, run_id: str) -> bool:
        """Tell whether the run was added and not dropped."""
        return run_id in self._feeds

    def is_complete(self, run_id: str) -> bool:
        """Tell whether the backend has answered for the run's end."""
        feed = self._feeds.get(run_id)
        return feed is not None and feed.is_complete

    def drop(self, run_id: str) -> None:
        """Deliver nothing more of this run. Repeating it does nothing."""
        for of_runs in (self._feeds, self._writers, self._since, self._searches):
            of_runs.pop(run_id, None)

    def tell_hung(self, reason: str) -> None:
        """Write down that the backend's call does not return, from another thread than the one in it."""
        self._told = ("hung", reason, 0.0)
        for run_id, feed in list(self._feeds.items()):
            if not feed.is_complete:
                record = LaneChanged(self._clock(), self.backend.name, "hung", reason)
                self._writers[run_id].append(record)

    def close(self) -> None:
        """Release the backend."""
        self.backend.close()

    def _deliver(self, feed: Feed, draft: Draft, search: Search) -> Step:
        evidence = self._evidence(feed, draft, search)
        if evidence is None:
            return "waiting"
        receipt: Receipt | None = None
        if draft.entries:
            try:
                receipt = self.backend.deliver(feed.batch(draft, self._parent_ref(feed)))
            except Exception as error:
                return self._failed(feed, draft, error, search, evidence)
        is_full = draft.events >= search.limit or self._is_at_value_limit(draft)
        self._settle(feed, draft, feed.settled(draft, receipt, self._clock()))
        was_held = search.doubts > 0
        self.lane.succeeded(search)
        self._tell(feed, is_news=was_held)
        return "more" if is_full else "sent"

    def _evidence(self, feed: Feed, draft: Draft, search: Search) -> Evidence | None:
        """Before a suspect is sent again, deliver an event that the backend has; None: not even that goes.

        The answer to it is dropped, the run's reference stays what it is.
        """
        if not draft.entries or search.suspect != draft.entries[0].key:
            return "none"
        capabilities = self.backend.capabilities
        if not capabilities.stores_once:
            return "none"
        probe = find_probe(feed.folder, feed.state, capabilities, draft.entries)
        if not probe.entries:
            return "none"
        try:
            self.backend.deliver(feed.batch(replace(draft, entries=probe.entries), self._parent_ref(feed)))
        except Exception as error:
            search.clear()
            self.lane.unavailable(error, self._clock(), self._jitter())
            self._tell(feed)
            return None
        self.lane.answered()
        return probe.proves

    def _failed(self, feed: Feed, draft: Draft, error: Exception, search: Search, evidence: Evidence) -> Step:
        now, first = self._clock(), draft.entries[0].key
        if draft.has_end and evidence != "none":
            evidence = "moot"
        verdict = self.lane.failed(error, search, first, draft.events, now, self._jitter(), evidence)
        match verdict:
            case "park":
                self._settle(feed, draft, feed.parked(draft, describe(error), now))
            case "hold":
                record = Doubted(now, self.backend.name, first, search.since, search.doubts)
                self._writers[feed.run_id].append(record)
                self._write_state(feed.run_id, search.resume_at)
                return "more"
        self._tell(feed, is_news=verdict == "park")
        return "waiting" if verdict in ("retry", "again") else "more"

    def _settle(self, feed: Feed, draft: Draft, record: Settled) -> None:
        self._writers[feed.run_id].append(record)
        feed.accept(record, draft)

    def _tell(self, feed: Feed, *, is_news: bool = False) -> None:
        """Write down that the lane's state changed, once per change, for every run that waits for it.

        When it tries again is part of it: whoever waits for the run decides by that how long.
        `is_news`: this run was told another state than the others.
        """
        told = (self.lane.state, self.lane.reason, self.lane.resume_at)
        if is_news:
            self._write_state(feed.run_id)
        if told != self._told:
            self._told = told
            is_well = self.lane.state == "delivering"
            for run_id, other in self._feeds.items():
                is_held = is_well and self._searches[run_id].doubts > 0 and other is not feed
                if other is feed or not (other.is_complete or is_held):
                    self._write_state(run_id)

    def _write_state(self, run_id: str, until: float | None = None) -> None:
        lane = self.lane
        until = until or lane.resume_at or None
        self._writers[run_id].append(
            LaneChanged(self._clock(), self.backend.name, lane.state, lane.reason, until)
        )

    def _is_at_value_limit(self, draft: Draft) -> bool:
        most = self.backend.capabilities.max_values
        return most is not None and draft.events > 0 and _values(draft) >= most // 2

    def _parent_ref(self, feed: Feed) -> str | None:
        parent = feed.run.parent_run_id if feed.run else None
        if parent is None:
            return None
        if parent in self._feeds:
            return self._feeds[parent].state.ref
        return States(feed.folder.sibling(parent).delivery).refresh().of(self.backend.name).ref

    def _waits_for_parent(self, feed: Feed, *, is_final: bool) -> bool:
        parent = feed.run.parent_run_id if feed.run else None
        if parent is None or feed.state.serial:
            return False
        if self._parent_ref(feed) is not None or not feed.folder.sibling(parent).path.exists():
            return False
        there = self._feeds.get(parent)
        if there.is_complete if there is not None else is_final:
            return False  # nobody is about to make it known
        return self._clock() - self._since[feed.run_id] < PARENT_WAIT_S


def _values(draft: Draft) -> int:
    return sum(len(getattr(entry.event, "values", ())) for entry in draft.entries)
