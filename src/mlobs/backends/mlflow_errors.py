"""What went wrong at MLflow, in the words that a lane understands. The only place that maps errors.

    connection refused, timeout, 408, 429, 502, 503, 504, an answer that is none, no MLflow at that
    address, "database is locked", a full disk, a deleted run or experiment  -> Unavailable: events wait
    500, a connection closed without a whole answer -> ServerError: perhaps something in the batch
    401, 403                                        -> Unauthorized
    anything else, such as INVALID_PARAMETER_VALUE  -> as it is: the lane looks for the event at fault

Nothing that fails before an event was sent is an event's fault, so while the client is `opening`
the rest is Unavailable too. What MLflow and its libraries say at length is told in a sentence; the
error itself is the cause.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from mlobs.errors import DeliveryError, MlobsError, ServerError, Unauthorized, Unavailable

# By name, up the class's ancestors: requests, urllib3, botocore, azure-core, google-auth and Python's own.
_NO_ANSWER = frozenset(
    {"ConnectionError", "Timeout", "TimeoutError", "HTTPClientError"}
    | {"ServiceRequestError", "ServiceResponseError", "TransportError"}
)
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})
_TRIED_IN_VAIN = re.compile(r"too many (\d{3}) error responses")  # urllib3.exceptions.ResponseError
_STATUS = re.compile(r"failed with error code (\d{3}) ")  # mlflow.utils.rest_utils.verify_rest_response
_ADDRESS = re.compile(r"https?://[^/\s]+")
_CLOSED = frozenset(
    {"RemoteDisconnected", "ConnectionResetError", "BrokenPipeError", "ConnectionAbortedError"}
)
_BROKEN_OFF = "IncompleteRead"
_DELETED = re.compile(r"must be in the 'active' state")  # mlflow.store.tracking.sqlalchemy_store
_SECRET_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")
_OK, _FIRST_SERVER_ERROR = 200, 500
_MEND_CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN)"
_MEND_DELETED = "restore it at MLflow, or make it anew: mlobs sync RUN --restart mlflow"


@contextmanager
def translated(*, remote: bool, opening: bool = False) -> Iterator[None]:
    """Raise what the lane understands in place of the vendor's errors; passwords in URLs are left out.

    `remote`: a server is asked, so that an error without a code is the connection's.
    """
    try:
        yield
    except MlobsError:
        raise
    except Exception as error:
        known = _delivery_error(error, remote=remote, opening=opening)
        if known is None:
            raise
        raise known from error


def retry_after_s(header: str | None, now: float) -> float | None:
    """Read an HTTP `Retry-After`: seconds, or a date; None if there is none or it makes no sense."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass  # then it is a date
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except ValueError:
        return None


class _Answer(NamedTuple):
    """The HTTP status of an error, if it has one, and the pause asked for.

    `is_servers`: the server said so itself; MLflow's client calls its own failures 500 too.
    """

    status: int | None = None
    pause_s: float | None = None
    is_servers: bool = False
    url: str = ""


def _delivery_error(error: Exception, *, remote: bool, opening: bool) -> DeliveryError | None:
    answer = _answer(error)
    told = _told(error, answer)
    is_server_error = answer.status is not None and answer.status >= _FIRST_SERVER_ERROR
    match answer.status:
        case 401 | 403:
            return Unauthorized(f"{told}: MLflow refuses the credentials - {_MEND_CREDENTIALS}")
        case 404 if getattr(error, "error_code", "") == "ENDPOINT_NOT_FOUND":
            return Unavailable(f"no MLflow server answers at this address: {told}")
        case 408 | 429 | 503 | 504:
            return Unavailable(told, answer.pause_s)
        case 200:
            return Unavailable(told)
        case 500 if remote and answer.is_servers and not opening:
            return ServerError(told, answer.pause_s)
        case _ if remote and not opening and _names(error) & {*_CLOSED, _BROKEN_OFF}:
            return ServerError(told)
        case _ if (remote and is_server_error) or _is_passing(error) or opening:
            return Unavailable(told, answer.pause_s)
    return None


