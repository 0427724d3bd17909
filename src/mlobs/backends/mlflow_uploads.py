"""Files on their way into an MLflow run, and the tags by which MLflow's pages find what they can show."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from mlobs.backend import Batch, Entry
from mlobs.backends import mlflow_azureml, mlflow_files
from mlobs.backends.mlflow_client import patience_for
from mlobs.backends.mlflow_runs import MLflowRun
from mlobs.events import Artifact

_COPY_BYTES = 1 << 20


def store(client: Any, run: MLflowRun, batch: Batch, entry: Entry) -> None:
    """Store an artifact's content; of an image that the grid shows, also its small copy."""
    event = entry.event
    assert isinstance(event, Artifact)
    path = mlflow_files.stored_path(event, entry.key)
    with batch.open_blob(entry) as source:
        if not mlflow_files.in_grid(event):
            upload(client, run, path, source, event.size_bytes, entry.key)
            return
        content = source.read()
    small = mlflow_files.thumbnail(content)
    upload(client, run, mlflow_files.thumbnail_path(path), io.BytesIO(small), len(small), entry.key)
    upload(client, run, path, io.BytesIO(content), len(content), entry.key)


def announce(client: Any, run: MLflowRun, uploads: Sequence[Entry]) -> None:
    """Tell MLflow's pages that there are images and tables to be shown."""
    events = [entry.event for entry in uploads if isinstance(entry.event, Artifact)]
    tags: dict[str, str] = {}
    if any(map(mlflow_files.in_grid, events)):
        tags[mlflow_files.IMAGES_TAG] = "True"
    tables = [event.path for event in events if mlflow_files.is_table(event)]
    if tables:
        before = run.shown.get(mlflow_files.TABLES_TAG)
        tags[mlflow_files.TABLES_TAG] = mlflow_files.tables_text(before, tables)
    for tag, text in tags.items():
        if run.shown.get(tag) != text:
            client.set_tag(run.ref, tag, text)
            run.shown[tag] = text


def upload(client: Any, run: MLflowRun, path: str, source: BinaryIO, size_bytes: int, key: str = "") -> None:
    """Store a file under `path`, by way of a temporary one: MLflow takes its name from the local file.

    Where a path is written once, and is taken, the file lies beside it; `key` is the entry's.
    """
    target = PurePosixPath(path)
    folder = str(target.parent) if target.parent.parts else None
    names = list(mlflow_azureml.candidates(target.name, key)) if run.writes_once else [target.name]
    with tempfile.TemporaryDirectory(prefix="mlobs-") as temporary:
        local = Path(temporary, target.name)
        with local.open("wb") as file:
            shutil.copyfileobj(source, file, _COPY_BYTES)
        for name in names:
            local = local.rename(Path(temporary, name))
            try:
                with patience_for(size_bytes):
                    client.log_artifact(run.ref, str(local), folder)
            except Exception as error:
                if name == names[-1] or not mlflow_azureml.is_conflict(error):
                    raise
            else:
                return
