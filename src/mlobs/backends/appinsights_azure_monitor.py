"""The transport of azure-monitor-opentelemetry-exporter: its client, without its side traffic."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import Any

import msgspec

from mlobs.backends.appinsights_answers import Answer, Envelope
from mlobs.backends.appinsights_connection import Connection, environment
from mlobs.errors import DeliveryError, MissingPackage, ServerError, Unauthorized, Unavailable

PACKAGE = "azure-monitor-opentelemetry-exporter"
_QUIET = (
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL",  # telemetry about the telemetry, to Microsoft
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED",  # the same into the user's own tables
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED",  # settings that Microsoft changes from afar
)
_GZIP_LEVEL = 3  # 21 bytes a point on the wire; 9 takes 5 times longer for a tenth less
_UNSENT = "ServiceRequestError"  # of azure-core: it could not be sent
_CLOSED = ("RemoteDisconnected", "ConnectionResetError", "BrokenPipeError", "ConnectionAborted")


class AzureMonitorTransport:
    """Posts gzip through the exporter's own client; no retries of its own, no files, no rate limiter.

    Args:
        connection: the resource.
        credential: an azure-identity credential, or None.
        timeout_s: to connect, and between two pieces of an answer.

    Raises:
        MissingPackage: the exporter is not installed.
    """

    def __init__(self, connection: Connection, credential: Any, timeout_s: float) -> None:
        self._client = _opened(connection, timeout_s)
        self._credential, self._scope = credential, connection.scope
        self.endpoint = connection.endpoint

    def post(self, envelopes: Sequence[Envelope]) -> Answer:
        """See `Transport.post`."""
        body = gzip.compress(msgspec.json.encode(envelopes), _GZIP_LEVEL)
        headers = {"Content-Encoding": "gzip", **self._authorization()}
        self._client._config.host = self.endpoint  # noqa: SLF001 - where the exporter itself moves a redirect
        answers: list[Answer] = []
        try:
            # The answer is taken where the pipeline hands it out: what `track` returns lacks the headers.
            self._client.track(
                body, headers=headers, raw_response_hook=lambda one: answers.append(_answer(one))
            )
        except Exception as error:  # it raises for all but 200 and 206, and for what is no JSON
            if not answers:
                raise _no_answer(error, self.endpoint) from error
        return answers[-1]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _authorization(self) -> dict[str, str]:
        """The header that the exporter's policy would send; it refuses to on a loopback without TLS."""
        if self._credential is None:
            return {}
        try:
            token = self._credential.get_token(self._scope).token
        except Exception as error:  # a credential of the user's may raise anything: no event is at fault
            raise Unauthorized(f"no token for Application Insights: {error}") from error
        return {"Authorization": f"Bearer {token}"}


def _opened(connection: Connection, timeout_s: float) -> Any:
    text = f"InstrumentationKey={connection.key};IngestionEndpoint={connection.endpoint}"
    with environment(dict.fromkeys(_QUIET, "true")):
        try:
            from azure.core.pipeline.policies import SansIOHTTPPolicy
            from azure.monitor.opentelemetry.exporter import AzureMonitorMetricExporter
        except ImportError as error:
            raise MissingPackage(PACKAGE, "azure-monitor") from error
        exporter = AzureMonitorMetricExporter(
            connection_string=text,
            credential=None,
            disable_offline_storage=True,
            retry_total=0,
            http_logging_policy=SansIOHTTPPolicy(),  # its own says each request at INFO
            timeout=timeout_s,
            read_timeout=timeout_s,  # its own default is 300 s
            max_envelopes_per_second=0,  # it answers "success" for what it puts aside
        )
    return exporter.client


def _answer(pipeline_response: Any) -> Answer:
    response = pipeline_response.http_response
    headers = {name.lower(): text for name, text in response.headers.items()}
    return Answer(response.status_code, response.body(), headers)


def _no_answer(error: Exception, endpoint: str) -> DeliveryError:
    if type(error).__name__ == _UNSENT and not any(one in str(error) for one in _CLOSED):
        return Unavailable(f"{endpoint} cannot be reached: {error}")
    if any(one in str(error) for one in _CLOSED):
        return ServerError(f"{endpoint} closed the connection without an answer")
    return Unavailable(f"{endpoint} does not answer: {error}")
