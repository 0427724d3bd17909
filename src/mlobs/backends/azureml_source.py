"""The way back: what Azure ML holds of a run, as events. Any run can be read, not only mlobs's own."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from mlobs.backends import azureml_content as content
from mlobs.backends import azureml_files, azureml_logs
from mlobs.backends.azureml_client import Client, gone
from mlobs.backends.azureml_metrics import rows_held
from mlobs.backends.azureml_rows import HISTOGRAM, MORE, SCALAR, TABLE
from mlobs.events import (
    Artifact,
    Dataset,
    Event,
    Histogram,
    Metrics,
    Params,
    Process,
    RunFinished,
    RunStarted,
    Tags,
)
from mlobs.names import cut_name, unescape_name

MAX_INLINE_BYTES = 1 << 20  # larger artifacts are named with their size, without content
_OWN_TAGS = frozenset({content.ATTEMPT, content.PARENT_RUN_ID, content.REWOUND, *content.END_TAGS})
_OWN_PREFIXES = (content.INFINITE, content.NAN, content.NAME, content.DATASET)
_STATUS = {"Completed": "FINISHED", "Canceled": "KILLED", "Failed": "FAILED"}


@dataclass(frozen=True)
class AzureMLSource:
    """Reads runs of the workspace that `connected` opens; a reference is `EXPERIMENT/RUN`."""

    connected: Callable[[], Client]

    def read(self, ref: str) -> Iterator[Event]:
        """Yield the run's events: start, tags, params, metrics, histograms, datasets, artifacts, logs, end.

        Params are text, as Azure ML keeps them. A metric's points come in order of their time.

        Raises:
            Unavailable: no answer, or no such run.
            Unauthorized: the credentials are refused.
            MissingPackage: `azureml-core` is not installed.
        """
        client = self.connected()
        experiment, _, run_id = ref.rpartition("/")
        run = client.run(experiment, run_id)
        if run is None:
            raise gone(f"run {run_id!r} of experiment {experiment!r}")
        tags, properties = dict(run.tags or {}), dict(run.properties or {})
        yield _started(run, experiment, properties)
        yield from _texts(run, tags, properties)
        for name in sorted(client.metric_names(experiment, run_id)):
            metric = client.metric(experiment, run_id, name)
            if metric is not None:
                yield from _rows(metric, tags)
        traceback = None
        for event in _files(client, run.data_container_id):
            if (
                isinstance(event, Artifact)
                and event.path == azureml_files.TRACEBACK
                and event.data is not None
            ):
                traceback = event.data.decode("utf-8", "replace")
            else:
                yield event
        end = _finished(run, tags, traceback)
        if end is not None:
            yield end


def _started(run: Any, experiment: str, properties: Mapping[str, str]) -> RunStarted:
    if content.STARTED in properties:
        return msgspec.json.decode(properties[content.STARTED], type=RunStarted)
    at = _at(run.start_time_utc or run.created_utc)
    run_id = properties.get(content.RUN_ID, run.run_id)
    return RunStarted(at, run_id, experiment, run.display_name or run.name or "", Process(host="", pid=0))


def _texts(run: Any, tags: Mapping[str, str], properties: Mapping[str, str]) -> Iterator[Event]:
    at = _at(run.start_time_utc or run.created_utc)
    users: dict[str, str] = {}
    refused: dict[str, dict[str, str]] = {content.CONFLICT: {}, content.OVERWRITTEN: {}}
    for name, text in sorted(tags.items()):
        prefix = next((prefix for prefix in refused if name.startswith(prefix)), None)
        if prefix is not None:
            refused[prefix][_original(name.removeprefix(prefix), tags)] = text
        elif name not in _OWN_TAGS and not name.startswith(_OWN_PREFIXES):
            users[_original(name, tags)] = text
    params = {
        _original(name.removeprefix(content.PARAM), tags): text
        for name, text in sorted(properties.items())
        if name.startswith(content.PARAM)
    }
    if users:
        yield Tags(at, users)
    if params:
        yield Params(at, params)
    if refused[content.CONFLICT]:
        yield Params(at, refused[content.CONFLICT], "keep_first")
    if refused[content.OVERWRITTEN]:
        yield Params(at, refused[content.OVERWRITTEN], "overwrite")


def _rows(metric: Any, tags: Mapping[str, str]) -> Iterator[Event]:
    kind, rows = metric.properties.ux_metric_type, rows_held(metric)
    if kind == SCALAR:
        shown = _original(metric.name, tags)
        for at, step, data in rows:
            value = data.get(metric.name)
            if isinstance(value, int | float):
                yield Metrics(at, step or 0, {shown: _infinite(metric.name, float(value), tags)})
    elif kind == TABLE and metric.name == MORE:
        for at, step, data in rows:
            name, value = str(data["metric"]), float(data["value"])
            yield Metrics(at, step or 0, {_original(name, tags): _infinite(name, value, tags)})
    elif kind == TABLE and metric.name.endswith(HISTOGRAM):
        yield from _histograms(metric.name.removesuffix(HISTOGRAM), rows)


def _histograms(name: str, rows: list[tuple[float, int | None, Mapping[str, Any]]]) -> Iterator[Histogram]:
    by_moment: dict[tuple[float, int | None], list[Mapping[str, Any]]] = {}
    for at, step, data in rows:
        by_moment.setdefault((at, step), []).append(data)
    for (at, step), bins in by_moment.items():
        ordered = sorted(bins, key=lambda one: float(one["left"]))
        edges = [float(one["left"]) for one in ordered] + [float(ordered[-1]["right"])]
        yield Histogram(at, step, name, [float(one["count"]) for one in ordered], edges)


def _infinite(name: str, value: float, tags: Mapping[str, str]) -> float:
    is_marked = abs(value) == sys.float_info.max and _mark(content.INFINITE, name) in tags
    return math.copysign(math.inf, value) if is_marked else value


def _files(client: Client, container: str) -> Iterator[Event]:
    found = sorted(client.artifacts(container), key=lambda one: _at(one.created_time))
    for one in found:
        if one.path.startswith(azureml_files.SHOWN):
            continue
        held = io.BytesIO()
        known = client.download(container, one.path, held, MAX_INLINE_BYTES)
        if known is None:
            continue  # the path was claimed, and the content never came
        data = held.getvalue() if known.size_bytes <= MAX_INLINE_BYTES else None
        if azureml_logs.span_of(one.path) and data is not None:
            yield from azureml_logs.events_of(data.decode("utf-8", "replace"))
        elif one.path.startswith(azureml_files.DATASETS) and data is not None:
            yield msgspec.json.decode(data, type=Dataset)
        else:
            path, step, _ = azureml_files.logged(one.path)
            role = "image" if known.media_type.startswith("image/") else "file"
            at = _at(one.created_time)
            yield Artifact(at, path, known.size_bytes, role, known.media_type, data=data, step=step)


def _finished(run: Any, tags: Mapping[str, str], traceback: str | None) -> RunFinished | None:
    status = tags.get(content.STATUS) or _STATUS.get(run.status or "")
    if status is None:
        return None
    code, ended = tags.get(content.EXIT_CODE), tags.get(content.ENDED)
    return RunFinished(
        float(ended) if ended else _at(run.end_time_utc),
        status,
        tags.get(content.REASON, ""),
        traceback,
        int(code) if code else None,
        int(tags.get(content.UNRECORDED, "0")),
    )


def _original(name: str, tags: Mapping[str, str]) -> str:
    """Return the name before lowering; a tag knows it where it was too long to be escaped in full."""
    return tags.get(_mark(content.NAME, name)) or unescape_name(name)


def _mark(prefix: str, name: str) -> str:
    return cut_name(prefix + name, content.MAX_NAME)


def _at(moment: Any) -> float:
    return float(moment.timestamp()) if moment is not None else 0.0
