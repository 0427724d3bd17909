"""What a batch comes to at MLflow: metric rows, params, tags, files and an end. Pure, no vendor.

MLflow has no place for some facts; they go into tags under `mlobs.`, which `mlflow_source` reads back:

    mlobs.run_id              how a run is found again: MLflow would make a second one
    mlobs.started             RunStarted as JSON, exact; without argv and backends, which may tell too much
    mlobs.job                 the run is an Azure ML job's own, which sets the status itself
    mlobs.attempt             the number of the latest attempt, of a run that was gone on with
    mlobs.rewound             what no longer counts, by lowering: MLflow takes no point back
    mlobs.parent_run_id       the parent, while its MLflow run is not known
    mlobs.status, .reason, .exit_code, .unrecorded     how a run ended, where MLflow's status says too little
    mlobs.param.<name>        the value of a param that was overwritten: MLflow keeps a param's first
    mlobs.param_conflict.<name>   the value that did not count
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from mlobs.backend import Entry
from mlobs.backends.mlflow_files import in_grid
from mlobs.events import Artifact, Dataset, Metrics, Params, RunFinished, RunStarted, Tags, kind_of
from mlobs.names import cut_name
from mlobs.text import param_text

# mlflow/utils/validation.py, 3.1 to 3.18
MAX_METRICS, MAX_PARAMS, MAX_TAGS, MAX_ENTITIES = 1000, 100, 100, 1000
MAX_NAME, MAX_PARAM, MAX_TAG = 250, 6000, 8000
MAX_REQUEST_BYTES = 990_000  # of 1,000,000: the rest is the request's frame
_ROW_BYTES = 130  # a metric row in JSON without its name
_TEXT_ROW_BYTES = 30  # a param or tag without name and value

RUN_ID, STARTED, PARENT_RUN_ID = "mlobs.run_id", "mlobs.started", "mlobs.parent_run_id"
JOB = "mlobs.job"
STATUS, REASON = "mlobs.status", "mlobs.reason"
EXIT_CODE, UNRECORDED = "mlobs.exit_code", "mlobs.unrecorded"
ATTEMPT, REWOUND = "mlobs.attempt", "mlobs.rewound"
END_TAGS = frozenset({STATUS, REASON, EXIT_CODE, UNRECORDED})
OVERWRITTEN, CONFLICT = "mlobs.param.", "mlobs.param_conflict."
# Written by lowering: metrics whose infinities it replaced, and what a name was before it was changed.
INFINITE, NAME = "mlobs.infinite.", "mlobs.name."
TRACEBACK = "mlobs/traceback.txt"
PARENT = "mlflow.parentRunId"

# Name, value, milliseconds, step. NaN stands as None: it does not equal itself, so no set would find it.
Point: TypeAlias = tuple[str, float | None, int, int]
Text: TypeAlias = tuple[str, str]


@dataclass
class Content:
    """A batch in MLflow's terms. `params` and `datasets` also name the entry that brought them."""

    points: dict[Point, None] = field(default_factory=dict)
    params: dict[str, tuple[str, str]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    uploads: list[Entry] = field(default_factory=list)
    datasets: list[tuple[str, Dataset]] = field(default_factory=list)
    reopened: RunStarted | None = None
    end: RunFinished | None = None
    lowered: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)

    def refuse(self, held: Mapping[str, str]) -> bool:
        """Move params that MLflow `held` before, with another value, to tags; tell whether there were any."""
        others = [name for name, (text, _) in self.params.items() if not is_same(held.get(name, text), text)]
        repeated = [name for name, (text, _) in self.params.items() if held.get(name, text) != text]
        for name in others:
            text, key = self.params[name]
            self.set_aside(CONFLICT, name, text, key, f"MLflow already holds {_short(held[name])}")
        for name in repeated:
            del self.params[name]
        return bool(repeated)

    def set_aside(self, prefix: str, name: str, text: str, key: str, why: str) -> None:
        """Put a param's text into a tag, since MLflow cannot change the param."""
        tag = cut_name(prefix + name, MAX_NAME)
        self.tags[tag] = text
        self.lower(
            key, f"param {name!r}: {why} and cannot change it, so {_short(text)} stands in tag {tag!r}"
        )

    def lower(self, key: str, reason: str | None) -> None:
        """Note that the entry `key` is stored in another form, if so; an entry may have several reasons."""
        if reason is None:
            return
        before = self.lowered.get(key)
        self.lowered[key] = f"{before}; {reason}" if before else reason


def translate(entries: Iterable[Entry]) -> Content:  # noqa: C901 - a line for each kind
    """Gather what the entries come to; of a tag and of an end, the last counts."""
    content = Content()
    for entry in entries:
        match entry.event:
            case Metrics() as event:
                _add_metrics(content, entry.key, event)
            case Params() as event:
                _add_params(content, entry.key, event)
            case Tags(values=values):
                content.tags.update(values)
            case Artifact() as event:
                content.uploads.append(entry)
                if event.step is not None and not in_grid(event):
                    content.lower(entry.key, "the step stands in the file's name there")
                _note_labels(content, entry.key, event)
            case Dataset() as event:
                content.datasets.append((entry.key, event))
            case RunStarted() as event:
                content.end = None
                content.reopened = event if event.attempt > 1 else None
            case RunFinished() as event:
                content.end = event
            case event:
                content.rejected[entry.key] = f"MLflow takes no {kind_of(event)!r} events"
    if content.end is not None:
        content.tags.update(end_tags(content.end))
    return content


