"""Events of a kind that the backend keeps, made to fit its names, lengths, numbers and roles."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from msgspec.structs import replace

from mlobs.backend import Capabilities
from mlobs.delivery.documents import json_file, skipped, takes_documents
from mlobs.delivery.memory import Lowering, Memory
from mlobs.events import Artifact, Event, Metrics, Params, Rewind, RunFinished, Tags, kind_of
from mlobs.moments import date_of
from mlobs.names import cut_name, escape_name
from mlobs.text import json_bytes, param_text, preview

_NAMED_REASONS = 3  # a reason is read by a person, and kept once per wording
_NAME_LENGTH = 80  # characters of a name in a reason
_GRIDS = frozenset(["table", "matrix", "confusion_matrix"])
_RASTER = frozenset(["image/png", "image/jpeg", "image/gif", "image/webp"])  # what every image viewer shows

Texts: TypeAlias = Params | Tags


def fit_metrics(event: Metrics, capabilities: Capabilities, memory: Memory) -> Lowering:
    """Rename what the backend cannot name; stand in for, or leave out, what is not finite."""
    renamed, tags, reasons = _names(event.values, event.at, capabilities, memory)
    values: dict[str, float] = {}
    for name, value in event.values.items():
        there = renamed.get(name, name)
        word = _unkept(value, capabilities)
        if word is None:
            values[there] = value
            continue
        if word == "infinite":
            values[there] = math.copysign(sys.float_info.max, value)
        reasons.append(f"{_quoted(name)} was {word}, which the backend cannot store")
        key = _own_tag(f"mlobs.{word}.", there, capabilities)
        if memory.is_first(key, event.at):
            tags[key] = f"{value!r} at step {event.step}; there may be more"
    if not reasons:
        return Lowering((event,))
    main = (replace(event, values=values),) if values else ()
    return Lowering((*main, *write_tags(event.at, tags, capabilities, memory)), "lowered", _joined(reasons))


def fit_texts(event: Texts, capabilities: Capabilities, memory: Memory) -> Lowering:
    """Rename what the backend cannot name, and show the beginning of what is too long for it."""
    renamed, tags, reasons = _names(event.values, event.at, capabilities, memory)
    values, file = _previews(event, capabilities, memory, reasons)
    if not reasons:
        return Lowering((event,))
    kept = {renamed.get(name, name): value for name, value in values.items()}
    main = (replace(event, values=kept),) if kept else ()
    own = write_tags(event.at, tags, capabilities, memory)
    if any(isinstance(one, Artifact) for one in own) and isinstance(event, Tags):
        file = ()  # of the same name; that of our own tags was written later, and holds these too
    return Lowering((*main, *own, *file), "lowered", _joined(reasons))


def texts_as_file(event: Texts, capabilities: Capabilities, memory: Memory) -> Lowering:
    """Keep params or tags in one JSON file where the backend has no place for them."""
    kind = kind_of(event)
    if not takes_documents(capabilities):
        return skipped(kind)
    full = memory.full[kind]
    full.update(
        {name: value for name, value in event.values.items() if not (_is_void(event) and name in full)}
    )
    file = json_file(event, f"{kind}.json", json_bytes(full), capabilities)
    return Lowering((file,), "lowered", f"the backend keeps no {kind}: they are in {kind}.json")


def fit_artifact(event: Artifact, capabilities: Capabilities, memory: Memory) -> Lowering:  # noqa: ARG001 - a Rule
    """Hand over as an image, a file or a text what the backend cannot show as what it is."""
    roles, role = capabilities.roles, event.role
    is_picture = event.media_type in _RASTER
    # A figure that is no picture is a page with a script: a file, wherever files are kept.
    if role in roles and (role != "figure" or is_picture or "file" in roles):
        return Lowering((event,))
    reason = f"the backend has no artifacts of role {role!r}: "
    if role == "figure" and is_picture and "image" in roles:
        return Lowering((replace(event, role="image"),), "lowered", reason + "it is of role 'image' there")
    if "file" in roles:
        return Lowering((replace(event, role="file"),), "lowered", reason + "it is of role 'file' there")
    if "text" in roles:
        text, words = _as_text(event)
        return Lowering((text,), "lowered", reason + words)
    return Lowering((), "skipped", f"{reason}neither files nor texts; the local store has it")


def _as_text(event: Artifact) -> tuple[Artifact, str]:
    """Describe what is to stand for the artifact as a text: its numbers, or a reference to it."""
    is_table = event.role in _GRIDS and event.media_type == "application/json"
    facts = {"role": event.role, "media_type": event.media_type, "raw": event.raw}
    raw = {"form": "table" if is_table else "reference", **facts}
    words = "its first rows are a text there" if is_table else "its path, size and digest are a text there"
    return replace(event, role="text", media_type="text/markdown", raw=raw), words


def end_as_tags(event: RunFinished, capabilities: Capabilities, memory: Memory) -> Lowering:
    """Write a run's end into tags where the backend has no status."""
    said = {"mlobs.status": event.status, "mlobs.reason": event.reason}
    tags = {_own_tag(name, "", capabilities): text for name, text in said.items() if text}
    events = write_tags(event.at, tags, capabilities, memory)
    if not events:
        return skipped("run_finished")
    return Lowering(events, "lowered", "the backend keeps no status: it is in the tag mlobs.status")


