"""MLflow: a tracking server, or a database that MLflow opens itself.

Every run becomes an MLflow run with the tag `mlobs.run_id`, by which it is found again; metrics,
params and tags become MLflow's own, files and texts its artifacts. Times and steps are those of
the events, not of the delivery.
"""

from __future__ import annotations

import getpass
import io
import math
import os
import time
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mlobs.backend import ALL_ROLES, Batch, Capabilities, Receipt, Source, Viewer
from mlobs.backends import mlflow_azureml, mlflow_content, mlflow_datasets, mlflow_uri, mlflow_viewer
from mlobs.backends.mlflow_client import connect, database_lock
from mlobs.backends.mlflow_content import Content
from mlobs.backends.mlflow_errors import translated
from mlobs.backends.mlflow_runs import MLflowRun, adopt_children, claim, find, proper_id
from mlobs.backends.mlflow_uploads import announce, store, upload
from mlobs.errors import Unavailable
from mlobs.events import RunFinished, RunStarted

_LATE_S = 10.0  # a run that comes here so late may come after its child runs; others cost no search for them

CAPABILITIES = Capabilities(
    kinds=frozenset({"run_started", "params", "metrics", "tags", "artifact", "dataset", "run_finished"}),
    roles=ALL_ROLES,
    max_events=mlflow_content.MAX_ENTITIES,
    max_values=mlflow_content.MAX_METRICS,
    name_pattern=r"[/\w.\- :]",  # mlflow.utils.validation.validate_param_and_metric_name, not on Windows
    name_is_path=True,
    max_name_length=mlflow_content.MAX_NAME,
    max_param_length=mlflow_content.MAX_PARAM,
    max_tag_length=mlflow_content.MAX_TAG,
    nan=True,
    infinities=False,  # MLflow stores them as the largest finite number
    stores_once=True,  # it ignores a repeated row, and a repeated file takes the place of itself
)