def _told(error: Exception, answer: _Answer) -> str:
    """Say in a sentence what happened; in the vendor's words, without passwords, where it is not known."""
    words = _SECRET_IN_URL.sub("", " ".join(str(error).split())) or type(error).__name__
    where = _address(words) or _address(answer.url)
    names = _names(error)
    if _is_gone(error):
        return f"{_first_sentence(words)} - {_MEND_DELETED}"
    if answer.status == _OK:
        return f"{where} answers, but not as MLflow does: {words}"
    if answer.is_servers and where:
        return f"{where} answers {answer.status}"
    for name, sentence in _SENTENCES:
        if name in names and where:
            return f"{where} {sentence}"
    return words


_SENTENCES = (
    ("ConnectionRefusedError", "refuses connections"),
    ("gaierror", "is not known by that name"),
    ("SSLError", "has no certificate that is trusted, or speaks no TLS"),
    ("ProxyError", "cannot be reached through the proxy"),
    ("ReadTimeoutError", "did not answer before the timeout (MLFLOW_HTTP_REQUEST_TIMEOUT sets it)"),
    ("ReadTimeout", "did not answer before the timeout (MLFLOW_HTTP_REQUEST_TIMEOUT sets it)"),
    ("ConnectTimeoutError", "cannot be reached: timeout"),
    (_BROKEN_OFF, "broke off its answer"),
    *((name, "closed the connection without an answer") for name in sorted(_CLOSED)),
)


def _first_sentence(words: str) -> str:
    return words.partition(". ")[0].rstrip(".")


def _address(words: str) -> str | None:
    """The scheme, host and port of the first address in a vendor's words."""
    match = _ADDRESS.search(words)
    return f"{urlsplit(match[0]).scheme}://{urlsplit(match[0]).netloc}" if match else None


def _names(error: Exception) -> set[str]:
    """The names of all classes of an error and its causes, also of those that stand in a message alone."""
    names: set[str] = set()
    for cause in _chain(error):
        names.update(cls.__name__ for cls in type(cause).__mro__)
        names.update(type(one).__name__ for one in cause.args)
    return names


def _is_gone(error: Exception) -> bool:
    is_missing = getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST"
    return is_missing or _DELETED.search(str(error)) is not None


def _is_passing(error: Exception) -> bool:
    if _is_gone(error):
        return True  # somebody deleted the run or the experiment, and can restore it or make it anew
    for cause in _chain(error):
        if any(cls.__name__ in _NO_ANSWER for cls in type(cause).__mro__):
            return True
        if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
            return True
    return False


def _answer(error: Exception) -> _Answer:
    for cause in _chain(error):
        response = getattr(cause, "response", None)
        response = _dropped(cause) if response is None else response  # a bad one counts as false
        if isinstance(response, dict):  # botocore.exceptions.ClientError
            facts = response.get("ResponseMetadata", {})
            return _Answer(facts.get("HTTPStatusCode"), is_servers=True)
        status = getattr(response, "status_code", None) or getattr(response, "status", None)
        if isinstance(status, int):
            header = getattr(response, "headers", {}).get("Retry-After")
            url = str(getattr(response, "url", ""))  # requests has it, urllib3 not
            return _Answer(status, retry_after_s(header, time.time()), is_servers=True, url=url)
    match = _TRIED_IN_VAIN.search(str(error)) or _STATUS.search(str(error))
    if match:
        return _Answer(int(match[1]), is_servers=True)
    code = getattr(error, "get_http_status_code", None)
    return _Answer(code() if code else None, is_servers=type(error).__name__ == "RestException")


def _dropped(error: BaseException) -> Any:
    """Find the response that an error was made of and does not hold.

    MLflow asks urllib3 to raise for 429, 500 and 503, and urllib3 then keeps the status alone, as
    text; `Retry-After` is only left in the arguments of `Retry.increment`, the call that raised. Of
    another status with a JSON object, such as a gateway's 401, MLflow keeps the object alone.
    """
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_name in ("increment", "verify_rest_response"):
            return frame.tb_frame.f_locals.get("response")
        frame = frame.tb_next
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
