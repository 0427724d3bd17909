"""Runs at an MLflow server, in one of its databases, or in a folder `mlruns`."""

from __future__ import annotations

import mimetypes
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import msgspec

from mlobs.backends import mlflow_azureml, mlflow_files, mlflow_uri
from mlobs.backends import mlflow_content as content
from mlobs.backends import mlflow_source as reading
from mlobs.backends.mlflow_client import connect
from mlobs.backends.mlflow_errors import translated
from mlobs.errors import UsageError
from mlobs.events import Artifact
from mlobs.moving.source import Payload, Piece, SourceRun

_PAGE = 1000  # runs of one request
_FILE_STORE = "MLFLOW_ALLOW_FILE_STORE"  # MLflow 3.17 refuses its retired file store without it
_PROGRESS_BAR = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"  # one for each file, on stderr
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def mlflow_runs(uri: str, experiments: Sequence[str] = ()) -> Iterator[SourceRun]:
    """Yield every run that is not deleted, of these experiments, or of all.

    Raises:
        UsageError: the URI leads nowhere, or there is no such experiment.
        Unavailable: the server does not answer.
        Unauthorized: it refuses the credentials.
        MissingPackage: `mlflow` is not installed.
    """
    place = _Place.of(uri)
    with translated(remote=place.is_remote, opening=True):
        chosen = _experiments(place, experiments)
        for experiment in chosen:
            for run in _pages(place.client, experiment.experiment_id):
                yield _run(place, run, experiment.name)


@dataclass(frozen=True)
class _Place:
    """Where MLflow's runs are: its client, what people call the place, and whether a server is asked."""

    client: Any
    shown: str
    is_remote: bool
    has_versions: bool = False  # of Azure ML's artifacts

    @classmethod
    def of(cls, given: str) -> _Place:
        uri = _resolved(given)
        shown, _, _ = mlflow_uri.split_userinfo(uri)
        is_remote = urlsplit(uri).scheme in ("http", "https", "databricks", "azureml", "uc")
        if urlsplit(uri).scheme == "file":
            os.environ.setdefault(_FILE_STORE, "true")
        os.environ.setdefault(_PROGRESS_BAR, "false")
        with translated(remote=is_remote, opening=True):
            return cls(connect(uri), shown, is_remote, mlflow_azureml.is_azureml(uri))


def _resolved(given: str) -> str:
    """Make a URI of what people type: also a database's or a folder's path; both have to be there."""
    scheme = given.partition(":")[0] if "://" in given or given.startswith("file:") else ""
    path = Path(url2pathname(urlsplit(given).path) if scheme == "file" else given).expanduser()
    if scheme in ("", "file"):
        if path.is_file():
            return f"sqlite:///{path.absolute()}"
        folder = path / "mlruns" if (path / "mlruns").is_dir() else path
        if not folder.is_dir():
            raise UsageError(
                f"there is no MLflow at {given!r} - give a tracking URI (http://host:5000, sqlite:///mlflow.db),"
                " a database file, or a folder mlruns"
            )
        return folder.absolute().as_uri()
    uri = mlflow_uri.resolved(given)
    database = mlflow_uri.sqlite_path(uri)
    if database is not None and not Path(database).is_file():
        raise UsageError(f"there is no MLflow database {database!r} - check the path")
    return uri


def _experiments(place: _Place, names: Sequence[str]) -> list[Any]:
    every = place.client.search_experiments()
    token = every.token
    while token:
        page = place.client.search_experiments(page_token=token)
        every, token = [*every, *page], page.token
    if not names:
        return list(every)
    by_name = {one.name: one for one in every}
    missing = [name for name in names if name not in by_name]
    if missing:
        known = ", ".join(sorted(by_name)) or "none"
        raise UsageError(f"there is no experiment {missing[0]!r} at {place.shown}; there are {known}")
    return [by_name[name] for name in names]


def _pages(client: Any, experiment_id: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _run(place: _Place, run: Any, experiment: str) -> SourceRun:
    ref, parent = run.info.run_id, run.data.tags.get(content.PARENT)
    is_ours = reading.is_ours(run)
    try:
        start = reading.started(run, experiment)
    except msgspec.DecodeError as error:  # somebody wrote to our tag
        raise UsageError(f"run {ref} at {place.shown} has no readable tag {content.STARTED!r}") from error
    if not is_ours:
        start = msgspec.structs.replace(start, run_id="")
    return SourceRun(
        identity=f"mlflow:{ref}",
        start=start,
        pieces=lambda: _pieces(place, ref),
        place=place.shown,
        parent=f"mlflow:{parent}" if parent else None,
        is_ours=is_ours,
    )


def _pieces(place: _Place, ref: str) -> Iterator[Piece]:
    """Read a run again, as it is now, and everything of it."""
    client = place.client
    with translated(remote=place.is_remote):
        run = client.get_run(ref)
        yield from reading.texts(run)
        for name in sorted(run.data.metrics):
            yield from reading.points(client, run, name)
        yield from reading.datasets(run)
        traceback = None
        with tempfile.TemporaryDirectory(prefix="mlobs-") as folder:
            for event, file in _files(place, run, Path(folder)):
                if event.path == content.TRACEBACK and reading.is_ours(run):
                    traceback = file.read_text("utf-8", "replace")
                else:
                    yield Payload(event, file)
            for event, file in _models(client, run, Path(folder)):
                yield Payload(event, file)
        yield from reading.ends(run, traceback)


def _files(place: _Place, run: Any, folder: Path) -> Iterator[tuple[Artifact, Path]]:
    at = reading.end_of(run)
    tables = run.data.tags.get(mlflow_files.TABLES_TAG, "")
    for entry in reading.files_below(place.client, run.info.run_id, None):
        path = mlflow_azureml.first_path(entry.path) if place.has_versions else entry.path
        known = mlflow_files.logged(path)
        if known is None:
            continue
        if not reading.is_ours(run) and known.at is None:
            known = mlflow_files.Logged(path)  # only a file of ours has its step in its name
        file = Path(place.client.download_artifacts(run.info.run_id, entry.path, str(folder)))
        role = "table" if f'"{entry.path}"' in tables else known.role
        yield _artifact(known.path, role, file, known.at or at, known.step), file


def _models(client: Any, run: Any, folder: Path) -> Iterator[tuple[Artifact, Path]]:
    """Read the models that MLflow 3 keeps beside the run, not in it."""
    outputs = getattr(run, "outputs", None)
    for output in outputs.model_outputs if outputs else ():
        from mlflow.artifacts import download_artifacts

        model = client.get_logged_model(output.model_id)
        top = folder / output.model_id
        top.mkdir()
        place = Path(download_artifacts(artifact_uri=model.artifact_location, dst_path=str(top)))
        for file in sorted(one for one in place.rglob("*") if one.is_file()):
            path = f"{model.name}/{file.relative_to(place).as_posix()}"
            yield _artifact(path, "model", file, reading.end_of(run), output.step or None), file


def _artifact(path: str, role: str, file: Path, at: float, step: int | None) -> Artifact:
    media_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
    if role == "file" and media_type in _IMAGES:
        role = "image"
    return Artifact(at, path, file.stat().st_size, role, media_type, step=step)
