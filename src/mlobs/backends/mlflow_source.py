"""The way back: what MLflow holds of a run, as events. Any MLflow run can be read, not only mlobs's own."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from mlobs.backends import mlflow_azureml, mlflow_datasets, mlflow_files, mlflow_uri
from mlobs.backends import mlflow_content as content
from mlobs.backends.mlflow_client import connect
from mlobs.backends.mlflow_errors import translated
from mlobs.errors import UsageError
from mlobs.events import Artifact, Event, Metrics, Params, Process, RunFinished, RunStarted, Status, Tags
from mlobs.names import cut_name, unescape_name

MAX_INLINE_BYTES = 1 << 20  # larger artifacts are named with their size, without content
_OWN_TAGS = frozenset(
    {content.RUN_ID, content.JOB, content.STARTED, content.PARENT_RUN_ID, content.PARENT, *content.END_TAGS}
    | {content.ATTEMPT, content.REWOUND, mlflow_files.IMAGES_TAG, mlflow_files.TABLES_TAG}
    | {"mlflow.user", "mlflow.runName", "mlflow.source.name", "mlflow.source.type"}
)
_TOLD_OTHERWISE = frozenset(
    {content.PARENT, "mlflow.runName", mlflow_files.IMAGES_TAG, mlflow_files.TABLES_TAG}
)
ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})


@dataclass
class MLflowSource:
    """Reads runs at `tracking_uri`; a reference is an MLflow run id."""

    tracking_uri: str = field(repr=False)

    def read(self, ref: str) -> Iterator[Event]:
        """Yield the run's events: start, tags, params, a Metrics event per point, datasets, artifacts, end.

        Params are text, as MLflow keeps them. A metric's points come in order of their time.

        Raises:
            UsageError: the database does not exist.
            Unavailable: no answer, or no such run.
            Unauthorized: the server refuses the credentials.
            MissingPackage: `mlflow` is not installed.
        """
        path = mlflow_uri.sqlite_path(self.tracking_uri)
        if path is not None and not Path(path).exists():
            raise UsageError(f"there is no MLflow database {path!r} - check tracking_uri")
        remote = not mlflow_uri.is_database(self.tracking_uri)
        with translated(remote=remote, opening=True):
            client = connect(self.tracking_uri)
            run = client.get_run(ref)
            experiment = client.get_experiment(run.info.experiment_id).name
        with translated(remote=remote):
            yield started(run, experiment)
            yield from texts(run)
            for name in sorted(run.data.metrics):
                yield from points(client, run, name)
            yield from datasets(run)
            yield from _ending(client, run, has_versions=mlflow_azureml.is_azureml(self.tracking_uri))


def is_ours(run: Any) -> bool:
    """Tell whether mlobs delivered the run."""
    return content.STARTED in run.data.tags


def started(run: Any, experiment: str) -> RunStarted:
    """Return the run's start; exact, if mlobs delivered it. Another's is said to be by nobody's process."""
    if is_ours(run):
        return msgspec.json.decode(run.data.tags[content.STARTED], type=RunStarted)
    nobody = Process(host="", pid=0)
    return RunStarted(start_of(run), run.info.run_id, experiment, run.info.run_name or "", nobody)


def start_of(run: Any) -> float:
    """Return when MLflow says that the run began (Unix seconds); 0.0 if it does not say."""
    return (run.info.start_time or 0) / 1000


def texts(run: Any) -> Iterator[Event]:
    """Yield tags and params. A name of a run that mlobs did not deliver is taken as it stands."""
    return _own_texts(run) if is_ours(run) else _others_texts(run)


def _others_texts(run: Any) -> Iterator[Event]:
    tags = {name: text for name, text in sorted(run.data.tags.items()) if name not in _TOLD_OTHERWISE}
    if tags:
        yield Tags(start_of(run), tags)
    if run.data.params:
        yield Params(start_of(run), dict(sorted(run.data.params.items())))


