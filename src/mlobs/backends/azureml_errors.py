"""What went wrong at Azure ML, in the words that a lane understands. The only place that maps errors.

    no connection, timeout, 408, 429, 502, 503, 504, 530, a quota that is used up, a run, experiment or
    workspace that is gone, an answer that is none                     -> Unavailable: events wait
    500, a connection closed without a whole answer                    -> ServerError: perhaps the batch
    401, 403, a token that is none                                     -> Unauthorized
    anything else, such as 400 UserError                               -> Refused, in a sentence

Nothing that fails before an event was sent is an event's fault, so while the client is `opening` the
rest is Unavailable too. The SDK's own `str(error)` raises for an error without details, so it is
never asked for the words.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from mlobs.errors import DeliveryError, MlobsError, ServerError, Unauthorized, Unavailable

# By name, up the class's ancestors: requests, urllib3, msrest, azure-core, msal and Python's own.
_NO_ANSWER = frozenset(
    {"ConnectionError", "Timeout", "TimeoutError", "ClientRequestError", "TransportError"}
    | {"ServiceRequestError", "ServiceResponseError", "IncompleteReadError"}
)
_NO_SENSE = frozenset({"DeserializationError", "JSONDecodeError", "UnicodeDecodeError", "DecodeError"})
_NO_CREDENTIALS = frozenset({"AuthenticationException", "ClientAuthenticationError", "AuthenticationError"})
_CLOSED = frozenset(
    {"RemoteDisconnected", "ConnectionResetError", "BrokenPipeError", "ConnectionAbortedError"}
    | {"IncompleteRead", "ChunkedEncodingError"}
)
_PASSING = frozenset({408, 429, 502, 503, 504, 530})  # 530 is Azure ML's own, while a node comes up
_QUOTA = re.compile(  # a limit of one event's counts is none, and would hold the others up for ever
    r"quota\w*(?: of [\w ]+)?(?: was| is| has been)? (?:exceeded|reached|used up)"
    r"|(?:exceed\w*|over) [\w ]*quota|quotaexceeded",
    re.IGNORECASE,
)
_REFUSING = frozenset({401, 403})
_MISSING, _TOO_MANY, _FAILED = 404, 429, 500
_QUOTA_S = 300.0  # a person has to raise it or to delete something; asking more often does not help
_SECRET_IN_URL = re.compile(
    r"\?[^\s'\"<>]*sig=[^\s'\"<>]*|(?<=://)[^/@\s]+@"
)  # a signed address opens a blob
_MEND_CREDENTIALS = "run `az login`, or set credential= - see docs/how-to/azure-ml.md"
_MEND_GONE = "restore it, or make the run anew: mlobs sync RUN --restart NAME"


class Refused(DeliveryError):
    """Azure ML refuses what was sent, and would again; `status` is the HTTP status, `code` its own word."""

    def __init__(self, message: str, status: int | None, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@contextmanager
def translated(what: str, *, opening: bool = False) -> Iterator[None]:
    """Raise what the lane understands in place of the SDK's errors; `what` names what was asked for."""
    try:
        yield
    except MlobsError:
        raise
    except Exception as error:
        raise delivery_error(error, what, opening=opening) from error


def delivery_error(error: Exception, what: str, *, opening: bool = False) -> DeliveryError:
    """Say what an error of the SDK's means, in a sentence without secrets."""
    status, names = status_of(error), _names(error)
    told = _told(error, what, status)
    if status in _REFUSING or names & _NO_CREDENTIALS:  # Entra ID answers 400 to a secret that has ended
        return Unauthorized(f"{told} - {_MEND_CREDENTIALS}")
    if _says_quota(error) and status != _TOO_MANY:
        return Unavailable(f"{told} - events wait until there is room", _QUOTA_S)
    if status == _MISSING:
        return Unavailable(f"{told} - {_MEND_GONE}")
    is_servers = status == _FAILED or (status is None and names & _CLOSED)
    if is_servers and not opening:
        return ServerError(told, _pause_s(error))
    is_passing = status in _PASSING or (status or 0) >= _FAILED or names & (_NO_ANSWER | _NO_SENSE | _CLOSED)
    if opening or is_passing:
        return Unavailable(told, _pause_s(error))
    return Refused(told, status, _code(error))


