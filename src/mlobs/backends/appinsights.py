"""Application Insights: runs as telemetry that KQL, Workbooks and Power BI read.

Every metric value is a row of its own in customMetrics, with its run, its step and a key that is
unique for ever; logs are traces, everything else is customEvents and exceptions. The service stores
what it is sent, so an answer that is lost doubles rows: whoever counts keys, as `source()` and the
queries of the docs do, counts each once.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mlobs.backend import ALL_KINDS, ALL_ROLES, Batch, Capabilities, Receipt, Source
from mlobs.backends import appinsights_connection as connections
from mlobs.backends.appinsights_answers import Envelope, Transport
from mlobs.backends.appinsights_artifacts import LIMITS
from mlobs.backends.appinsights_envelopes import Envelopes, entry_key_of
from mlobs.backends.appinsights_mapping import Encoder
from mlobs.backends.appinsights_sending import Progress, Sending, key_of
from mlobs.errors import MissingPackage, Unauthorized, UsageError

if TYPE_CHECKING:
    from mlobs.backends.appinsights_connection import Connection

_PACKAGES = {  # by transport: the importable module, and the extra that installs it
    "opencensus": ("opencensus.ext.azure", "appinsights"),
    "azure-monitor": ("azure.monitor.opentelemetry.exporter", "azure-monitor"),
}


@dataclass
class AppInsights:
    """Sends runs to an Application Insights resource, with nothing of the vendor's on the side.

    No statsbeat, no files, no retries of the client's own, no patches: the library posts, and the
    lane decides. An address that does not answer holds it for `timeout_s` at most.

    Args:
        connection_string: as the portal shows it; None: `APPLICATIONINSIGHTS_CONNECTION_STRING`.
        transport: "opencensus" (opencensus-ext-azure 1.1.15, which does not compress) or
            "azure-monitor" (azure-monitor-opentelemetry-exporter, gzip).
        credential: for resources that take Entra ID alone: "default", "managed-identity",
            "environment", "cli", or "module:function" that returns a credential.
        name: unique among the backends of a tracker.
        timeout_s: to connect, and between two pieces of an answer.
        workspace_id: the Log Analytics workspace's id, to read from its App* tables.
        resource_id: the resource's own id, "/subscriptions/...", to read from its classic tables
            instead, and for links to the portal.
        query_endpoint: where queries go; other clouds have another.
        query_credential: who asks, named as above; None: the same as `credential`, else "default".

    Raises:
        UsageError: there is no connection string, or something in these cannot be used.
    """

    connection_string: str | None = field(default=None, repr=False, metadata={"secret": True})
    transport: Literal["opencensus", "azure-monitor"] = "opencensus"
    credential: str | None = None
    name: str = "appinsights"
    timeout_s: float = 10.0
    workspace_id: str | None = None
    resource_id: str | None = None
    query_endpoint: str = "https://api.loganalytics.io"
    query_credential: str | None = None

    package: ClassVar[str] = "opencensus.ext.azure"
    extra: ClassVar[str] = "appinsights"
    capabilities: ClassVar[Capabilities] = Capabilities(
        kinds=ALL_KINDS - {"heartbeat"},
        roles=ALL_ROLES,
        max_events=1000,
        max_values=1000,
        max_name_length=150,  # of a metric; customMetrics' documented limit
        max_param_length=4000,  # half of a property's 8,192: JSON spells some characters with two
        max_tag_length=4000,
        max_content_bytes=LIMITS,
    )

    def __post_init__(self) -> None:
        if self.transport not in _PACKAGES:
            known = " or ".join(map(repr, _PACKAGES))
            raise UsageError(f"transport is {self.transport!r}; expected {known}")
        if not self.timeout_s > 0:
            raise UsageError(f"timeout_s is {self.timeout_s!r}; expected seconds, more than 0")
        self.connection_string = self.connection_string or os.environ.get(connections.VARIABLE)
        self._connection: Connection = connections.parse(self.connection_string)
        connections.check_credential(self.credential, self._connection.endpoint)
        connections.check_credential(self.query_credential, self.query_endpoint)
        self.package, self.extra = _PACKAGES[self.transport]  # type: ignore[misc] # this object's own
        self._sending: Sending | None = None
        self._progress: dict[str, Progress] = {}

    def deliver(self, batch: Batch) -> Receipt:
        """Send the batch; the service has answered for each item of it when this returns.

        Raises:
            Unavailable: no answer, throttled, a quota that is used up, no service at this address.
            ServerError: the service fails at this batch, or closes the connection.
            Unauthorized: it refuses the credentials, or does not know the instrumentation key.
            MissingPackage: the transport's package is not installed.
            DeliveryError: the batch is refused and the answer does not say which item; or an
                artifact's content cannot be read.
        """
        sending = self._opened()
        progress = self._progress.setdefault(batch.run.run_id, Progress())
        envelopes = Envelopes(self._connection.key, batch.run, time.time())
        encoder = Encoder(batch, envelopes, points=_points_in(batch.ref))
        keys: list[str] = []
        sending.send(_noting(encoder, keys), progress)
        refused, in_part = _by_entry(progress.forget(keys), keys)
        lowered = {key: reason for key, reason in encoder.lowered.items() if key not in refused}
        for key, reason in in_part.items():
            lowered[key] = f"{lowered[key]}; {reason}" if key in lowered else reason
        return Receipt(
            ref=f"{batch.run.run_id} {encoder.points}",
            url=self._page(),
            rejected={**encoder.rejected, **refused},
            lowered=lowered,
            vendor_id=batch.run.run_id,
        )

    def source(self) -> Source:
        """Return the reader of what Azure Monitor's query service gives.

        Raises:
            UsageError: neither a workspace nor a resource is named.
            MissingPackage: `azure-monitor-query` is not installed.
        """
        from mlobs.backends.appinsights_source import AppInsightsSource

        if not self.workspace_id and not self.resource_id:
            raise UsageError(
                f"backend {self.name!r} cannot be read without a place to ask - "
                "set workspace_id= (Log Analytics), or resource_id='/subscriptions/...'"
            )
        credential = self.query_credential or self.credential or "default"
        return AppInsightsSource(self.query_endpoint, self.workspace_id, self.resource_id, credential)

    def close(self) -> None:
        """Let go of connections; what was partly answered is forgotten."""
        if self._sending is not None:
            self._sending.close()
        self._sending = None
        self._progress.clear()

    def _opened(self) -> Sending:
        if self._sending is None:
            token = None if self.credential is None else self._credential(self.credential)
            self._sending = Sending(self._transport_of(token), has_token=token is not None)
        return self._sending

    def _credential(self, name: str) -> Any:
        try:
            return connections.open_credential(name)
        except MissingPackage:
            raise
        except Exception as error:  # a factory of the user's may raise anything: the events wait
            raise Unauthorized(f"credential {name!r} cannot be made: {error}") from error

    def _transport_of(self, credential: Any) -> Transport:
        if self.transport == "opencensus":
            from mlobs.backends.appinsights_opencensus import OpenCensusTransport

            return OpenCensusTransport(self._connection, credential, self.timeout_s)
        from mlobs.backends.appinsights_azure_monitor import AzureMonitorTransport

        return AzureMonitorTransport(self._connection, credential, self.timeout_s)

    def _page(self) -> str | None:
        return f"https://portal.azure.com/#resource{self.resource_id}/logs" if self.resource_id else None


def _noting(encoder: Encoder, keys: list[str]) -> Iterator[Envelope]:
    """Yield what the encoder makes, one event's envelopes at a time, and note their keys."""
    for _, made in encoder:
        keys += map(key_of, made)
        yield from made


def _points_in(ref: str | None) -> int:
    return int(ref.rpartition(" ")[2]) if ref else 0


def _by_entry(refused: Mapping[str, str], keys: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The reasons by the entry's key: of those that are refused wholly, and of those that are in part.

    `keys` are of all envelopes, those that are stored included.
    """
    parts = Counter(entry_key_of(key)[0] for key in keys)
    found: dict[str, list[str]] = {}
    for key, reason in refused.items():
        found.setdefault(entry_key_of(key)[0], []).append(reason)
    wholly = {key: reasons[0] for key, reasons in found.items() if len(reasons) == parts[key]}
    in_part = {
        key: f"{len(reasons)} of its {parts[key]} rows: {reasons[0]}"
        for key, reasons in found.items()
        if key not in wholly
    }
    return wholly, in_part