def _own_texts(run: Any) -> Iterator[Event]:
    at, held = start_of(run), run.data.tags
    tags: dict[str, str] = {}
    refused: dict[str, dict[str, str]] = {content.CONFLICT: {}, content.OVERWRITTEN: {}}
    for name, text in sorted(held.items()):
        prefix = next((prefix for prefix in refused if name.startswith(prefix)), None)
        if prefix is not None:
            refused[prefix][_original(name.removeprefix(prefix), held)] = text
        elif name not in _OWN_TAGS and not name.startswith((content.INFINITE, content.NAME)):
            tags[_original(name, held)] = text
    params = {_original(name, held): text for name, text in sorted(run.data.params.items())}
    if tags:
        yield Tags(at, tags)
    if params:
        yield Params(at, params)
    if refused[content.CONFLICT]:
        yield Params(at, refused[content.CONFLICT], "keep_first")
    if refused[content.OVERWRITTEN]:
        yield Params(at, refused[content.OVERWRITTEN], "overwrite")


def points(client: Any, run: Any, name: str) -> Iterator[Metrics]:
    """Yield a metric's points by time. Where infinity was logged, MLflow's databases hold a number."""
    has_infinities = not is_ours(run) or _mark(content.INFINITE, name) in run.data.tags
    shown = _original(name, run.data.tags) if is_ours(run) else name
    for point in client.get_metric_history(run.info.run_id, name):  # the client asks page by page
        value = point.value
        if has_infinities and abs(value) == sys.float_info.max:
            value = math.copysign(math.inf, value)
        yield Metrics(point.timestamp / 1000, point.step, {shown: value})


def datasets(run: Any) -> Iterator[Event]:
    """Yield the datasets that the run had for inputs."""
    inputs = run.inputs.dataset_inputs if run.inputs else ()
    return (mlflow_datasets.from_input(one, start_of(run)) for one in inputs)


def _original(name: str, tags: Mapping[str, str]) -> str:
    """Return the name before lowering; a tag knows it where it was too long to be escaped in full."""
    return tags.get(_mark(content.NAME, name)) or unescape_name(name)


def _mark(prefix: str, name: str) -> str:
    return cut_name(prefix + name, content.MAX_NAME)


def _ending(client: Any, run: Any, *, has_versions: bool) -> Iterator[Event]:
    info, traceback = run.info, None
    at = end_of(run)
    with tempfile.TemporaryDirectory(prefix="mlobs-") as folder:
        for file in files_below(client, info.run_id, None):
            data = None
            if (file.file_size or 0) <= MAX_INLINE_BYTES:
                data = Path(client.download_artifacts(info.run_id, file.path, folder)).read_bytes()
            if file.path == content.TRACEBACK and data is not None:
                traceback = data.decode("utf-8", "replace")
                continue
            known = mlflow_files.logged(mlflow_azureml.first_path(file.path) if has_versions else file.path)
            if known is not None:
                size_bytes = max(file.file_size or 0, len(data or b""))  # Azure ML says -1
                yield Artifact(known.at or at, known.path, size_bytes, known.role, data=data, step=known.step)
    yield from ends(run, traceback)


def end_of(run: Any) -> float:
    """Return when MLflow says that the run ended, or else began (Unix seconds)."""
    return (run.info.end_time or run.info.start_time or 0) / 1000


def ends(run: Any, traceback: str | None) -> Iterator[RunFinished]:
    """Yield the run's end, if it has one. Another client may have ended a run without saying when."""
    status, tags = run.info.status, run.data.tags
    is_jobs = status == "RUNNING" and content.STATUS in tags  # which Azure ML ends itself
    if is_jobs or (status in ENDED and (run.info.end_time is not None or not is_ours(run))):
        yield finished(tags, tags[content.STATUS] if is_jobs else status, end_of(run), traceback)


def files_below(client: Any, ref: str, folder: str | None) -> Iterator[Any]:
    """Yield the run's files, as MLflow describes them, in and below a folder; None is the top one."""
    for entry in client.list_artifacts(ref, folder):
        if entry.is_dir:
            yield from files_below(client, ref, entry.path)
        else:
            yield entry


def finished(tags: Mapping[str, str], mlflow_status: str, at: float, traceback: str | None) -> RunFinished:
    """Return a run's end, with what tags say of it."""
    status: Status = mlflow_status if mlflow_status in {"FINISHED", "KILLED"} else "FAILED"  # type: ignore[assignment]
    if status == "FAILED" and tags.get(content.STATUS) == "CRASHED":
        status = "CRASHED"
    code, unrecorded = tags.get(content.EXIT_CODE), tags.get(content.UNRECORDED, "0")
    reason = tags.get(content.REASON, "") if status != "FINISHED" else ""
    return RunFinished(at, status, reason, traceback, int(code) if code else None, int(unrecorded))