@dataclass
class MLflow:
    """Writes runs to `tracking_uri`: the argument, else `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db`.

    Relative paths are those of the working directory at construction. A user and password in the
    URI are taken out of it; MLflow's own variables (`MLFLOW_TRACKING_USERNAME`, `_PASSWORD`,
    `_TOKEN`) work as ever. Requests time out after 30 s and are not repeated by MLflow, and its
    telemetry is off, unless MLflow's variables say otherwise.

    The same point (name, step, value) logged twice within one millisecond is one point to MLflow;
    where both come in one batch, the receipt says so.

    Args:
        tracking_uri: `http(s)://`, `sqlite:///`, `postgresql://`, `mysql://`, `databricks`, or a plugin's.
        experiment: the MLflow experiment, made if it is missing. None: the run's own.
        name: unique among the backends of a tracker.
        artifact_location: where artifacts of an experiment that is made here lie, a folder or a URI.
            None: the server's default; without a server it is MLflow's, `./mlruns`.
        username: for servers with basic authentication, and for databases.
        password: goes with it; never written down.

    With `azureml://`, a workspace of Azure ML, the first run in a job is the job's own run, whose status is
    left to Azure ML; a file whose path is taken lies beside it.

    Raises:
        UsageError: the URI names a file store, a database in memory, or nothing.
    """

    tracking_uri: str | None = None
    experiment: str | None = None
    name: str = "mlflow"
    artifact_location: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False, metadata={"secret": True})

    package: ClassVar[str] = "mlflow"
    extra: ClassVar[str] = "mlflow"
    capabilities: Capabilities = field(default=CAPABILITIES, init=False, repr=False)  # less at Azure ML

    def __post_init__(self) -> None:
        given: object = self.tracking_uri
        if given is None or given == "":
            given = os.environ.get("MLFLOW_TRACKING_URI") or mlflow_uri.DEFAULT
        uri, username, password = mlflow_uri.split_userinfo(mlflow_uri.resolved(given))
        self.tracking_uri = uri
        self._uri = uri
        self.username = self.username or username
        self.password = self.password or password
        if self.artifact_location and ":" not in self.artifact_location:
            self.artifact_location = os.path.abspath(self.artifact_location)  # noqa: PTH100 - no `..`
        if mlflow_azureml.is_azureml(uri):
            self.capabilities = mlflow_azureml.fitted(self.capabilities)
        self._client: Any = None
        self._runs: dict[str, MLflowRun] = {}
        self._experiments: dict[str, str] = {}

    def deliver(self, batch: Batch) -> Receipt:
        """Store the batch at MLflow, committed when this returns; a repeated batch is stored once.

        Raises:
            Unavailable: no answer, a locked database, or a run or experiment that was deleted.
            ServerError: the server fails at this batch.
            Unauthorized: the server refuses the credentials.
            MissingPackage: `mlflow` is not installed.
        """
        with self._translated(opening=True):
            if self._client is None:
                self._client = connect(self._full_uri())
            run = self._run_of(batch)
        with self._translated():
            content = mlflow_content.translate(batch.entries)
            if content.reopened is not None:
                self._reopen(run, content.reopened)
            self._log(run, content)
            for entry in content.uploads:
                content.lower(entry.key, store(self._client, run, batch, entry))
            for key, why in announce(self._client, run, content.uploads, mlflow_content.MAX_TAG).items():
                content.lower(key, why)
            for key, why in mlflow_datasets.log(self._client, run, content.datasets).items():
                content.lower(key, why)
            if content.end is not None:
                self._finish(run, content.end)
        url = mlflow_uri.page(self._uri, run.experiment_id, run.ref)
        return Receipt(run.ref, url, content.rejected, content.lowered)

    def source(self) -> Source:
        """Return the reader of what lies at the tracking URI."""
        from mlobs.backends.mlflow_source import MLflowSource

        return MLflowSource(self._full_uri())

    def viewer(self) -> Viewer:
        """Return MLflow's own UI: the server's, or one to start on the database.

        Raises:
            MissingPackage: `mlflow` is not installed.
            UsageError: the database file is not there yet, or nothing is known to show it.
        """
        return mlflow_viewer.viewer(self._uri, self._full_uri(), self.package, self.extra)

    def close(self) -> None:
        """Forget the client; MLflow itself keeps its connections until the process ends."""
        self._client = None
        self._runs.clear()
        self._experiments.clear()

    def _full_uri(self) -> str:
        return mlflow_uri.join_userinfo(self._uri, self.username, self.password)

    def _translated(self, *, opening: bool = False) -> AbstractContextManager[None]:
        return translated(remote=not mlflow_uri.is_database(self._uri), opening=opening)

    def _run_of(self, batch: Batch) -> MLflowRun:
        run = self._runs.get(batch.run.run_id)
        if run is None or batch.ref not in (None, run.ref):
            run = self._known(batch.ref) if batch.ref is not None else self._begun(batch)
            run.writes_once = mlflow_azureml.is_azureml(self._uri)
            run.is_jobs = run.is_jobs or run.ref == mlflow_azureml.job_run(self._uri, os.environ)
            self._runs[batch.run.run_id] = run
        if batch.parent_ref is not None and run.parent_ref != batch.parent_ref:
            self._client.set_tag(run.ref, mlflow_content.PARENT, batch.parent_ref)
            run.parent_ref = batch.parent_ref
        return run

    def _known(self, ref: str) -> MLflowRun:
        return MLflowRun.of(self._client.get_run(ref))

    def _begun(self, batch: Batch) -> MLflowRun:
        run = self._found_or_made(batch)
        if time.time() - batch.run.at > _LATE_S:
            adopt_children(self._client, run, batch.run.run_id)
        return run

    def _found_or_made(self, batch: Batch) -> MLflowRun:
        run = batch.run
        with database_lock(mlflow_uri.sqlite_path(self._uri)):  # nobody makes it between search and create
            job_run = mlflow_azureml.job_run(self._uri, os.environ)
            if job_run is not None and run.parent_run_id is None:
                own = claim(self._client, job_run, run.run_id, mlflow_content.start_tags(run, None))
                if own is not None:
                    return own
            experiment_id = self._experiment_of(job_run, run)
            found = find(self._client, experiment_id, run.run_id)
            if found is not None:
                return found
            parent_ref = batch.parent_ref
            if parent_ref is None and run.parent_run_id is not None:
                parent = find(self._client, experiment_id, run.parent_run_id)
                parent_ref = parent.ref if parent else None
            parent_ref = parent_ref or job_run
            tags = {**mlflow_content.start_tags(run, parent_ref), **_user_tag()}
            at = mlflow_content.milliseconds(run.at)
            return MLflowRun.of(self._client.create_run(experiment_id, at, tags, run.name or None))

    def _experiment_of(self, job_run: str | None, run: RunStarted) -> str:
        if job_run is not None:
            return proper_id(self._client.get_run(job_run).info.experiment_id)
        return self._experiment_id(self.experiment or run.experiment)

    def _experiment_id(self, name: str) -> str:
        if name not in self._experiments:
            experiment = self._client.get_experiment_by_name(name) or self._made_experiment(name)
            if experiment.lifecycle_stage == "deleted":
                raise Unavailable(
                    f"experiment {name!r} is deleted at {self._uri} - "
                    f"type: mlflow experiments restore --experiment-id {experiment.experiment_id}"
                )
            self._experiments[name] = proper_id(experiment.experiment_id)
        return self._experiments[name]

    def _made_experiment(self, name: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_experiment(self._client.create_experiment(name, self.artifact_location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._client.get_experiment_by_name(name)  # another process was faster

    def _log(self, run: MLflowRun, content: Content) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._send(run, content)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE" or not content.params:
                raise
            if not content.refuse(self._client.get_run(run.ref).data.params):
                raise
            self._send(run, content)

    def _send(self, run: MLflowRun, content: Content) -> None:
        from mlflow.entities import Metric, Param, RunTag

        texts = {name: text for name, (text, _) in content.params.items()}
        for points, params, tags in mlflow_content.requests(content.points, texts, content.tags):
            metrics = [
                Metric(name, math.nan if value is None else value, at, step)
                for name, value, at, step in points
            ]
            # Not under the lock: with 16 processes writing to one SQLite database, SQLite's own lock let
            # all of them through without an error, and 1.6x faster, since MLflow's work is not in line.
            self._client.log_batch(
                run.ref,
                metrics,
                [Param(name, text) for name, text in params],
                [RunTag(name, text) for name, text in tags],
                synchronous=True,
            )

    def _finish(self, run: MLflowRun, end: RunFinished) -> None:
        if end.traceback:
            content = end.traceback.encode("utf-8", "backslashreplace")
            key = f"end {end.at!r}"  # the same however the batch is cut
            upload(self._client, run, mlflow_content.TRACEBACK, io.BytesIO(content), len(content), key)
        self._forget_end(run, keep=mlflow_content.end_tags(end).keys())
        if run.is_jobs:
            self._client.set_tag(run.ref, mlflow_content.STATUS, end.status)
            return
        status, at = mlflow_content.final_status(end), mlflow_content.milliseconds(end.at)
        self._client.set_terminated(run.ref, status, at)

    def _reopen(self, run: MLflowRun, started: RunStarted) -> None:
        """Take back the end of an earlier attempt."""
        self._forget_end(run)
        self._client.set_tag(run.ref, mlflow_content.STARTED, mlflow_content.started_text(started))
        self._client.set_tag(run.ref, mlflow_content.ATTEMPT, str(started.attempt))
        if not run.is_jobs:
            self._client.update_run(run.ref, status="RUNNING")

    def _forget_end(self, run: MLflowRun, keep: Collection[str] = ()) -> None:
        """Delete the tags of an earlier end, but for those of the new one."""
        before = self._client.get_run(run.ref).data.tags
        for tag in (mlflow_content.END_TAGS & before.keys()) - set(keep):
            self._client.delete_tag(run.ref, tag)


def _user_tag() -> dict[str, str]:
    try:
        return {"mlflow.user": getpass.getuser()}
    except (KeyError, OSError, ImportError):  # a container whose uid has no name
        return {}
