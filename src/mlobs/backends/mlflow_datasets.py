"""Datasets as MLflow's own, to and fro: a run's inputs, under the name and digest of the data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from mlobs.backends.mlflow_runs import CONTEXT, MLflowRun
from mlobs.events import Dataset

_MAX_NAME, _MAX_DIGEST, _MAX_SOURCE, _MAX_SCHEMA, _MAX_PROFILE, _MAX_TAG = (
    500,
    36,
    65_000,
    1_000_000,
    16_000_000,
    500,
)
_EVENT = "mlobs.dataset"  # what MLflow has no field for, of this run: MLflow shares a dataset between runs


def log(client: Any, run: MLflowRun, given: Iterable[tuple[str, Dataset]]) -> Mapping[str, str]:
    """Log datasets, each with its entry's key, as the run's inputs; return those that MLflow keeps otherwise.

    A dataset is in a run once there, with one context: the first one.
    """
    new, lowered = [], {}
    for key, event in given:
        held = run.contexts.setdefault(
            (event.name[:_MAX_NAME], event.fingerprint[:_MAX_DIGEST]), event.context
        )
        if held == event.context:
            new.append(event)
        else:
            which = f"{event.name!r} is under {held!r}, not {event.context!r}"
            lowered[key] = f"MLflow has each dataset of a run once: {which}"
    if new:
        client.log_inputs(run.ref, to_inputs(new))
    return lowered


def to_inputs(events: list[Dataset]) -> list[Any]:
    """Return the inputs of a run that MLflow is to log."""
    from mlflow.entities import Dataset as MLflowDataset
    from mlflow.entities import DatasetInput, InputTag

    inputs = []
    for event in events:
        dataset = MLflowDataset(
            name=event.name[:_MAX_NAME],
            digest=event.fingerprint[:_MAX_DIGEST],
            source_type="local",
            source=json.dumps({"uri": event.source or ""})[:_MAX_SOURCE],
            schema=_schema(event),
            profile=_profile(event),
        )
        tags = [InputTag(CONTEXT, event.context[:_MAX_TAG])]
        exact = msgspec.json.encode(msgspec.structs.replace(event, columns=None, digests=None)).decode()
        if len(exact) <= _MAX_TAG:
            tags.append(InputTag(_EVENT, exact))
        inputs.append(DatasetInput(dataset, tags))
    return inputs


def from_input(given: Any, at: float) -> Dataset:
    """Return the event of a run's input; exact, if mlobs logged it."""
    tags = {tag.key: tag.value for tag in given.tags}
    dataset = given.dataset
    columns, profile = _columns(dataset.schema), _document(dataset.profile)
    if _EVENT in tags:
        event: Dataset = msgspec.json.decode(tags[_EVENT], type=Dataset)
        return msgspec.structs.replace(event, columns=columns, digests=profile.get("digests"))
    return Dataset(
        at,
        dataset.name,
        None,
        str(profile.get("fingerprint", dataset.digest)),
        str(profile.get("strength", "stat")),  # MLflow's own digest is that of a sample
        tags.get(CONTEXT, ""),
        _source(dataset.source),
        _rows(profile),
        columns,
    )


def _profile(event: Dataset) -> str:
    """What the data is, and of each part what it holds, unless that is too long for MLflow."""
    facts = {"rows": event.rows, "fingerprint": event.fingerprint, "strength": event.strength}
    text = json.dumps({**facts, "digests": event.digests} if event.digests else facts)
    return text if len(text) <= _MAX_PROFILE else json.dumps(facts)


def _schema(event: Dataset) -> str | None:
    if event.columns is None:
        return None
    rows = [{"type": kind, "name": name, "required": True} for name, kind in event.columns.items()]
    text = json.dumps({"mlflow_colspec": rows})
    return text if len(text) <= _MAX_SCHEMA else None


def _source(text: str | None) -> str | None:
    """Return where the data came from: MLflow has a word of its own for each type of source."""
    document = _document(text)
    return next((str(document[key]) for key in ("uri", "url", "path") if document.get(key)), None)


def _rows(profile: Mapping[str, Any]) -> int | None:
    rows = profile.get("rows", profile.get("num_rows"))
    return rows if isinstance(rows, int) else None


def _columns(schema: str | None) -> dict[str, str] | None:
    rows = _document(schema).get("mlflow_colspec")
    return {row.get("name", ""): str(row.get("type")) for row in rows} if isinstance(rows, list) else None


def _document(text: str | None) -> dict[str, Any]:
    """Return the JSON object that a text of any tool's holds, {} if it holds none."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
