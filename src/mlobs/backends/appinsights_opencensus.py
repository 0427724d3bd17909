"""The transport of opencensus-ext-azure: its own request, with its own options, and none of its verdicts.

`TransportMixin._transmit` posts envelopes and then throws away what a lane must know: `Retry-After`,
which items a 206 or a 400 names, and, once its statsbeat is off, everything that met no answer. It
asks `_check_stats_collection` right after the request; there the answer is taken out of its hands.
That depends on the very text of `_transmit`, so one version is pinned. Its handlers and exporters are
not imported: they patch `http.server`, start threads, statsbeat and a folder of files.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from mlobs.backends.appinsights_answers import Answer, Envelope
from mlobs.backends.appinsights_connection import Connection, environment
from mlobs.errors import DeliveryError, MissingPackage, ServerError, Unauthorized, Unavailable

PACKAGE, VERSION = "opencensus-ext-azure", "1.1.15"
_CLOSED = frozenset({"ConnectionError", "ChunkedEncodingError"})  # of requests
_UNSENT = frozenset({"NewConnectionError", "ConnectTimeoutError", "NameResolutionError"})  # of urllib3
_PROBLEMS = frozenset(
    {"CredentialUnavailableError", "ClientAuthenticationError", "_NoToken"}
)  # of azure-identity


class OpenCensusTransport:
    """Posts through OpenCensus's `TransportMixin`. It cannot compress.

    Args:
        connection: the resource.
        credential: an azure-identity credential, or None.
        timeout_s: to connect, and between two pieces of an answer.

    Raises:
        MissingPackage: opencensus-ext-azure is not installed.
        Unavailable: another version of it is.
    """

    def __init__(self, connection: Connection, credential: Any, timeout_s: float) -> None:
        self._client = _client_class()(connection, credential, timeout_s)
        self.endpoint = connection.endpoint

    def post(self, envelopes: Sequence[Envelope]) -> Answer:
        """See `Transport.post`."""
        self._client.options.endpoint = self.endpoint
        try:
            self._client._transmit(list(envelopes))  # noqa: SLF001 - pinned, see above
        except _Posted as posted:
            response, error = _locals_of(posted)
        else:
            raise DeliveryError(f"{PACKAGE} {VERSION} did not post")
        if response is None:
            raise _no_answer(error, self.endpoint) from error
        headers = {name.lower(): text for name, text in response.headers.items()}
        return Answer(response.status_code, response.content, headers)

    def close(self) -> None:
        """Do nothing: it opens a connection for each request."""


class _Posted(Exception):
    """The request is over; `_transmit` must not judge it."""


def _client_class() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # locale.getdefaultlocale
            from opencensus.ext.azure.common import Options
            from opencensus.ext.azure.common.transport import TransportMixin
    except ImportError as error:
        raise MissingPackage(PACKAGE, "appinsights") from error
    if (found := version(PACKAGE)) != VERSION:
        raise Unavailable(
            f"{PACKAGE} is {found}; expected {VERSION} - type: pip install 'mlobs[appinsights]'"
        )

    class Client(TransportMixin):  # type: ignore[misc] # it has no types
        """OpenCensus's transport, without storage and without statsbeat."""

        storage = None

        def __init__(self, connection: Connection, credential: Any, timeout_s: float) -> None:
            text = f"InstrumentationKey={connection.key};IngestionEndpoint={connection.endpoint}"
            scoped = None if credential is None else _Scoped(credential, connection.scope)
            with environment({}):
                self.options = Options(
                    connection_string=text, credential=scoped, timeout=timeout_s, enable_local_storage=False
                )

        def _check_stats_collection(self) -> bool:
            raise _Posted

    return Client


class _Scoped:
    """Asks for tokens of the resource's own cloud; OpenCensus knows the public one alone."""

    def __init__(self, credential: Any, scope: str) -> None:
        self._credential, self._scope = credential, scope

    def get_token(self, *_scopes: str, **_options: Any) -> Any:
        """Return a token."""
        try:
            return self._credential.get_token(self._scope)
        except Exception as error:  # a credential of the user's may raise anything: no event is at fault
            raise _NoToken(str(error)) from error


class _NoToken(Exception):
    """The credential gave none."""


def _locals_of(posted: _Posted) -> tuple[Any, BaseException | None]:
    """What `_transmit` knew when it was stopped: the response, or the error of its request."""
    frame = posted.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_name == "_transmit":
            known = frame.tb_frame.f_locals
            return known.get("response"), known.get("exception")
        frame = frame.tb_next
    raise DeliveryError(f"{PACKAGE} is not the version that this transport is made for")


def _no_answer(error: BaseException | None, endpoint: str) -> DeliveryError:
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & _PROBLEMS:
        return Unauthorized(f"no token for Application Insights: {error}")
    reason = getattr(error.args[0], "reason", None) if error is not None and error.args else None
    was_sent = type(reason).__name__ not in _UNSENT
    if names & _CLOSED and "Timeout" not in names and was_sent:
        return ServerError(f"{endpoint} closed the connection without an answer")
    if "RequestException" in names:
        return Unavailable(f"{endpoint} does not answer: {error}")
    return Unavailable(f"{PACKAGE} could not post: {error!r}")