def rewind_as_tag(event: Rewind, capabilities: Capabilities, memory: Memory) -> Lowering:
    """Write into a tag what no longer counts, where the backend cannot take anything back."""
    memory.rewinds[event.at] = _words_about(event)
    tags = {_own_tag("mlobs.rewound", "", capabilities): "; ".join(memory.rewinds.values())}
    events = write_tags(event.at, tags, capabilities, memory)
    if not events:
        return skipped("rewind")
    reason = "the backend takes nothing back: older points of the same steps stay, see the tag mlobs.rewound"
    return Lowering(events, "lowered", reason)


def _words_about(event: Rewind) -> str:
    since = "" if event.since is None else f" or recorded after {_moment(event.since)}"
    return f"of what was there at {_moment(event.at)}, steps from {event.from_step} on{since} no longer count"


def _moment(at: float) -> str:
    return date_of(at).isoformat(sep=" ", timespec="milliseconds")


def write_tags(
    at: float, tags: Mapping[str, str], capabilities: Capabilities, memory: Memory
) -> tuple[Event, ...]:
    """Return tags of mlobs' own, under legal names, in the form that the backend takes; () if in none."""
    if not tags:
        return ()
    event = Tags(at, dict(tags))
    if "tags" not in capabilities.kinds:
        return texts_as_file(event, capabilities, memory).events
    values, file = _previews(event, capabilities, memory, [])
    return (replace(event, values=values), *file) if values else file


def _names(
    names: Iterable[str], at: float, capabilities: Capabilities, memory: Memory
) -> tuple[Mapping[str, str], dict[str, str], list[str]]:
    """Find what names are at the backend, the tags that announce the changed ones, and the reasons."""
    renamed: dict[str, str] = {}
    tags: dict[str, str] = {}
    for name in names:
        if name in memory.fine:
            continue
        there = memory.renamed.get(name) or _legal(name, capabilities)
        if there == name:
            memory.fine.add(name)
            continue
        renamed[name] = memory.renamed[name] = there
        key = _own_tag("mlobs.name.", there, capabilities)
        if memory.is_first(key, at):
            tags[key] = name
    return (
        renamed,
        tags,
        [f"{_quoted(name)} is named {_quoted(there)} there" for name, there in renamed.items()],
    )


def _previews(
    event: Texts, capabilities: Capabilities, memory: Memory, reasons: list[str]
) -> tuple[dict[str, Any], tuple[Artifact, ...]]:
    """Shorten what is too long, leave out what there is no room for; the file holds all values of either.

    It also holds later values of a name that ever was too long.
    """
    kind = kind_of(event)
    limit, most = _room(event, capabilities)
    if limit is None and most is None:
        return event.values, ()
    texts = {name: param_text(value) for name, value in event.values.items()}
    long = {name: text for name, text in texts.items() if limit is not None and len(text) > limit}
    beyond = _beyond(event, most, memory)
    full = memory.full[kind]
    has_file = takes_documents(capabilities) and not _is_void(event)
    listed = [name for name in texts if name in long or name in beyond or name in full] if has_file else []
    known = [name for name in listed if name in full and name not in long and name not in beyond]
    full.update({name: event.values[name] for name in listed})
    where = f"{kind}.json" if has_file else "the local store"
    reasons += [f"a run holds {most} {kind} there: {_quoted(name)} is in {where}" for name in beyond]
    reasons += [
        f"{_quoted(name)} is longer than {limit} characters: all of it is in {where}"
        for name in long
        if name not in beyond
    ]
    reasons += [f"{_quoted(name)} was too long before: {where} says this too" for name in known]
    file = (json_file(event, f"{kind}.json", json_bytes(full), capabilities),) if listed else ()
    short = {name: preview(text, limit or 0, where) for name, text in long.items()}
    return {name: value for name, value in {**event.values, **short}.items() if name not in beyond}, file


def _room(event: Texts, capabilities: Capabilities) -> tuple[int | None, int | None]:
    """The characters of a value, and the number of names in a run."""
    if isinstance(event, Params):
        return capabilities.max_param_length, capabilities.max_params
    return capabilities.max_tag_length, capabilities.max_tags


def _beyond(event: Texts, most: int | None, memory: Memory) -> frozenset[str]:
    """The names that come when a run's room is used up. One that has a place keeps it."""
    if most is None or _is_void(event):
        return frozenset()
    placed = memory.placed[kind_of(event)]
    new = [name for name in event.values if name not in placed]
    placed.update(new[: max(most - len(placed), 0)])
    return frozenset(name for name in event.values if name not in placed)


def _is_void(event: Texts) -> bool:
    """Tell whether earlier values count, so that these must not take their place in a file."""
    return isinstance(event, Params) and event.conflict == "keep_first"


def _legal(name: str, capabilities: Capabilities) -> str:
    return escape_name(
        name,
        capabilities.name_pattern,
        is_path=capabilities.name_is_path,
        max_length=capabilities.max_name_length,
    )


def _own_tag(prefix: str, there: str, capabilities: Capabilities) -> str:
    """Return a legal name for a tag about something whose legal name is `there`, which stays readable."""
    name = escape_name(prefix, capabilities.name_pattern) + there
    longest = capabilities.max_name_length
    return name if longest is None else cut_name(name, longest)


def _unkept(value: float, capabilities: Capabilities) -> str | None:
    """Return the word for a value that the backend cannot store, None if it can."""
    if math.isnan(value):
        return None if capabilities.nan else "nan"
    return None if capabilities.infinities or math.isfinite(value) else "infinite"


def _quoted(name: str) -> str:
    return repr(name) if len(name) <= _NAME_LENGTH else f"{name[:_NAME_LENGTH]!r}…"


def _joined(reasons: list[str]) -> str:
    more = len(reasons) - _NAMED_REASONS
    return "; ".join(reasons[:_NAMED_REASONS]) + (f"; and {more} more" if more > 0 else "")
