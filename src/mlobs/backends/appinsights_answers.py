"""What the ingestion service answers, in the words that a lane understands; both transports share it.

    200, 206          stored, but for the items that the answer names
    400               an item is invalid: rejected with the service's reason; if the answer does not say
                      which, the lane halves the batch; a wrong instrumentation key pauses it
    401, 403          the credentials are refused
    402, 439          the quota is used up: again later
    404               no service at this address
    413               too large: the caller sends it in halves, a single item is rejected
    408, 429, 502 ... again later, after `Retry-After` if the answer has one
    500               the service fails at this batch, or is in trouble

Nothing is rejected for what may be mended: a wrong key, a quota, a clock that is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeAlias

from mlobs.errors import DeliveryError, ServerError, Unauthorized, Unavailable
from mlobs.moments import date_of

Envelope: TypeAlias = dict[str, Any]

OK, PARTIAL, TOO_LARGE = 200, 206, 413
REDIRECTS = (307, 308)
QUOTA_PAUSE_S = 600.0  # a quota is renewed once a day
_BAD_REQUEST = 400
_CREDENTIALS = (401, 403)
_QUOTA = (402, 439)
_SERVER_ERROR = 500
_TOO_OLD = "103:"  # "Field 'time' on type 'Envelope' is older than the allowed min date"
_SAMPLED = "sampled out"
_WRONG_KEY = "instrumentation key"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; the names of `headers` are in lower case."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Transport(Protocol):
    """A client library that posts envelopes; `endpoint` may be moved by a redirect."""

    endpoint: str

    def post(self, envelopes: Sequence[Envelope]) -> Answer:
        """Post them as one request and return the answer, whatever it says. No redirect is followed.

        Raises:
            Unavailable: no answer within the timeout; they may have been stored all the same.
            ServerError: the connection was closed without an answer.
            Unauthorized: no token is to be had.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass
class Ack:
    """What became of the envelopes of one request, by their positions; the others are stored.

    `waiting` are to be sent again, and `trouble` is why.
    """

    waiting: set[int] = field(default_factory=set)
    rejected: dict[int, str] = field(default_factory=dict)
    trouble: DeliveryError | None = None


def judge(answer: Answer, count: int, now: float) -> Ack:
    """Tell what became of `count` envelopes; `now` is Unix seconds, for a `Retry-After` that is a date."""
    pause_s = retry_after_s(answer.headers.get("retry-after"), now)
    body = _body(answer.body)
    errors = dict(_errors(body, count))
    if answer.status in (OK, PARTIAL):
        if body is None:
            return _all(count, Unavailable("it answers 200, but not as Application Insights does"))
        ack = _by_item(errors, pause_s)
        accepted = body.get("itemsAccepted")
        if not isinstance(accepted, int) or accepted < count - len(errors):
            ack.waiting |= set(range(count)) - set(ack.rejected)
            ack.trouble = ack.trouble or Unavailable("its answer does not say which items it has stored")
        return ack
    if len(errors) == count:
        return _by_item(errors, pause_s)
    text = answer.body[:500].decode("utf-8", "replace")
    return _as_a_whole(answer.status, text, count, pause_s)


def retry_after_s(header: str | None, now: float) -> float | None:
    """Read an HTTP `Retry-After`: seconds, or a date; None if there is none or it makes no sense."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass  # then it is a date
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    return max(0.0, when.timestamp() - now)


def moment(at: float) -> str:
    """A time as the service reads it: ISO 8601 in UTC, to the microsecond."""
    return date_of(at).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _by_item(errors: Mapping[int, tuple[int, str]], pause_s: float | None) -> Ack:
    ack = Ack()
    for index, (status, message) in errors.items():
        trouble = _trouble(status, message, pause_s)
        if trouble is None:
            ack.rejected[index] = f"Application Insights refuses it ({status}): {message}"
        else:
            ack.waiting.add(index)
            ack.trouble = _worse(ack.trouble, trouble)
    return ack


def _as_a_whole(status: int, text: str, count: int, pause_s: float | None) -> Ack:
    trouble = _trouble(status, text, pause_s)
    if trouble is not None:
        return _all(count, trouble)
    if count == 1 and status == TOO_LARGE:
        return Ack(rejected={0: f"Application Insights refuses it ({status}): {text}"})
    # It names no item, so perhaps it is not the service that speaks: the lane asks twice, and slowly.
    return _all(count, DeliveryError(f"Application Insights refuses the batch ({status}): {text}"))


def _trouble(status: int, message: str, pause_s: float | None) -> DeliveryError | None:
    """The error of a status that says nothing against the item itself; None if it does."""
    told = f"Application Insights answers {status}: {message}".rstrip(": ")
    if _SAMPLED in message.lower() or status == TOO_LARGE:
        return None
    if status in _CREDENTIALS:
        return Unauthorized(f"{told} - the identity needs the role 'Monitoring Metrics Publisher'")
    if _WRONG_KEY in message.lower():
        return Unauthorized(f"{told} - check the connection string")
    if status in _QUOTA:
        return Unavailable(f"{told} - the resource's quota is used up", pause_s or QUOTA_PAUSE_S)
    if status == _SERVER_ERROR:
        return ServerError(told, pause_s)
    if message.startswith(_TOO_OLD):
        return Unavailable(f"{told} - is this machine's clock right?", pause_s)
    return None if status == _BAD_REQUEST else Unavailable(told, pause_s)


def _worse(one: DeliveryError | None, other: DeliveryError) -> DeliveryError:
    """The error that keeps the lane waiting longest."""
    order = (Unauthorized, Unavailable)
    if one is None or isinstance(one, ServerError):
        return other
    return other if isinstance(other, order[0]) and not isinstance(one, order[0]) else one


def _all(count: int, trouble: DeliveryError) -> Ack:
    return Ack(waiting=set(range(count)), trouble=trouble)


def _body(content: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(content)
    except ValueError:
        return None
    return body if isinstance(body, dict) and "itemsAccepted" in body else None


def _errors(body: Mapping[str, Any] | None, count: int) -> Iterator[tuple[int, tuple[int, str]]]:
    named = (body or {}).get("errors")
    for one in named if isinstance(named, list) else ():
        index = one.get("index") if isinstance(one, dict) else None
        if isinstance(index, int) and 0 <= index < count:
            status = one.get("statusCode")
            yield index, (status if isinstance(status, int) else 0, str(one.get("message") or ""))