def _add_metrics(content: Content, key: str, event: Metrics) -> None:
    points, at, step = content.points, milliseconds(event.at), event.step
    is_merged = False
    for name, value in event.values.items():
        point = (name, value if value == value else None, at, step)  # noqa: PLR0124 - NaN alone differs
        if point in points:
            is_merged = True
        else:
            points[point] = None
    if is_merged:
        content.lower(key, "merged: the same step and value within one millisecond are one point there")
    _note_labels(content, key, event)


def _note_labels(content: Content, key: str, event: Metrics | Artifact) -> None:
    if event.meta:
        content.lower(key, "MLflow has no place for its labels (meta)")


def _add_params(content: Content, key: str, event: Params) -> None:
    for name, value in event.values.items():
        text = param_text(value)
        if event.conflict == "overwrite":
            content.set_aside(OVERWRITTEN, name, text, key, "MLflow keeps the first value")
        elif event.conflict == "keep_first" or content.params.get(name, (text,))[0] != text:
            content.set_aside(CONFLICT, name, text, key, "MLflow keeps the first value")
        else:
            content.params.setdefault(name, (text, key))


def start_tags(run: RunStarted, parent_ref: str | None) -> dict[str, str]:
    """Return the tags that a run is made with."""
    tags = {RUN_ID: run.run_id, STARTED: started_text(run)}
    if run.argv and run.argv[0]:
        tags["mlflow.source.name"] = run.argv[0][:MAX_TAG]
        tags["mlflow.source.type"] = "LOCAL"
    if parent_ref is not None:
        tags[PARENT] = parent_ref
    elif run.parent_run_id is not None:
        tags[PARENT_RUN_ID] = run.parent_run_id
    return tags


def started_text(run: RunStarted) -> str:
    """Return the text of the tag `mlobs.started`."""
    return msgspec.json.encode(msgspec.structs.replace(run, argv=(), backends=())).decode()


def end_tags(end: RunFinished) -> dict[str, str]:
    """Return the tags of an end that MLflow's status does not tell whole."""
    tags: dict[str, str] = {}
    if end.status != "FINISHED":
        tags[STATUS] = end.status
        tags[REASON] = end.reason[:MAX_TAG]
    if end.exit_code is not None:
        tags[EXIT_CODE] = str(end.exit_code)
    if end.unrecorded:
        tags[UNRECORDED] = str(end.unrecorded)
    return tags


def final_status(end: RunFinished) -> Literal["FINISHED", "FAILED", "KILLED"]:
    """Return MLflow's word for the end: it has none for a crash, and the end of a run is not RUNNING."""
    match end.status:
        case "FINISHED" | "KILLED":
            return end.status
        case _:
            return "FAILED"


def milliseconds(at: float) -> int:
    """Return Unix milliseconds, MLflow's unit, rounded: 1.001 s is 1000.9999 ms in binary."""
    return round(at * 1000)


def is_same(one: str, other: str) -> bool:
    """Tell whether two texts of params are one value, as 7 and 7.0 are."""
    if one == other:
        return True
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def requests(
    points: Collection[Point], params: Mapping[str, str], tags: Mapping[str, str]
) -> Iterator[tuple[Sequence[Point], list[Text], list[Text]]]:
    """Split what is to be stored into few requests within MLflow's limits; params and tags come first."""
    rows = list(points)
    row_bytes = _ROW_BYTES + max((_json_bytes(name) for name in {point[0] for point in rows}), default=0)
    for texts, size in _packed(params, tags):
        # What is left of a request's room goes to the points: a small batch is one request.
        room = min((MAX_REQUEST_BYTES - size) // row_bytes, MAX_ENTITIES - len(texts[0]) - len(texts[1]))
        yield rows[:room], *texts
        del rows[:room]
    at_once = min(MAX_METRICS, MAX_REQUEST_BYTES // row_bytes)
    for first in range(0, len(rows), at_once):
        yield rows[first : first + at_once], [], []


def _packed(
    params: Mapping[str, str], tags: Mapping[str, str]
) -> Iterator[tuple[tuple[list[Text], list[Text]], int]]:
    """Fill requests with params, then tags; yield each with its size in bytes."""
    rows: tuple[list[Text], list[Text]] = ([], [])
    size = 0
    for kind, limit, texts in ((0, MAX_PARAMS, params), (1, MAX_TAGS, tags)):
        for text in texts.items():
            text_bytes = _TEXT_ROW_BYTES + _json_bytes(text[0]) + _json_bytes(text[1])
            if len(rows[kind]) == limit or (size and size + text_bytes > MAX_REQUEST_BYTES):
                yield rows, size
                rows, size = ([], []), 0
            rows[kind].append(text)
            size += text_bytes
    if size:
        yield rows, size


def _json_bytes(text: str) -> int:
    return len(json.dumps(text))


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:59]}…")  # noqa: PLR2004 - a reason is one line
