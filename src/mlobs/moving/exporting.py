"""Runs of the store as files that other programs read."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from mlobs.errors import MissingPackage, MlobsError, StoreError, UsageError
from mlobs.journal.store import Store
from mlobs.moving.choosing import choose
from mlobs.read import frames, point_frames
from mlobs.read.artifact import StoredArtifact
from mlobs.read.location import StoreLike, open_store
from mlobs.read.record import RunRecord, liveness, read_run
from mlobs.text import json_bytes
from mlobs.version import __version__

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["parquet", "csv", "json", "mlflow"]
FORMATS: tuple[str, ...] = get_args(Format)
_JSON_FORMAT = 1  # of the document; a field is only ever added
_FACTS = ("run_id", "experiment", "name", "status", "reason", "started", "ended", "parent_run_id")


def export_runs(
    runs: str | Iterable[str] | None,
    dest: str | Path,
    *,
    format: Format = "parquet",  # noqa: A002 - what it is called everywhere
    experiment: str | None = None,
    store: StoreLike = None,
) -> list[Path]:
    """Write runs as files, and return their paths; files of the same names are replaced.

    - "parquet", "csv": in the folder `dest` the tables `points` (`run_id`, `key`, `step`, `value`, `at`) and
      `runs` (a row for each run). In CSV, NaN is `NaN`; `mlobs import csv` reads the points again.
    - "json": the file `dest` with everything of each run, the content of its artifacts in Base64.
    - "mlflow": in the folder `dest` a store of MLflow, `mlflow.db` and `artifacts`, by `replay_runs`.

    Args:
        runs: ids, beginnings of ids, or "latest"; None is all, or those of the `experiment`.
        dest: where to write.
        format: one of these four.
        experiment: all runs of this experiment.
        store: where the runs are.

    Raises:
        UsageError: there is no such run or format.
        StoreError: there is no such store, or the files cannot be written.
        MissingPackage: `pyarrow`, or `mlflow`, is not installed.
    """
    if format not in FORMATS:
        raise UsageError(f"format is {format!r}; expected one of {', '.join(FORMATS)}")
    opened, path = open_store(store), Path(dest).expanduser().absolute()
    ids = [folder.run_id for folder in choose(opened, runs, experiment=experiment)]
    try:
        if format == "json":
            return [_write_json(opened, ids, path)]
        path.mkdir(parents=True, exist_ok=True)
        if format == "mlflow":
            return _write_mlflow(opened, ids, path)
        return _write_tables(opened, ids, path, format)
    except MlobsError:
        raise
    except (FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        kind = "file" if format == "json" else "folder"
        why = f"the export cannot be written: {error.strerror} - name another {kind}"
        raise StoreError(error.errno or 0, why, str(path)) from error
    except OSError as error:
        why = f"the export cannot be written: {error.strerror or error}"
        raise StoreError(error.errno or 0, why, str(path)) from error


def _write_tables(store: Store, ids: Sequence[str], folder: Path, suffix: str) -> list[Path]:
    every = frames.runs(store=store, system=True)
    chosen = every[every["run_id"].isin(ids)]
    others = [name for name in chosen.columns if "." in name and chosen[name].isna().all()]
    chosen = chosen.drop(columns=others)  # what only runs have that were not chosen
    written = []
    for name, frame in (("points", point_frames.metrics(store=store, run_ids=ids)), ("runs", chosen)):
        path = folder / f"{name}.{suffix}"
        if suffix == "csv":
            # In the table of runs an empty cell is what a run does not have; a point always has a value.
            frame.to_csv(path, index=False, na_rep="NaN" if name == "points" else "")
        else:
            _write_parquet(frame, path)
        written.append(path)
    return written


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a table; a column of values of several types becomes text, which Parquet can hold."""
    try:
        import pyarrow as pa  # noqa: F401 - pandas' engine, whose own error is a page long
    except ImportError as error:
        raise MissingPackage("pyarrow", "parquet") from error
    mixed = {
        name: frame[name].map(lambda one: one if one is None or one != one else str(one))  # noqa: PLR0124 - NaN
        for name in frame.columns
        if frame[name].dtype == object
    }
    frame.assign(**mixed).to_parquet(path, index=False, engine="pyarrow")


def _write_json(store: Store, ids: Sequence[str], path: Path) -> Path:
    is_alive = liveness()
    records = (read_run(store.run(run_id), is_alive) for run_id in ids)
    documents = [document(record) for record in records if record is not None]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json_bytes({"mlobs": __version__, "format": _JSON_FORMAT, "runs": documents}))
    return path


def _write_mlflow(store: Store, ids: Sequence[str], folder: Path) -> list[Path]:
    from mlobs.backends.mlflow import MLflow
    from mlobs.delivery.registry import missing_package
    from mlobs.moving.replaying import replay_runs

    database = folder / "mlflow.db"
    backend = MLflow(f"sqlite:///{database}", artifact_location=str(folder / "artifacts"))
    if (missing := missing_package(backend)) is not None:
        raise missing
    for one in replay_runs(ids, backend, store=store):
        if not one.is_settled:
            why = one.problem or str(one.report)
            raise StoreError(0, f"run {one.run_id} was not exported in full: {why}", str(database))
    return [database]


def document(record: RunRecord) -> dict[str, Any]:
    """Return everything of a run as plain data; NaN and infinities are texts once it is JSON."""
    points = record.metrics
    of_metrics = {
        str(key): {"step": part["step"].tolist(), "value": part["value"].tolist(), "at": _seconds(part["at"])}
        for key, part in points.groupby("key", sort=False, observed=True)
    }
    facts = {name: getattr(record, name) for name in _FACTS}
    for name in ("started", "ended"):
        facts[name] = facts[name] and facts[name].isoformat()
    return {
        **facts,
        "params": record.params,
        "tags": record.tags,
        "metrics": of_metrics,
        "artifacts": [_artifact(one) for one in record.artifacts],
        "histograms": [_plain(one) for one in record.histograms],
        "datasets": [_plain(one) for one in record.datasets],
        "snapshots": {part: _plain(one) for part, one in record.snapshots.items()},
        "models": [_plain(one) for one in record.models],
        "logs": [_plain(one) for one in record.logs()],
        "traceback": record.end.traceback if record.end else None,
    }


def _seconds(moments: pd.Series[Any]) -> list[float]:
    return [one.timestamp() for one in moments]


def _artifact(one: StoredArtifact) -> dict[str, Any]:
    names = ("path", "role", "media_type", "step", "meta")
    facts = {name: getattr(one, name) for name in names}
    content = one.read_bytes()
    facts |= {"at": one.at.timestamp(), "size_bytes": len(content)}
    return {**facts, "content_base64": base64.b64encode(content).decode()}


def _plain(event: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}
