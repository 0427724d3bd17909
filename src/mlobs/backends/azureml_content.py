"""What a batch comes to at Azure ML: rows, params, tags, files, logs and an end. Pure, no vendor.

Azure ML has no place for some facts; they go into properties and tags, which `azureml_source` reads back:

    property mlobs.run_id       whose run it is; a property is written once, so two runs cannot both claim it
    property mlobs.job          the run is a job's own: Azure ML sets its status, whoever delivers to it
    property mlobs.started      RunStarted as JSON, exact; without argv and backends, which may tell too much
    property param.<name>       a param: written once, as a param is
    tag mlobs.attempt           the number of the latest attempt, of a run that was gone on with
    tag mlobs.parent_run_id     the parent, if its run is not known here
    tag mlobs.status, .reason, .exit_code, .unrecorded, .ended
                                how a run ended; in a job Azure ML sets the status itself
    tag mlobs.param.<name>      the value of a param that was overwritten
    tag mlobs.param_conflict.<name>   the value that did not count
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from mlobs.backend import Entry
from mlobs.events import (
    Artifact,
    Dataset,
    Histogram,
    Log,
    Metrics,
    Params,
    RunFinished,
    RunStarted,
    Tags,
    kind_of,
)
from mlobs.names import cut_name
from mlobs.text import param_text

MAX_NAME = 90  # of a user's name: a tag's or property's has 100 characters, and ours put a word in front
MAX_TAGS, MAX_TAG_NAME, MAX_TEXT = 50, 100, 1000  # of a run; of tags and properties
MAX_MESSAGE = 3000  # of an error
RUN_ID, STARTED, JOB = "mlobs.run_id", "mlobs.started", "mlobs.job"
PARAM, OVERWRITTEN, CONFLICT = "param.", "mlobs.param.", "mlobs.param_conflict."
STATUS, REASON, EXIT_CODE = "mlobs.status", "mlobs.reason", "mlobs.exit_code"
UNRECORDED, ENDED = "mlobs.unrecorded", "mlobs.ended"
ATTEMPT, PARENT_RUN_ID = "mlobs.attempt", "mlobs.parent_run_id"
END_TAGS = frozenset({STATUS, REASON, EXIT_CODE, UNRECORDED, ENDED})
INFINITE, NAN, NAME, REWOUND = "mlobs.infinite.", "mlobs.nan.", "mlobs.name.", "mlobs.rewound"  # by lowering
DATASET = "mlobs.dataset."
END_ROOM = len(END_TAGS) + 1  # tags that are kept free for the end and the attempt
MAX_OWN_TAGS = 12  # those above that are not about one name, and some datasets


@dataclass
class Content:
    """A batch, sorted by where it goes."""

    metrics: list[tuple[str, Metrics]] = field(default_factory=list)
    histograms: list[tuple[str, Histogram]] = field(default_factory=list)
    params: list[tuple[str, Params]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    files: list[Entry] = field(default_factory=list)
    datasets: list[tuple[str, Dataset]] = field(default_factory=list)
    logs: list[tuple[str, Log]] = field(default_factory=list)
    reopened: RunStarted | None = None
    end: RunFinished | None = None
    rejected: dict[str, str] = field(default_factory=dict)
    labelled: list[str] = field(default_factory=list)  # keys of events with `meta`, which has no place there


def translate(entries: Iterable[Entry]) -> Content:  # noqa: C901 - a line for each kind
    """Sort the entries; of a tag and of an end, the last counts."""
    content = Content()
    for key, event in ((entry.key, entry.event) for entry in entries):
        if isinstance(event, Metrics | Histogram | Artifact | Log) and event.meta:
            content.labelled.append(key)
        match event:
            case Metrics():
                content.metrics.append((key, event))
            case Histogram():
                content.histograms.append((key, event))
            case Params():
                content.params.append((key, event))
            case Tags(values=values):
                content.tags.update(values)
            case Artifact():
                content.files.append(Entry(key, event))
            case Dataset():
                content.datasets.append((key, event))
            case Log():
                content.logs.append((key, event))
            case RunStarted():
                content.end = None
                content.reopened = event if event.attempt > 1 else None
            case RunFinished():
                content.end = event
            case _:
                content.rejected[key] = f"Azure ML takes no {kind_of(event)!r} events"
    return content


def place_params(
    events: Iterable[tuple[str, Params]], held: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return new properties, tags for values that a property cannot change to, and the reasons by key.

    `held` are the run's properties: a param that was written keeps its value.
    """
    properties: dict[str, str] = {}
    tags: dict[str, str] = {}
    lowered: dict[str, str] = {}
    for key, event in events:
        for name, value in event.values.items():
            there, text = PARAM + name, param_text(value)
            before = held.get(there, properties.get(there))
            if before is None and event.conflict is None:
                properties[there] = text
            elif event.conflict is not None or not is_same(str(before), text):
                prefix = OVERWRITTEN if event.conflict == "overwrite" else CONFLICT
                tag = cut_name(prefix + name, MAX_TAG_NAME)
                tags[tag] = text
                reason = f"param {name!r} keeps its first value there: another stands in tag {tag!r}"
                lowered[key] = f"{lowered[key]}; {reason}" if key in lowered else reason
    return properties, tags, lowered


def is_same(one: str, other: str) -> bool:
    """Tell whether two texts of params are one value, as 7 and 7.0 are."""
    if one == other:
        return True
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def start_properties(run: RunStarted) -> dict[str, str]:
    """Return the properties that a run is made with."""
    exact = msgspec.json.encode(msgspec.structs.replace(run, argv=(), backends=())).decode()
    return {RUN_ID: run.run_id, **({STARTED: exact} if len(exact) <= MAX_TEXT else {})}


def end_tags(end: RunFinished) -> dict[str, str]:
    """Return the tags of an end: whole, since Azure ML knows no crash, and sets a job's status itself."""
    tags = {STATUS: end.status, ENDED: repr(end.at)}
    if end.reason:
        tags[REASON] = end.reason[:MAX_TEXT]
    if end.exit_code is not None:
        tags[EXIT_CODE] = str(end.exit_code)
    if end.unrecorded:
        tags[UNRECORDED] = str(end.unrecorded)
    return tags


def dataset_tag(event: Dataset) -> tuple[str, str]:
    """Return the tag that shows a dataset's version and fingerprint to a person."""
    facts = (event.version, event.context, f"{event.strength} {event.fingerprint}")
    return cut_name(DATASET + event.name, MAX_TAG_NAME), ", ".join(one for one in facts if one)[:MAX_TEXT]
