"""Envelopes on their way: in requests of a size that the service takes, each item until it is answered."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlobs.backends.appinsights_answers import REDIRECTS, TOO_LARGE, Ack, Answer, Envelope, Transport, judge
from mlobs.backends.appinsights_connection import redirected
from mlobs.errors import DeliveryError, Unavailable

MAX_ITEMS = 1000  # of the documented 64,000 a request; a request that is lost doubles no more than these
MAX_REQUEST_BYTES = 1_000_000  # no limit is documented; an item's is 64 KB
_ITEM_BYTES = 600  # of an item in JSON without what its properties hold
_MAX_REDIRECTS = 5


@dataclass
class Progress:
    """What the service has answered of a batch that is not answered as a whole, by the envelopes' keys.

    Sent again, what is `stored` would be there twice.
    """

    stored: set[str] = field(default_factory=set)
    rejected: dict[str, str] = field(default_factory=dict)

    def holds(self, envelope: Envelope) -> bool:
        """Tell whether nothing is to be done for it any more."""
        key = key_of(envelope)
        return key in self.stored or key in self.rejected

    def forget(self, keys: Iterable[str]) -> dict[str, str]:
        """Forget these, whose batch is answered; return the reasons of those that were rejected."""
        keys = list(keys)
        self.stored.difference_update(keys)
        return {key: self.rejected.pop(key) for key in keys if key in self.rejected}


class Sending:
    """Sends through a transport; it may be moved by redirects, never with a token to another host."""

    def __init__(self, transport: Transport, *, has_token: bool) -> None:
        self._transport, self._has_token = transport, has_token
        self._home = transport.endpoint

    def send(self, envelopes: Iterable[Envelope], progress: Progress) -> None:
        """Send what `progress` does not hold, and note each answer there; no more than a request is held.

        Raises:
            DeliveryError: the first trouble; what was not answered is to be sent again.
        """
        for request in _requests(one for one in envelopes if not progress.holds(one)):
            self._send(request, progress)

    def close(self) -> None:
        """Let go of connections."""
        self._transport.close()

    def _send(self, envelopes: Sequence[Envelope], progress: Progress) -> None:
        answer = self._posted(envelopes)
        if answer.status == TOO_LARGE and len(envelopes) > 1:
            middle = len(envelopes) // 2
            self._send(envelopes[:middle], progress)
            self._send(envelopes[middle:], progress)
            return
        ack = judge(answer, len(envelopes), time.time())
        _note(ack, envelopes, progress)
        if ack.trouble is not None:
            raise ack.trouble

    def _posted(self, envelopes: Sequence[Envelope]) -> Answer:
        for _ in range(_MAX_REDIRECTS):
            try:
                answer = self._transport.post(envelopes)
            except DeliveryError:
                self._transport.endpoint = self._home  # where we were sent to may be gone
                raise
            if answer.status not in REDIRECTS:
                return answer
            here, location = self._transport.endpoint, answer.headers.get("location", "")
            there = redirected(here, location, has_token=self._has_token)
            if there is None:
                raise Unavailable(
                    f"{here} sends us to {location or 'nowhere'!r}, which is not followed"
                    f"{' with a token' if self._has_token else ''} - "
                    "if it is right, set it as IngestionEndpoint in the connection string"
                )
            self._transport.endpoint = there
        raise Unavailable(f"{self._transport.endpoint} sends us round in circles")


def key_of(envelope: Envelope) -> str:
    """The key that an envelope has for ever."""
    key: str = envelope["data"]["baseData"]["properties"]["key"]
    return key


def _note(ack: Ack, envelopes: Sequence[Envelope], progress: Progress) -> None:
    for index, envelope in enumerate(envelopes):
        if index in ack.rejected:
            progress.rejected[key_of(envelope)] = ack.rejected[index]
        elif index not in ack.waiting:
            progress.stored.add(key_of(envelope))


def _size_bytes(data: Mapping[str, Any]) -> int:
    """What the texts of an item take in JSON, at most."""
    texts = [*data["properties"].values(), data.get("message", "")]
    size = sum(len(text) if text.isascii() else 6 * len(text) for text in texts)
    return size + (len(json.dumps(data["exceptions"])) if "exceptions" in data else 0)


def _requests(envelopes: Iterable[Envelope]) -> Iterator[list[Envelope]]:
    request: list[Envelope] = []
    size = 0
    for envelope in envelopes:
        item_bytes = _ITEM_BYTES + _size_bytes(envelope["data"]["baseData"])
        if request and (len(request) == MAX_ITEMS or size + item_bytes > MAX_REQUEST_BYTES):
            yield request
            request, size = [], 0
        request.append(envelope)
        size += item_bytes
    if request:
        yield request
