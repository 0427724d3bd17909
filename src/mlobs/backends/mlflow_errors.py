"""What went wrong at MLflow, in the words that a lane understands. The only place that maps errors.

    connection refused or lost, timeout, 408, 429, 5xx, no MLflow at that address, "database is locked",
    a full disk, a deleted run or experiment        -> Unavailable: the events wait
    401, 403                                        -> Unauthorized
    anything else, such as INVALID_PARAMETER_VALUE  -> as it is: the lane looks for the event at fault

Nothing that fails before an event was sent is an event's fault, so while the client is `opening`
the rest is Unavailable too.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

from mlobs.errors import DeliveryError, MlobsError, Unauthorized, Unavailable

# By name, up the class's ancestors: requests, urllib3, botocore, azure-core, google-auth and Python's own.
_NO_ANSWER = frozenset(
    {"ConnectionError", "Timeout", "TimeoutError", "HTTPClientError"}
    | {"ServiceRequestError", "ServiceResponseError", "TransportError"}
)
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})
_TRIED_IN_VAIN = re.compile(r"too many (\d{3}) error responses")  # urllib3.exceptions.ResponseError
_STATUS = re.compile(r"failed with error code (\d{3}) ")  # mlflow.utils.rest_utils.verify_rest_response
_DELETED = re.compile(r"must be in the 'active' state")  # mlflow.store.tracking.sqlalchemy_store
_SECRET_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")
_FIRST_SERVER_ERROR = 500


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


def _delivery_error(error: Exception, *, remote: bool, opening: bool) -> DeliveryError | None:
    status, pause = _answer(error)
    told = _SECRET_IN_URL.sub("", str(error)) or type(error).__name__
    is_server_error = status is not None and status >= _FIRST_SERVER_ERROR
    match status:
        case 401 | 403:
            return Unauthorized(f"MLflow refuses the credentials ({status}): {told}")
        case 404 if getattr(error, "error_code", "") == "ENDPOINT_NOT_FOUND":
            return Unavailable(f"no MLflow server answers at this address: {told}")
        case 408 | 429 | 503 | 504:
            return Unavailable(told, pause)
        case _ if (remote and is_server_error) or _is_passing(error) or opening:
            return Unavailable(told, pause)
    return None


def _is_passing(error: Exception) -> bool:
    if _DELETED.search(str(error)):
        return True  # somebody deleted the run or the experiment, and can restore it
    for cause in _chain(error):
        if any(cls.__name__ in _NO_ANSWER for cls in type(cause).__mro__):
            return True
        if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
            return True
    return False


def _answer(error: Exception) -> tuple[int | None, float | None]:
    """Return the HTTP status and the pause asked for; both None if no code is known."""
    for cause in _chain(error):
        response = getattr(cause, "response", None) or _given_up(cause)
        if isinstance(response, dict):  # botocore.exceptions.ClientError
            facts = response.get("ResponseMetadata", {})
            return facts.get("HTTPStatusCode"), None
        status = getattr(response, "status_code", None) or getattr(response, "status", None)
        if isinstance(status, int):
            header = getattr(response, "headers", {}).get("Retry-After")
            return status, retry_after_s(header, time.time())
    match = _TRIED_IN_VAIN.search(str(error)) or _STATUS.search(str(error))
    if match:
        return int(match[1]), None
    code = getattr(error, "get_http_status_code", None)
    return (code() if code else None), None


def _given_up(error: BaseException) -> Any:
    """Find the response over which urllib3 gave up.

    MLflow asks urllib3 to raise for 429 and 503, and urllib3 then keeps the status alone, as text;
    `Retry-After` is only left in the arguments of `Retry.increment`, the call that raised.
    """
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_name == "increment":
            return frame.tb_frame.f_locals.get("response")
        frame = frame.tb_next
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
