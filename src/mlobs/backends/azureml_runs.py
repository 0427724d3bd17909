"""Azure ML's runs: a job's own, which the first run of the job takes, or ones that are made under our ids."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

from mlobs.backend import Batch
from mlobs.backends import azureml_content
from mlobs.backends.azureml_client import Client, gone
from mlobs.backends.azureml_errors import Refused
from mlobs.backends.azureml_logs import span_of
from mlobs.backends.azureml_place import experiment_name, run_name
from mlobs.events import RunFinished
from mlobs.moments import date_of

_EVENT = "Microsoft.MachineLearning.Run."
_ENDS = {"FINISHED": "Completed", "KILLED": "Canceled"}  # all others are Failed
_MAX_NAME = 256


@dataclass
class AzureMLRun:
    """A run as far as deliveries need it. `is_jobs`: its status is the job's, which Azure ML sets.

    `names` are those of its metrics, and `logged` says by writer how far its log files reach; both are
    None until they are needed, and again after an answer that was lost.
    """

    experiment: str
    id: str
    container: str
    is_jobs: bool
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    names: set[str] | None = None
    logged: dict[str, int] | None = None

    @property
    def ref(self) -> str:
        """What a receipt says of it."""
        return f"{self.experiment}/{self.id}"

    def seen(self, dto: Any) -> None:
        """Take over what Azure ML says of the run now."""
        self.tags, self.properties = dict(dto.tags or {}), dict(dto.properties or {})

    def metric_names(self, client: Client) -> set[str]:
        """The names of the run's metrics, asked for once."""
        if self.names is None:
            self.names = set(client.metric_names(self.experiment, self.id))
        return self.names

    def log_ends(self, client: Client) -> dict[str, int]:
        """By writer, the offset of the last event whose line is in a file that is not empty."""
        if self.logged is None:
            ends: dict[str, int] = {}
            spans = [
                (span, one.path) for one in client.artifacts(self.container) if (span := span_of(one.path))
            ]
            for span, path in sorted(spans, key=lambda one: -one[0].last):
                if (
                    span.writer not in ends
                    and client.download(self.container, path, io.BytesIO(), 0) is not None
                ):
                    ends[span.writer] = span.last
            self.logged = ends
        return self.logged


def found(client: Client, ref: str) -> AzureMLRun:
    """Return the run of a receipt's reference.

    Raises:
        Unavailable: it is gone.
    """
    experiment, _, run_id = ref.rpartition("/")
    dto = client.run(experiment, run_id)
    if dto is None:
        raise gone(f"run {run_id!r} of experiment {experiment!r}")
    return _of(experiment, dto)


def begun(client: Client, batch: Batch, experiment: str | None) -> AzureMLRun:
    """Find or make the run that a run of ours is there; asking again gives the same one."""
    job, run = client.job, batch.run
    if batch.parent_ref is not None:
        parent_experiment, _, parent_id = batch.parent_ref.rpartition("/")
        return _made(client, batch, parent_experiment, parent_id)
    if job is None:
        name = experiment_name(experiment or run.experiment)
        client.ensure_experiment(name)
        return _made(client, batch, name, None)
    if run.parent_run_id is None and (own := _claimed(client, batch)) is not None:
        return own
    return _made(client, batch, job.experiment, job.run_id)


def start(client: Client, run: AzureMLRun, at: float) -> None:
    """Say that the run has begun, or goes on, at this moment."""
    if not run.is_jobs:
        client.post_event(run.experiment, run.id, _event(run, "Start", at, "StartTime"))


def finish(client: Client, run: AzureMLRun, end: RunFinished) -> None:
    """End the run. The status of a job's own run is left to Azure ML; an error is shown there too."""
    status = _ENDS.get(end.status, "Failed")
    if status == "Failed":
        message = (end.reason or end.status)[: azureml_content.MAX_MESSAGE]
        response = {"error": {"code": "UserError", "message": message}}
        client.post_event(run.experiment, run.id, _event(run, "Error", end.at, None, ErrorResponse=response))
    if not run.is_jobs:
        client.post_event(run.experiment, run.id, _event(run, status, end.at, "EndTime"))


def _claimed(client: Client, batch: Batch) -> AzureMLRun | None:
    """Take the job's own run for this run; None if another run of ours has it."""
    job = client.job
    assert job is not None
    dto = client.run(job.experiment, job.run_id)
    if dto is None:
        raise gone(f"the job's run {job.run_id!r}")
    owner = (dto.properties or {}).get(azureml_content.RUN_ID)
    if owner is None:
        try:
            properties = {**azureml_content.start_properties(batch.run), azureml_content.JOB: job.run_id}
            dto = client.patch(job.experiment, job.run_id, properties=properties)
        except Refused:  # written once: another process was faster
            dto = client.run(job.experiment, job.run_id) or dto
        owner = (dto.properties or {}).get(azureml_content.RUN_ID)
    return _of(job.experiment, dto) if owner == batch.run.run_id else None


def _made(client: Client, batch: Batch, experiment: str, parent_id: str | None) -> AzureMLRun:
    run_id = run_name(batch.run.run_id)
    dto = client.run(experiment, run_id)
    is_new = dto is None
    if dto is None:
        dto = client.patch(experiment, run_id, **_fields(batch, parent_id))
    run = _of(experiment, dto)
    if is_new or dto.status in (None, "NotStarted"):
        start(client, run, batch.run.at)
    return run


def _fields(batch: Batch, parent_id: str | None) -> dict[str, Any]:
    from azureml._restclient.models.run_type_v2 import RunTypeV2

    run = batch.run
    fields: dict[str, Any] = {
        "name": (run.name or run.run_id)[:_MAX_NAME],
        "display_name": (run.name or run.run_id)[:_MAX_NAME],
        "properties": azureml_content.start_properties(run),
        "run_type_v2": RunTypeV2(
            orchestrator="External", traits=["unspecified"]
        ),  # as start_logging makes it
        "target": "local",
    }
    if parent_id is not None:
        fields["parent_run_id"] = parent_id
    if run.parent_run_id is not None and batch.parent_ref is None:
        fields["tags"] = {azureml_content.PARENT_RUN_ID: run.parent_run_id[: azureml_content.MAX_TEXT]}
    return fields


def _of(experiment: str, dto: Any) -> AzureMLRun:
    is_jobs = azureml_content.JOB in (dto.properties or {})
    run = AzureMLRun(experiment, dto.run_id, dto.data_container_id or f"dcid.{dto.run_id}", is_jobs)
    run.seen(dto)
    return run


def _event(run: AzureMLRun, name: str, at: float, moment: str | None, **data: Any) -> Any:
    from azureml._restclient.models.base_event import BaseEvent

    when = date_of(at)
    facts = {"RunId": run.id, **({moment: when.isoformat()} if moment else {}), **data}
    return BaseEvent(timestamp=when, name=_EVENT + name, data=facts)
