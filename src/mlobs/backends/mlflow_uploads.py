"""Files on their way into an MLflow run, and the tags by which MLflow's pages find what they can show."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from mlobs.backend import Batch, Entry
from mlobs.backends import mlflow_azureml, mlflow_files
from mlobs.backends.mlflow_client import patience_for
from mlobs.backends.mlflow_runs import MLflowRun
from mlobs.events import Artifact

_COPY_BYTES = 1 << 20


def store(client: Any, run: MLflowRun, batch: Batch, entry: Entry) -> str | None:
    """Store an artifact's content; of an image that the grid shows, also its small copy.

    Return why it is shown in another form than it could be, None if it is not.
    """
    event = entry.event
    assert isinstance(event, Artifact)
    path = mlflow_files.stored_path(event, entry.key)
    with batch.open_blob(entry) as source:
        if not mlflow_files.in_grid(event):
            upload(client, run, path, source, event.size_bytes, entry.key)
            return None
        content = source.read()
    why = None
    try:
        small = mlflow_files.thumbnail(content)
    except (OSError, ValueError, SyntaxError) as error:
        why = f"there is no small copy of it, because it cannot be read as an image: {error}"
    else:
        upload(client, run, mlflow_files.thumbnail_path(path), io.BytesIO(small), len(small), entry.key)
    upload(client, run, path, io.BytesIO(content), len(content), entry.key)
    return why


def announce(client: Any, run: MLflowRun, uploads: Sequence[Entry], limit: int) -> Mapping[str, str]:
    """Tell MLflow's pages that there are images and tables to be shown.

    A tag has at most `limit` characters. Return by an entry's key what they are not told.
    """
    events = [entry.event for entry in uploads if isinstance(entry.event, Artifact)]
    left: set[str] = set()
    tags: dict[str, str] = {}
    if any(map(mlflow_files.in_grid, events)):
        tags[mlflow_files.IMAGES_TAG] = "True"
    tables = [event.path for event in events if mlflow_files.is_table(event)]
    if tables:
        before = run.shown.get(mlflow_files.TABLES_TAG)
        tags[mlflow_files.TABLES_TAG], left = mlflow_files.tables_text(before, tables, limit)
    for tag, text in tags.items():
        if run.shown.get(tag) != text:
            client.set_tag(run.ref, tag, text)
            run.shown[tag] = text
    why = f"MLflow's tag {mlflow_files.TABLES_TAG!r} is full: it is stored, but not listed as a table"
    unlisted = (e for e in uploads if isinstance(e.event, Artifact) and mlflow_files.is_table(e.event))
    return {entry.key: why for entry in unlisted if getattr(entry.event, "path", "") in left}


def upload(client: Any, run: MLflowRun, path: str, source: BinaryIO, size_bytes: int, key: str = "") -> None:
    """Store a file under `path`, by way of a temporary name: MLflow takes it from the local file.

    Where a path is written once, and is taken, the file lies beside it; `key` is the entry's.
    """
    if (path, key) in run.stored:
        return  # the batch comes again, because what stands behind it failed
    target = PurePosixPath(path)
    folder = str(target.parent) if target.parent.parts else None
    names = list(mlflow_azureml.candidates(target.name, key)) if run.writes_once else [target.name]
    with tempfile.TemporaryDirectory(prefix="mlobs-") as temporary:
        local = Path(temporary, target.name)
        _lend(source, local)
        for name in names:
            local = local.rename(Path(temporary, name))
            try:
                with patience_for(size_bytes):
                    client.log_artifact(run.ref, str(local), folder)
            except Exception as error:
                if name == names[-1] or not mlflow_azureml.is_conflict(error):
                    raise
            else:
                if run.writes_once:
                    run.stored.add((path, key))
                return


def _lend(source: BinaryIO, local: Path) -> None:
    """Make the content readable under a name: a link to its file, which takes no room, else a copy."""
    place = getattr(source, "name", None)
    if isinstance(place, str) and Path(place).is_file():
        with contextlib.suppress(OSError):  # Windows: links are a privilege
            local.symlink_to(Path(place).resolve())
            return
    with local.open("wb") as file:
        shutil.copyfileobj(source, file, _COPY_BYTES)