def _says_quota(error: Exception) -> bool:
    """Tell whether there is no room: by the service's own words, since ours may name a file `quota.csv`."""
    root = _root(error)
    said = f"{getattr(root, 'code', '')} {getattr(root, 'message', '')}"
    return _QUOTA.search(said) is not None


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an error or one of its causes, None if nothing was answered."""
    for cause in _chain(error):
        for holder in (cause, getattr(cause, "response", None)):
            status = getattr(holder, "status_code", None)
            if isinstance(status, int):
                return status
    return None


def is_conflict(answer: Any) -> bool:
    """Tell whether an error of Azure ML's says that there is an artifact of that name."""
    words = f"{getattr(answer, 'code', '')} {getattr(answer, 'message', '')}".lower()
    return "conflict" in words or "already exists" in words


def words_of(root: Any) -> str:
    """The sentence of an error as Azure ML describes it: its code, and its message."""
    code, message = getattr(root, "code", None), getattr(root, "message", None)
    return ": ".join(_clean(str(one)) for one in (code, message) if one) or "no reason was given"


def _told(error: Exception, what: str, status: int | None) -> str:
    root = _root(error)
    if root is not None:
        return f"Azure ML answers {status} to {what}: {words_of(root)}"
    if status is not None:
        return f"Azure ML answers {status} to {what}"
    names = _names(error)
    where = _address(error)
    for name, sentence in _SENTENCES:
        if name in names:
            return f"{where} {sentence} ({what})"
    return f"{what} failed: {_clean(_words(error)) or type(error).__name__}"


_SENTENCES = (
    ("ConnectionRefusedError", "refuses connections"),
    ("gaierror", "is not known by that name"),
    ("SSLError", "has no certificate that is trusted, or speaks no TLS"),
    ("SSLCertVerificationError", "has no certificate that is trusted"),
    ("ProxyError", "cannot be reached through the proxy"),
    ("ReadTimeoutError", "did not answer in time"),
    ("ReadTimeout", "did not answer in time"),
    ("ServiceResponseError", "broke off, or did not answer in time"),
    ("ConnectTimeoutError", "cannot be reached: timeout"),
    ("ConnectTimeout", "cannot be reached: timeout"),
    *((name, "answers, but not as Azure ML does") for name in sorted(_NO_SENSE)),
    *((name, "closed the connection without a whole answer") for name in sorted(_CLOSED)),
)


def _root(error: BaseException) -> Any:
    """The error as the service describes it in its answer, None if it did not."""
    for cause in _chain(error):
        root = getattr(getattr(cause, "error", None), "error", None)
        if getattr(root, "message", None) or getattr(root, "code", None):
            return root
    return None


def _code(error: BaseException) -> str:
    return str(getattr(_root(error), "code", "") or "")


def _words(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())
    except Exception:  # ServiceException.__str__ iterates over details, which may be None
        return str(getattr(error, "message", "")) or type(error).__name__


def _clean(words: str) -> str:
    return _SECRET_IN_URL.sub("", " ".join(words.split()))


def _address(error: BaseException) -> str:
    for cause in _chain(error):
        request = getattr(cause, "request", None)
        found = getattr(request, "url", None) or getattr(getattr(cause, "pool", None), "host", None)
        if isinstance(found, str) and found:
            parts = urlsplit(found)
            return f"{parts.scheme}://{parts.hostname}" if parts.scheme else found
    return "Azure ML"


def _pause_s(error: BaseException) -> float | None:
    """The pause of an HTTP `Retry-After`, in seconds or as a date; None if there is none."""
    for cause in _chain(error):
        header = getattr(getattr(cause, "response", None), "headers", {}).get("Retry-After")
        if header:
            try:
                return max(0.0, float(header))
            except ValueError:
                return _until(header)
    return None


def _until(date: str) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except ValueError:
        return None


def _names(error: BaseException) -> set[str]:
    """The names of all classes of an error and its causes, also of those that stand in a message alone."""
    names: set[str] = set()
    for cause in _chain(error):
        names.update(cls.__name__ for cls in type(cause).__mro__)
        names.update(type(one).__name__ for one in cause.args)
        reason = getattr(cause, "reason", None)
        names.update(type(one).__name__ for one in (reason, getattr(reason, "reason", None)))
    return names


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    ahead: list[BaseException | None] = [error]
    while ahead:
        one = ahead.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            inner = [getattr(one, name, None) for name in ("inner_exception", "inner_error", "reason")]
            args = [arg for arg in one.args if isinstance(arg, BaseException)]
            ahead += [one.__cause__, one.__context__, *inner, *args]
