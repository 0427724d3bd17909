"""Azure Machine Learning, by its SDK v1: in a job the job's own run, elsewhere a run of a workspace.

Metrics become metrics, params properties, tags tags, files artifacts; images, tables and confusion
matrices are shown in the portal too. Times and steps are those of the events, not of the delivery.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import ClassVar

from mlobs.backend import ALL_ROLES, Batch, Capabilities, Receipt, Source
from mlobs.backends import azureml_auth, azureml_content, azureml_place, azureml_runs
from mlobs.backends.azureml_client import Client
from mlobs.backends.azureml_delivery import Delivery
from mlobs.backends.azureml_opening import connect
from mlobs.backends.azureml_runs import AzureMLRun
from mlobs.errors import UsageError

_MAX_PARAMS = 25  # of 50 properties: a job's run comes with about 20 of Azure ML's own


@dataclass
class AzureML:
    """Writes runs to an Azure ML workspace.

    In a job that Azure ML runs, the first run is the job's own run, and later ones become its children; the
    job's status is left to Azure ML. Elsewhere the workspace is the one that is named here, or the one in
    the nearest `config.json` upwards; nothing is snapshotted, and no stream or folder is taken over.

    Requests are not repeated by the SDK: the lane does it. NaN is left out and an infinity becomes
    the largest number, each with a tag that says so.

    Args:
        workspace: its name; also `subscription_id` and `resource_group` are needed then.
        subscription_id: of the workspace.
        resource_group: of the workspace.
        config: a `config.json` as the workspace's page offers it, or the folder where the search begins.
            None: the working directory at construction.
        experiment: the experiment, made if it is missing. None: the run's own. In a job it is the job's.
        name: unique among the backends of a tracker.
        credential: "default", "environment", "managed-identity", "workload-identity", "cli" (of
            azure-identity), "sdk-cli", "sdk-msi", "sdk-interactive" or "sdk-service-principal" (of the SDK).
        cloud: "AzureCloud", "AzureChinaCloud" or "AzureUSGovernment".
        token: a bearer token as it is, in place of a credential; never written down.
        resource_manager: the address of Azure Resource Manager in a private cloud.
        timeout_s: seconds until a request without an answer is given up; a large file may take longer, as
            long as it moves.

    Raises:
        UsageError: the credential is not one of these, or the timeout is no time.
    """

    workspace: str | None = None
    subscription_id: str | None = None
    resource_group: str | None = None
    config: str | None = None
    experiment: str | None = None
    name: str = "azureml"
    credential: str = "default"
    cloud: str = "AzureCloud"
    token: str | None = field(default=None, repr=False, metadata={"secret": True})
    resource_manager: str | None = None
    timeout_s: float = 30.0

    package: ClassVar[str] = "azureml"
    extra: ClassVar[str] = "azureml"
    capabilities: ClassVar[Capabilities] = Capabilities(
        kinds=frozenset(
            {"run_started", "params", "metrics", "tags", "log", "artifact", "histogram", "dataset"}
            | {"run_finished"}
        ),
        roles=ALL_ROLES,
        max_events=1000,
        max_values=10_000,  # about 2 MB in one request
        name_pattern=r"[\w.\-/ :]",
        max_name_length=azureml_content.MAX_NAME,
        max_param_length=azureml_content.MAX_TEXT,
        max_tag_length=azureml_content.MAX_TEXT,
        max_params=_MAX_PARAMS,
        max_tags=azureml_content.MAX_TAGS - azureml_content.MAX_OWN_TAGS,
        nan=False,
        infinities=False,
        stores_once=True,  # rows have ids of ours, artifacts are compared, the rest takes its own place
    )

    def __post_init__(self) -> None:
        if self.credential not in azureml_auth.CREDENTIALS:
            raise UsageError(
                f"credential is {self.credential!r}; expected one of {', '.join(azureml_auth.CREDENTIALS)}"
            )
        if not self.timeout_s > 0:
            raise UsageError(f"timeout_s is {self.timeout_s!r}; expected seconds, such as 30")
        self.config = os.path.abspath(self.config or ".")  # noqa: PTH100 - Path.absolute() keeps `..`
        self._client: Client | None = None
        self._runs: dict[str, AzureMLRun] = {}

    def deliver(self, batch: Batch) -> Receipt:
        """Store the batch at Azure ML before this returns; a repeated batch is stored once.

        Raises:
            Unavailable: no answer, too many requests, a quota is used up, or the run or workspace is gone.
            ServerError: the service fails at this batch.
            Unauthorized: the credentials are refused, or a job's token could not be renewed.
            MissingPackage: `azureml-core` is not installed.
            Refused: Azure ML refuses an event of the batch.
        """
        client = self._connected()
        run = self._run_of(client, batch)
        content = azureml_content.translate(batch.entries)
        delivery = Delivery(client, run, batch)
        try:
            delivery.send(content)
        except BaseException:
            run.names = run.logged = None  # what arrived is not known: ask again
            raise
        return Receipt(
            run.ref, client.page(run.id), {**content.rejected, **delivery.rejected}, delivery.lowered, run.id
        )

    def source(self) -> Source:
        """Return the reader of what the workspace holds."""
        from mlobs.backends.azureml_source import AzureMLSource

        return AzureMLSource(self._connected)

    def close(self) -> None:
        """Forget the client; its connections close with it."""
        self._client = None
        self._runs.clear()

    def _connected(self) -> Client:
        if self._client is None:
            job = azureml_place.job_of(os.environ)
            if job is not None and self.workspace in (None, job.workspace.name):
                workspace = job.workspace
            else:
                job = None
                workspace = azureml_place.workspace_of(
                    self.subscription_id, self.resource_group, self.workspace, self.config or "."
                )
            access = azureml_auth.Access(self.credential, self.cloud, self.token, self.resource_manager)
            self._client = connect(job, workspace, access, self.timeout_s)
        self._client.refresh()
        return self._client

    def _run_of(self, client: Client, batch: Batch) -> AzureMLRun:
        run = self._runs.get(batch.run.run_id)
        if run is None or batch.ref not in (None, run.ref):
            if batch.ref is not None:
                run = azureml_runs.found(client, batch.ref)
            else:
                run = azureml_runs.begun(client, batch, self.experiment)
            self._runs[batch.run.run_id] = run
        return run
