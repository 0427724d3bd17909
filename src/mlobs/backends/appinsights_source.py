"""The way back: what Application Insights holds of a run, as events, through azure-monitor-query."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlobs.backends import appinsights_connection as connections
from mlobs.backends.appinsights_reading import events_of
from mlobs.backends.appinsights_tables import (
    CLASSIC,
    PAGE_ROWS,
    WORKSPACE,
    Row,
    Table,
    count_query,
    page_query,
    row_of,
)
from mlobs.errors import MissingPackage, Unauthorized, Unavailable
from mlobs.events import Event

_REFUSED = (401, 403)


class AppInsightsSource:
    """Reads a run's rows from a workspace, or else from the resource itself.

    Args:
        endpoint: the query service's address.
        workspace_id: the workspace's id, None: the resource is asked.
        resource_id: the resource's id.
        credential: by name, as of the backend.
    """

    def __init__(
        self, endpoint: str, workspace_id: str | None, resource_id: str | None, credential: str
    ) -> None:
        self._endpoint, self._workspace, self._resource = endpoint, workspace_id, resource_id
        self._credential = credential
        self._tables = WORKSPACE if workspace_id else CLASSIC
        self._client: Any = None

    def read(self, ref: str) -> Iterator[Event]:
        """Yield the run's events once each, in the order in which they happened.

        A value of a metric is an event of its own. Rows appear there minutes after their delivery.

        Raises:
            Unavailable: the query service does not answer, or not in full.
            Unauthorized: it refuses the credentials.
            MissingPackage: `azure-monitor-query` is not installed.
        """
        rows = {row.key: row for table in self._tables for row in self._rows(table, ref)}
        yield from events_of(rows)

    def copies(self, ref: str) -> int:
        """Count the run's rows that repeat another one, because an answer was lost."""
        counts = [self._counts(table, ref) for table in self._tables]
        return sum(rows - items for rows, items in counts)

    def _rows(self, table: Table, ref: str) -> Iterator[Row]:
        rows, _ = self._counts(table, ref)
        pages = -(-rows // PAGE_ROWS)
        for page in range(pages):
            for found in self._ask(page_query(table, _run_id(ref), page, pages)):
                row = row_of(table, found)
                if row is not None:
                    yield row

    def _counts(self, table: Table, ref: str) -> tuple[int, int]:
        (found,) = self._ask(count_query(table, _run_id(ref)))
        return int(found["rows"]), int(found["items"])

    def _ask(self, query: str) -> list[dict[str, Any]]:
        with _translated(self._endpoint):
            client = self._opened()
            options: dict[str, Any] = {"timespan": None}
            if connections.is_loopback(self._endpoint):
                options["enforce_https"] = False  # the token stays on this machine
            if self._workspace:
                answer = client.query_workspace(self._workspace, query, **options)
            else:
                answer = client.query_resource(self._resource, query, **options)
        if getattr(answer, "partial_error", None) is not None:
            raise Unavailable(f"{self._endpoint} answers in part: {answer.partial_error}")
        (table,) = answer.tables
        return [dict(zip(table.columns, row, strict=True)) for row in table.rows]

    def _opened(self) -> Any:
        if self._client is None:
            try:
                from azure.monitor.query import LogsQueryClient
            except ImportError as error:
                raise MissingPackage("azure-monitor-query", "appinsights") from error
            credential = connections.open_credential(self._credential)
            self._client = LogsQueryClient(credential, endpoint=self._endpoint, retry_total=2)
        return self._client


@contextmanager
def _translated(endpoint: str) -> Iterator[None]:
    """Raise what mlobs understands in place of azure-core's errors."""
    try:
        yield
    except (MissingPackage, Unavailable):
        raise
    except Exception as error:
        told = str(error).partition("\n")[0]  # azure-identity goes on for a page
        names = {cls.__name__ for one in (error, error.__context__) for cls in type(one).__mro__}
        if getattr(error, "status_code", None) in _REFUSED:
            words = f"{endpoint} refuses the credentials - the identity needs the role 'Log Analytics Reader'"
            raise Unauthorized(f"{words}: {told}") from error
        if "ClientAuthenticationError" in names:
            raise Unauthorized(f"no token for {endpoint} - set query_credential=: {told}") from error
        raise Unavailable(f"{endpoint} does not answer the query: {told}") from error


def _run_id(ref: str) -> str:
    return ref.partition(" ")[0]
