"""A run's params and tags as TensorBoard keeps them: the HParams dashboard's session, and text tables.

TensorBoard believes the first HParams entry of a folder for ever, so params that come later need
a small file of their own that is replaced as a whole. It also carries the values with their exact
types (a MessagePack map that no dashboard shows), so that the next batch can go on from it.
"""

# protobuf makes its classes at run time: pyright cannot know them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from mlobs.events import Event, Params, Tags

OWN_PLUGIN = "mlobs"  # no dashboard of that name exists, so TensorBoard shows nothing of it
FACTS_TAG = "_mlobs_/facts"
EXACT_FLOAT = 2**53  # the integers up to here are exact as 64-bit floats, TensorBoard's only number
VALUE_KINDS: dict[type, str] = {bool: "bool_value", float: "number_value", str: "string_value"}
MAX_CELL = 2_000  # characters of a value in a table; the browser draws the table as a whole


@dataclass(frozen=True)
class Facts:
    """The params and tags that count now, and when the last of them came (Unix seconds)."""

    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    at: float = 0.0


def fold(facts: Facts, events: Iterable[Event]) -> Facts:
    """Return the facts after `events`; folding the same events in once more changes nothing."""
    params, tags, at = dict(facts.params), dict(facts.tags), facts.at
    for event in events:
        match event:
            case Params(values=values, conflict=conflict):
                counts = {n: v for n, v in values.items() if n not in params or conflict == "overwrite"}
                params |= counts
                at = event.at
            case Tags(values=values):
                tags |= values
                at = event.at
            case _:
                continue
    return Facts(params, tags, at)


def to_event(facts: Facts, started_at: float) -> Any:
    """Build the one Event of the facts' file: HParams' session start, and the exact values."""
    event = event_pb2.Event(wall_time=facts.at)
    if facts.params:
        event.summary.value.append(hparams_start(facts.params, started_at))
    exact = msgspec.msgpack.encode([facts.params, facts.tags, facts.at])
    event.summary.value.append(own_value(FACTS_TAG, exact))
    return event


def from_events(events: Iterable[Any]) -> tuple[Facts, dict[str, bool | float | str]]:
    """Read `to_event` back: the exact values, and the params as the HParams dashboard holds them."""
    facts, held = Facts(), {}
    for event in events:
        for value in event.summary.value:
            if value.tag == FACTS_TAG:
                facts = Facts(*msgspec.msgpack.decode(value.tensor.string_val[0]))
            elif value.tag == metadata.SESSION_START_INFO_TAG:
                content = value.metadata.plugin_data.content
                start = metadata.parse_session_start_info_plugin_data(content)
                held = {name: getattr(v, v.WhichOneof("kind")) for name, v in start.hparams.items()}
    return facts, held


def hparam_of(value: Any) -> bool | float | str:
    """Return the value as the HParams dashboard can hold it: a bool, a finite number, or text.

    NaN and infinities become text, because the dashboard's own server cannot answer with them.
    """
    match value:
        case bool() | str():
            return value
        case int() if abs(value) <= EXACT_FLOAT:
            return float(value)
        case float() if math.isfinite(value):
            return value
        case _:
            return str(value)


def hparams_start(params: Mapping[str, Any], started_at: float) -> Any:
    """Build the summary value that puts the run into the HParams dashboard."""
    start = plugin_data_pb2.SessionStartInfo(start_time_secs=started_at)
    for name, value in params.items():
        held = hparam_of(value)
        setattr(start.hparams[name], VALUE_KINDS[type(held)], held)
    return _hparams_value(
        metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=start)
    )


def hparams_end(status: Any, ended_at: float) -> Any:
    """Build the summary value that ends the run in the HParams dashboard, with its `api_pb2.Status`."""
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=ended_at)
    return _hparams_value(
        metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=end)
    )


def own_value(tag: str, content: bytes) -> Any:
    """Build a summary value that only mlobs reads."""
    own = summary_pb2.SummaryMetadata.PluginData(plugin_name=OWN_PLUGIN)
    return summary_pb2.Summary.Value(
        tag=tag,
        metadata=summary_pb2.SummaryMetadata(plugin_data=own),
        tensor=tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[content]),
    )


def markdown_table(head: tuple[str, str], rows: Mapping[str, Any]) -> str:
    """Draw a table whose cells show their text literally; a long cell is cut and says so."""
    lines = [f"| {head[0]} | {head[1]} |", "| --- | --- |"]
    lines += [f"| {_cell(str(name))} | {_cell(str(value))} |" for name, value in rows.items()]
    return "\n".join(lines)


def code_span(text: str) -> str:
    """Quote text for markdown, whatever backticks it holds."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if len(ticks) > 1 else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _cell(text: str) -> str:
    if len(text) > MAX_CELL:
        text = f"{text[:MAX_CELL]}... ({len(text)} characters)"
    line = " ".join(text.splitlines())
    return code_span(line) if line.strip() else ""


def _hparams_value(tag: str, data: Any) -> Any:
    return summary_pb2.Summary.Value(
        tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR
    )
