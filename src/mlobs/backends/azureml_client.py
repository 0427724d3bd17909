"""The SDK's own clients for one workspace, each call bounded in time and made once: the lane repeats.

`azureml.core.Run` is not used to write: its queue of metrics loses what it holds, its `complete` uploads
folders that nobody named, and its calls block for minutes. The clients below it are the same protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from mlobs.backends import azureml_auth
from mlobs.backends.azureml_errors import Refused, is_conflict, status_of, translated, words_of
from mlobs.backends.azureml_place import Job, Workspace
from mlobs.errors import Unavailable

ORIGIN = "ExperimentRun"
_NOT_FOUND = 404
_BINARY = "application/octet-stream"
_CONNECT_S = 10.0


class Held(NamedTuple):
    """An artifact's content, as the storage describes it."""

    size_bytes: int
    media_type: str


class Client:
    """What the backend asks of one workspace. `job` is the job that this process is, if it is in one.

    A request ends after `timeout_s` without a byte; the SDK's own limits are 100 s for each of four
    tries, and 80,000 s for a blob.
    """

    def __init__(
        self, context: Any, workspace: Workspace, studio: str, job: Job | None, timeout_s: float
    ) -> None:
        from azureml._restclient.artifacts_client import ArtifactsClient
        from azureml._restclient.workspace_client import WorkspaceClient

        self.job = job
        self.context = context
        self._workspace = workspace
        self._studio = studio.rstrip("/")
        self._timeouts = timeouts(timeout_s)
        self._artifacts = self._bounded(ArtifactsClient(context))
        self._workspaces = self._bounded(WorkspaceClient(context))
        for one in _clients_of_tokens():
            self._bounded(one)

    def refresh(self) -> None:
        """Renew a job's token that is about to end; the SDK's own timer does it too, if it runs."""
        azureml_auth.refresh(self.context.get_auth())

    def page(self, run_id: str) -> str:
        """The run's page in Azure ML studio."""
        one = self._workspace
        wsid = (
            f"/subscriptions/{one.subscription_id}/resourcegroups/{one.resource_group}/workspaces/{one.name}"
        )
        return f"{self._studio}/runs/{run_id}?wsid={wsid}"

    def ensure_experiment(self, name: str) -> None:
        """Make the experiment, if it is missing."""
        with translated(f"experiment {name!r}", opening=True):
            self._workspaces.get_or_create_experiment(name)

    def run(self, experiment: str, run_id: str) -> Any | None:
        """The run as Azure ML describes it (`RunDto`), None if there is none."""
        with translated(f"run {run_id!r}", opening=True):
            return _unless_missing(lambda: self._runs(experiment, run_id).get_run())

    def patch(self, experiment: str, run_id: str, **fields: Any) -> Any:
        """Make or change a run; return it as it is then."""
        from azureml._restclient.models.create_run_dto import CreateRunDto

        with translated(f"run {run_id!r}"):
            return self._runs(experiment, run_id).patch_run(CreateRunDto(run_id=run_id, **fields))

    def delete_tags(self, experiment: str, run_id: str, names: list[str]) -> Any:
        """Take tags away; return the run as it is then."""
        with translated(f"the tags of run {run_id!r}"):
            return self._runs(experiment, run_id).delete_run_tags(names)

    def post_event(self, experiment: str, run_id: str, event: Any) -> None:
        """Tell the run's history what happened to it."""
        with translated(f"the status of run {run_id!r}"):
            self._runs(experiment, run_id).post_event(event)

    def metric_names(self, experiment: str, run_id: str) -> list[str]:
        """The names of all metrics of the run."""
        with translated(f"the metrics of run {run_id!r}"):
            return list(self._metrics(experiment, run_id).list_metric_names_for_run_id())

    def metric(self, experiment: str, run_id: str, name: str) -> Any | None:
        """All rows of a metric (`MetricV2Dto`), None if there is none of that name."""
        with translated(f"metric {name!r} of run {run_id!r}"):
            return self._metrics(experiment, run_id).get_metric_dto_for_run_v2(name)

    def post_metrics(self, experiment: str, run_id: str, metrics: list[Any]) -> list[Any]:
        """Store metrics, at once; return what was refused of them, with the reasons."""
        from azureml._restclient.models.batch_metric_v2_dto import BatchMetricV2Dto

        client = self._metrics(experiment, run_id)
        batch = BatchMetricV2Dto(values=metrics, report_errors=True)
        with translated(f"metrics of run {run_id!r}"):
            answer = client._execute_with_workspace_run_arguments(
                client._client.metric.post_run_metrics,
                batch,
            )
        return list(getattr(answer, "errors", None) or ())

    def artifacts(self, container: str) -> Iterator[Any]:
        """Every artifact of a run (`ArtifactDto`); `container` is its data container's id."""
        with translated("the artifacts of a run"):
            yield from self._artifacts.get_artifact_by_container(ORIGIN, container)

    def upload(self, container: str, path: str, content: BinaryIO, media_type: str) -> bool:
        """Store an artifact; return False, and store nothing, if there is one of that path.

        Azure ML never lets go of a path: one whose content did not arrive stays empty.
        """
        address = self._made(container, path)
        if address is None:
            return False
        from azureml._vendor.azure_storage.blob import ContentSettings

        with translated(f"the content of {path!r}"):
            blob = self._blob(address)
            settings = ContentSettings(content_type=media_type)  # type: ignore[no-untyped-call]
            blob.upload_blob(content, content_settings=settings, overwrite=True, validate_content=True)
        return True

    def download(
        self, container: str, path: str, into: BinaryIO, most_bytes: int | None = None
    ) -> Held | None:
        """Read an artifact's content, unless it is larger; return what it is, None if it never came."""
        with translated(f"the content of {path!r}"):
            found = _unless_missing(
                lambda: self._artifacts._execute_with_workspace_arguments(
                    self._artifacts._client.artifact.get_content_information,
                    origin=ORIGIN,
                    container=container,
                    path=path,
                )
            )
            if found is None:
                return None
            blob = self._blob(found.content_uri)
            properties = _unless_missing(blob.get_blob_properties)
            if properties is not None and (most_bytes is None or properties.size <= most_bytes):
                blob.download_blob().readinto(into)
            if properties is None:
                return None
            return Held(int(properties.size), properties.content_settings.content_type or _BINARY)

    def _made(self, container: str, path: str) -> str | None:
        """Claim a path; return the address to write its content to, None if it is taken."""
        from azureml._restclient.models.artifact_path_dto import ArtifactPathDto
        from azureml._restclient.models.batch_artifact_create_command import BatchArtifactCreateCommand

        with translated(f"artifact {path!r}"):
            answer = self._artifacts._execute_with_workspace_arguments(
                self._artifacts._client.artifact.batch_create_empty_artifacts,
                ORIGIN,
                container,
                command=BatchArtifactCreateCommand([ArtifactPathDto(path)]),
            )
        for response in (answer.errors or {}).values():
            root = getattr(response, "error", None)
            if is_conflict(root):
                return None
            raise Refused(f"Azure ML refuses artifact {path!r}: {words_of(root)}", None)
        address: str = answer.artifact_content_information[path].content_uri
        return address

    def _bounded(self, client: Any) -> Any:
        """Return the SDK's client with time limits and without repetitions of its own."""
        client._client.config.connection.timeout = self._timeouts
        client.retries = 0
        return client

    def _blob(self, address: str) -> Any:
        from azureml._vendor.azure_storage.blob import BlobClient

        connect_s, read_s = self._timeouts
        limits: dict[str, Any] = {"connection_timeout": connect_s, "read_timeout": read_s, "retry_total": 0}
        return BlobClient.from_blob_url(address, **limits)

    def _runs(self, experiment: str, run_id: str) -> Any:
        from azureml._restclient.run_client import RunClient

        return self._bounded(RunClient(self.context, experiment, run_id))

    def _metrics(self, experiment: str, run_id: str) -> Any:
        from azureml._restclient.metrics_client import MetricsClient

        return self._bounded(MetricsClient(self.context, experiment, run_id, use_batch=False))


def _clients_of_tokens() -> tuple[Any, ...]:
    """The clients by which the SDK renews the tokens of jobs; there are none outside of one."""
    from azureml.core.authentication import AzureMLTokenAuthentication

    return tuple(AzureMLTokenAuthentication._host_clientbase.values())


def timeouts(timeout_s: float) -> tuple[float, float]:
    """Seconds to connect, and between two bytes of an answer."""
    return min(_CONNECT_S, timeout_s), timeout_s


def _unless_missing(ask: Any) -> Any | None:
    try:
        return ask()
    except Exception as error:
        if status_of(error) == _NOT_FOUND:
            return None
        raise


def gone(what: str) -> Unavailable:
    """The error about something that was delivered to, and is not there any more."""
    return Unavailable(f"{what} is gone - restore it, or make it anew: mlobs sync RUN --restart NAME")
